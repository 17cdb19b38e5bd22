//! The lobby's typed messages. They travel as JSON text, so that anything that speaks UHST can take part, a phone or a
//! browser too: `{"FromPlayer":{"word":"chat","text":"hello"}}`.

use bevy::app::App;
use bevy_uhst::prelude::*;
use serde::{Deserialize, Serialize};

/// Given out by the host, never twice in a session.
pub type PlayerId = u32;

/// The id of the player at the host's machine.
pub const HOST: PlayerId = 0;

/// How a player's messages reach the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// This player is at the host's machine.
    Host,
    Relay,
    Direct,
}

/// What protects the words between a player and the host, as one of the two sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seal {
    /// Whoever runs the relay could read along.
    Open,
    Sealed,
    /// Sealed, and certainly with this player.
    Verified,
}

impl Seal {
    pub fn of(peer: &UhstPeer) -> Self {
        match peer.security() {
            UhstSecurity::Plain => Seal::Open,
            UhstSecurity::Sealed => Seal::Sealed,
            UhstSecurity::Authenticated => Seal::Verified,
        }
    }

    /// The words of a row. The phone page has the same.
    pub fn words(self) -> &'static str {
        match self {
            Seal::Open => "not sealed",
            Seal::Sealed => "sealed",
            Seal::Verified => "verified",
        }
    }
}

/// How well the host reaches a player.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    pub way: Way,
    /// Round trip to the host in milliseconds, once it is known.
    pub ping: Option<u32>,
    /// Bytes per second, both ways together.
    pub rate: u32,
    /// For how many seconds the host has missed this player, if it does.
    #[serde(default)]
    pub away: Option<u32>,
    /// Unknown in the first moment.
    #[serde(default)]
    pub seal: Option<Seal>,
    /// What the host had to send again or drop, per second. None where the player's program does not tell.
    pub lost: Option<u32>,
}

impl Connection {
    /// One of which nothing is known yet.
    pub fn new(way: Way) -> Self {
        Connection { way, ping: None, rate: 0, away: None, seal: None, lost: None }
    }

    /// Bytes per second, for the eye.
    pub fn flow(&self) -> String {
        match self.rate {
            rate @ ..1000 => format!("{rate} B/s"),
            rate => format!("{:.1} kB/s", rate as f32 / 1000.0),
        }
    }
}

/// One line of the roster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Player {
    pub id: PlayerId,
    pub name: String,
    /// Which of the eight colours.
    pub colour: usize,
    pub ready: bool,
    pub score: u32,
    #[serde(flatten)]
    pub connection: Connection,
}

/// What players say to the host, reliably.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "snake_case")]
pub enum FromPlayer {
    /// The first word after joining.
    Hello {
        name: String,
        /// What a page without an identity has made up, to be known again when it comes back.
        #[serde(default)]
        ticket: Option<String>,
    },
    Ready {
        ready: bool,
    },
    Chat {
        text: String,
    },
}

/// Where a player's figure is now. Worthless once there is a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    pub x: f32,
    pub y: f32,
}

/// What the host says to everyone, reliably; `Welcome` to one player alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "snake_case")]
pub enum FromHost {
    Welcome {
        you: PlayerId,
        code: String,
        link: String,
    },
    Roster {
        players: Vec<Player>,
        max: usize,
    },
    /// A player is gone, and how.
    Gone {
        id: PlayerId,
        how: String,
    },
    Chat {
        from: PlayerId,
        text: String,
    },
    /// A round begins, or goes on for someone who came late.
    Start {
        seconds: f32,
    },
    /// A spark lies here, because somebody caught the last one.
    Spark {
        x: f32,
        y: f32,
        caught_by: Option<PlayerId>,
    },
    /// The round is over. The best score wins, a shared one does not.
    Finish {
        winner: Option<PlayerId>,
    },
}

/// Where every figure is. Worthless once there is a newer one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Positions {
    /// Id, x, y.
    pub figures: Vec<(PlayerId, f32, f32)>,
}

/// Registers what is said, each on the channel with the promise it needs.
pub fn register(app: &mut App) {
    app.add_uhst_message_json::<FromPlayer>(UhstChannel::Reliable)
        .add_uhst_message_json::<FromHost>(UhstChannel::Reliable)
        .add_uhst_message_json::<Position>(UhstChannel::UnreliableSequenced)
        .add_uhst_message_json::<Positions>(UhstChannel::UnreliableSequenced);
}
