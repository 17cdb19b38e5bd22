//! What the command line can ask for.

use std::{path::PathBuf, time::Duration};

use bevy::prelude::*;
use bevy_uhst::prelude::NetworkConditions;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::table::News;

/// A lobby: one player hosts, the others join with a code or a link. No server.
#[derive(Parser)]
#[command(name = "lobby")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub view: View,
}

/// Options that concern how the lobby is shown, not what it does.
#[derive(Args, Resource, Clone, Default)]
pub struct View {
    /// Stay in the terminal, even where there is a screen
    #[arg(long, global = true)]
    pub terminal: bool,
    /// Save a picture of the window here when the lobby is full; with --autoplay, in the round
    #[arg(long, global = true, value_name = "FILE")]
    pub screenshot: Option<PathBuf>,
    /// Save a picture of the start page here when it lists two games, and leave
    #[arg(long, global = true, value_name = "FILE")]
    pub screenshot_games: Option<PathBuf>,
    /// Announce and find games on this machine alone
    #[arg(long, global = true)]
    pub this_machine: bool,
    /// Leave a few seconds after the lobby became full; with --autoplay, in the middle of the round
    #[arg(long, global = true)]
    pub exit_when_full: bool,
    /// Play by itself: get ready when the lobby is full, start the round, chase the spark
    #[arg(long, global = true)]
    pub autoplay: bool,
    /// Show what the network does from the start, not only when F3 is pressed
    #[cfg(feature = "overlay")]
    #[arg(long, global = true)]
    pub overlay: bool,
    /// Make the network worse than it is
    #[arg(long, global = true, value_enum, default_value_t)]
    pub network: Weather,
}

impl View {
    /// How long after which news the picture is taken: when everyone is drawn, and there are numbers to show.
    pub fn picture(&self, news: &News) -> Option<Timer> {
        let seconds = match news {
            News::Full { .. } if !self.autoplay => 4.0,
            News::RoundStarted if self.autoplay => 12.0,
            _ => return None,
        };
        Some(Timer::from_seconds(seconds, TimerMode::Once))
    }

    /// The same for leaving: the picture is saved by then.
    pub fn exit(&self, news: &News) -> Option<Timer> {
        let mut timer = self.picture(news).filter(|_| self.exit_when_full)?;
        timer.set_duration(timer.duration() + Duration::from_secs(5));
        Some(timer)
    }
}

/// How bad the network is.
#[derive(Clone, Copy, Debug, Default, PartialEq, ValueEnum)]
pub enum Weather {
    /// As it really is
    #[default]
    Real,
    HomeWifi,
    Mobile,
    Terrible,
}

impl From<Weather> for NetworkConditions {
    fn from(weather: Weather) -> Self {
        match weather {
            Weather::Real => NetworkConditions::PERFECT,
            Weather::HomeWifi => NetworkConditions::HOME_WIFI,
            Weather::Mobile => NetworkConditions::MOBILE,
            Weather::Terrible => NetworkConditions::TERRIBLE,
        }
    }
}

#[derive(Subcommand, Clone)]
pub enum Command {
    /// Open a lobby
    Host(HostArgs),
    /// Join a lobby
    Join(JoinArgs),
    /// One host and three players in this process: join, chat, play a round, leave
    Demo,
}

#[derive(Args, Clone, Debug, PartialEq)]
pub struct HostArgs {
    /// The join code; nine digits are picked without it
    #[arg(long)]
    pub id: Option<String>,
    /// The name others see
    #[arg(long, default_value = "Host")]
    pub name: String,
    /// How many players fit in, the host included
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..=8))]
    pub max_players: u16,
    /// How long a round lasts, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..))]
    pub round_seconds: u16,
    /// Players need this to join
    #[arg(long)]
    pub password: Option<String>,
    /// Host through this relay instead of one inside this game
    #[arg(long, value_name = "URL", conflicts_with = "port")]
    pub relay: Option<String>,
    /// The port of the relay inside this game; 3000 or the next free one without it
    #[arg(long)]
    pub port: Option<u16>,
    /// The folder of this game's web build, which browsers get that open the link: `.ci/web-build DIR` makes it
    #[arg(long, value_name = "DIR", conflicts_with = "relay")]
    pub web: Option<PathBuf>,
}

#[derive(Args, Clone, Debug, PartialEq)]
pub struct JoinArgs {
    /// The code or the link that the host shows
    #[arg(value_name = "CODE-OR-LINK")]
    pub code: String,
    /// The name others see
    #[arg(long, default_value = "Player")]
    pub name: String,
    /// The host's password, if there is one
    #[arg(long)]
    pub password: Option<String>,
    /// The relay to look for a bare code on
    #[arg(long, value_name = "URL")]
    pub relay: Option<String>,
}

impl HostArgs {
    /// What `lobby host` means without options.
    pub fn ordinary() -> Self {
        HostArgs {
            id: None,
            name: "Host".to_owned(),
            max_players: 4,
            round_seconds: 60,
            password: None,
            relay: None,
            port: None,
            web: None,
        }
    }
}

#[cfg(not(target_family = "wasm"))]
impl JoinArgs {
    /// What `lobby join CODE` means without options.
    pub fn ordinary(code: &str) -> Self {
        JoinArgs { code: code.to_owned(), name: "Player".to_owned(), password: None, relay: None }
    }
}
