//! The same lobby in the terminal, by lines on stdin and stdout.

use std::{
    io::{IsTerminal, stdin, stdout},
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

use bevy::{
    app::{ScheduleRunnerPlugin, TerminalCtrlCHandlerPlugin},
    log::{Level, LogPlugin},
    prelude::*,
    state::app::StatesPlugin,
};
use clap::ValueEnum;

use crate::{
    args::{Cli, HostArgs, JoinArgs, Weather},
    autopilot,
    game::LobbySystems,
    intent::Intent,
    nearby::Nearby,
    qr::QrCode,
    table::{News, Page, Table},
    words::Way,
};

const HELP: &str = "\
/host [CODE]     open a lobby             /ready, /unready   say that you are ready, or not
/join CODE       join one                 /start, /end       a round (the host)
/games           those on this network    /enter N [PASSWORD]  join the one with this number
/players         who is here              /kick NAME         remove a player (the host)
/link            the link as a QR code    /quit              end the program
/leave           back to the start        /network HOW       real, home-wifi, mobile, or terrible
Anything else is said to the others. In a round your figure chases the spark by itself.";

/// Runs the lobby in the terminal until `/quit`.
pub fn run(cli: Cli) -> AppExit {
    let mut app = App::new();
    app.add_plugins((
        MinimalPlugins.set(ScheduleRunnerPlugin::run_loop(Duration::from_secs_f64(1.0 / 60.0))),
        // The news are printed here; warnings are worth seeing as well.
        LogPlugin { level: Level::WARN, filter: crate::LOG_FILTER.into(), ..default() },
        StatesPlugin,
        TerminalCtrlCHandlerPlugin,
        autopilot::plugin,
    ));
    super::add_lobby(&mut app, &cli);
    println!("{HELP}");
    app.insert_resource(Lines::new())
        .add_systems(
            Update,
            (
                read_lines.before(LobbySystems),
                print_news.after(LobbySystems),
                print_new_games.run_if(in_state(Page::Start)),
            ),
        )
        .run()
}

/// Lines from stdin, read on a thread of their own because reading waits.
#[derive(Resource)]
struct Lines(Mutex<mpsc::Receiver<String>>);

impl Lines {
    fn new() -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in stdin().lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Lines(Mutex::new(receiver))
    }
}

fn read_lines(
    lines: Res<Lines>,
    table: Res<Table>,
    nearby: Res<Nearby>,
    page: Res<State<Page>>,
    mut intents: MessageWriter<Intent>,
    mut exit: MessageWriter<AppExit>,
) -> Result {
    let lines = lines.0.lock().map_err(|_| "the thread that reads stdin is gone")?;
    loop {
        match lines.try_recv() {
            Ok(line) => read_line(line.trim(), &table, &nearby, &mut intents, &mut exit),
            Err(mpsc::TryRecvError::Empty) => return Ok(()),
            // Nobody can type any more. Without a terminal nobody ever could: the lobby goes on until it ends.
            Err(mpsc::TryRecvError::Disconnected) => {
                if stdin().is_terminal() {
                    exit.write(AppExit::Success);
                } else if *page.get() == Page::Start && table.notice.is_some() {
                    exit.write(AppExit::error());
                }
                return Ok(());
            }
        }
    }
}

fn read_line(
    line: &str,
    table: &Table,
    nearby: &Nearby,
    intents: &mut MessageWriter<Intent>,
    exit: &mut MessageWriter<AppExit>,
) {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    let intent = match (command, rest.trim()) {
        ("", _) => return,
        ("/host", id) => Intent::Host(HostArgs { id: (!id.is_empty()).then(|| id.to_owned()), ..HostArgs::ordinary() }),
        ("/join", code) => Intent::Join(JoinArgs::ordinary(code)),
        ("/games", _) => return print_games(nearby),
        ("/enter", which) => {
            let (number, password) = which.split_once(' ').unwrap_or((which, ""));
            let game = number.parse::<usize>().ok().and_then(|number| nearby.0.get(number.checked_sub(1)?));
            let Some(game) = game else { return println!("There is no game {number} here: /games lists them.") };
            let password = (!password.is_empty()).then(|| password.trim().to_owned());
            Intent::Join(JoinArgs { password, ..JoinArgs::ordinary(&game.link) })
        }
        ("/ready", _) => Intent::Ready(true),
        ("/unready", _) => Intent::Ready(false),
        ("/start", _) => Intent::StartRound,
        ("/end", _) => Intent::FinishRound,
        ("/leave", _) => Intent::Leave,
        ("/kick", name) => match table.players.iter().find(|p| p.name == name) {
            Some(player) => Intent::Kick(player.id),
            None => return println!("There is no {name} here."),
        },
        ("/network", how) => match Weather::from_str(how, true) {
            Ok(weather) => Intent::Network(weather.into()),
            Err(_) => return println!("{HELP}"),
        },
        ("/players", _) => return print_players(table),
        ("/link", _) if table.me.is_some() => return print_link(table),
        ("/quit", _) => {
            exit.write(AppExit::Success);
            return;
        }
        (command, _) if command.starts_with('/') => return println!("{HELP}"),
        _ => Intent::Say(line.to_owned()),
    };
    if table.me.is_none() && !matches!(intent, Intent::Host(_) | Intent::Join(_) | Intent::Leave) {
        return println!("You are in no lobby yet.");
    }
    intents.write(intent);
}

fn print_players(table: &Table) {
    for player in &table.players {
        let link = &player.connection;
        let way = match link.way {
            Way::Host => "the host",
            Way::Relay => "over the relay",
            Way::Direct => "direct",
        };
        let ping = link.ping.map(|ms| format!(", {ms} ms")).unwrap_or_default();
        let rate = if link.way == Way::Host { String::new() } else { format!(", {}", link.flow()) };
        let lost = link.lost.filter(|lost| *lost > 0).map(|lost| format!(", {lost} lost/s")).unwrap_or_default();
        let seal = table.seal(player).map(|seal| format!(", {}", seal.words())).unwrap_or_default();
        let ready = if player.ready { "ready" } else { "not ready" };
        println!("{:16} {way}{ping}{seal}{rate}{lost}, {ready}", player.name);
    }
    println!("{} of {}", table.players.len(), table.max);
}

fn print_games(nearby: &Nearby) {
    if nearby.0.is_empty() {
        println!("No games on this network yet.");
    }
    for (index, game) in nearby.0.iter().enumerate() {
        let locked = if game.locked { ", with a password" } else { "" };
        println!("{}  {}: {} of {} players{locked}", index + 1, game.name, game.players, game.max);
    }
}

/// Says which games there are whenever one is new, but not each time a player joins one.
fn print_new_games(nearby: Res<Nearby>, mut known: Local<Vec<String>>) {
    if !nearby.is_changed() {
        return;
    }
    let links = nearby.0.iter().map(|game| game.link.clone()).collect();
    let before = std::mem::replace(&mut *known, links);
    if known.iter().any(|link| !before.contains(link)) {
        println!("On this network (/enter N joins):");
        print_games(&nearby);
    }
}

fn print_link(table: &Table) {
    let Some(code) = QrCode::of_link(&table.link) else { return println!("{}", table.link) };
    for line in code.half_blocks() {
        // Black on white whatever the colours of the terminal are: cameras want it so.
        if stdout().is_terminal() {
            println!("\x1b[38;5;16;48;5;231m{line}\x1b[0m");
        } else {
            println!("{line}");
        }
    }
    println!("Scan it with a phone, or open {}", table.link);
}

fn print_news(mut news: MessageReader<News>, table: Res<Table>) {
    for news in news.read() {
        println!("{news}");
        // Players who came by the link have it already.
        if matches!(news, News::Entered { .. }) && table.is_host() {
            print_link(&table);
        }
    }
}
