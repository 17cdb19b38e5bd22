//! One host and three players in one process, over a real relay on this machine: a tour of the lobby that says what
//! it does, and fails if a step does not happen.

use std::{
    thread,
    time::{Duration, Instant},
};

use bevy::{
    log::{Level, LogPlugin},
    prelude::*,
    state::app::StatesPlugin,
};
use bevy_uhst::prelude::{UhstIdentity, UhstPlugin};

use crate::{
    args::{HostArgs, JoinArgs},
    autopilot, game,
    intent::Intent,
    rules,
    table::{Page, Table},
};

/// How long a step may take. Each takes well under a second where there is a processor to spare.
const PATIENCE: Duration = Duration::from_secs(30);

const PASSWORD: &str = "sesame";
const HOST: usize = 0;
const ADA: usize = 1;
const BEN: usize = 2;
const CLEO: usize = 3;
/// Not one of the four.
const STRANGER: usize = 4;
const FOUR: [usize; 4] = [HOST, ADA, BEN, CLEO];

pub fn run() -> AppExit {
    match play() {
        Ok(()) => {
            println!("Every step happened.");
            AppExit::Success
        }
        Err(failure) => {
            eprintln!("The demo failed: {failure}");
            AppExit::error()
        }
    }
}

fn play() -> Result<(), String> {
    let mut stage = Stage::new();
    gather(&mut stage)?;
    chat(&mut stage)?;
    play_a_round(&mut stage)?;
    part(&mut stage)
}

/// Mira hosts, and three players join. A stranger is turned away twice.
fn gather(stage: &mut Stage) -> Result<(), String> {
    stage.wants(
        HOST,
        Intent::Host(HostArgs {
            name: "Mira".to_owned(),
            password: Some(PASSWORD.to_owned()),
            // Any free port: the demo must not depend on 3000.
            port: Some(0),
            ..HostArgs::ordinary()
        }),
    );
    stage.until("Mira opens a lobby", |s| s.page(HOST) == Page::Lobby)?;
    let (code, link) = (stage.table(HOST).code.clone(), stage.table(HOST).link.clone());
    println!("         code {code}, link {link}");

    stage.joins(STRANGER, "Stranger", &link, "open up");
    stage.until("a stranger with a wrong password is turned away", |s| s.was_told(STRANGER, "not the password"))?;

    for (app, name) in [(ADA, "Ada"), (BEN, "Ben"), (CLEO, "Cleo")] {
        stage.joins(app, name, &link, PASSWORD);
        stage.until(&format!("{name} joins"), |s| {
            let everyone = app + 1;
            FOUR.iter().take(everyone).all(|i| s.table(*i).players.len() == everyone)
        })?;
    }
    stage.until("the lobby is full, and all four know it", |s| FOUR.iter().all(|i| s.table(*i).is_full()))?;

    stage.joins(STRANGER, "Stranger", &link, PASSWORD);
    stage.until("one more finds it full", |s| s.was_told(STRANGER, "full"))?;

    let seat = stage.table(CLEO).me;
    let former = stage.opens_anew(CLEO);
    stage.joins(CLEO, "Cleo", &link, PASSWORD);
    stage.until("Cleo opens her game in another window, and has her seat there", |s| {
        s.table(CLEO).me == seat && s.all(|t| t.is_full())
    })?;
    stage.apps.push(former);
    stage.until("the first window tells her so", |s| s.was_told(STRANGER + 1, "another window"))
}

fn chat(stage: &mut Stage) -> Result<(), String> {
    for (app, text) in [(HOST, "Hello, all three!"), (ADA, "Hi Mira"), (BEN, "Hey"), (CLEO, "Shall we?")] {
        stage.wants(app, Intent::Say(text.to_owned()));
        stage.until(&format!("everyone reads “{text}”"), |s| {
            s.all(|t| t.chat.iter().any(|line| line.text == text))
        })?;
    }
    Ok(())
}

fn play_a_round(stage: &mut Stage) -> Result<(), String> {
    for app in FOUR {
        stage.wants(app, Intent::Ready(true));
    }
    stage.until("everyone is ready", |s| s.all(Table::everyone_ready))?;

    stage.wants(HOST, Intent::StartRound);
    stage.until("the round begins for all", |s| FOUR.iter().all(|i| s.page(*i) == Page::Arena))?;
    stage.until("everyone sees all four figures walk", |s| s.all(all_walked))?;
    stage.until("three sparks are caught, and the scores agree", |s| {
        let scores = |i: usize| s.table(i).players.iter().map(|p| p.score).collect::<Vec<_>>();
        scores(HOST).iter().sum::<u32>() >= 3 && FOUR.iter().all(|i| scores(*i) == scores(HOST))
    })?;
    stage.wants(HOST, Intent::FinishRound);
    stage.until("the round ends and all are back in the lobby", |s| FOUR.iter().all(|i| s.page(*i) == Page::Lobby))?;
    stage.until("everyone knows how it ended", |s| {
        s.all(|t| t.chat.iter().any(|l| l.text.ends_with("won the round") || l.text.ends_with("without a winner")))
    })
}

/// One player leaves, one is removed, and the host closes the lobby.
fn part(stage: &mut Stage) -> Result<(), String> {
    stage.wants(ADA, Intent::Leave);
    stage.until("Ada leaves", |s| s.page(ADA) == Page::Start && s.saw(HOST, "Ada left") && s.saw(CLEO, "Ada left"))?;
    let ben = stage.table(BEN).me.ok_or("Ben lost his seat")?;
    stage.wants(HOST, Intent::Kick(ben));
    stage
        .until("Mira removes Ben, who is told so", |s| s.was_told(BEN, "removed") && s.saw(CLEO, "Ben was removed"))?;
    stage.wants(HOST, Intent::Leave);
    stage.until("Mira closes the lobby, and Cleo is told so", |s| s.was_told(CLEO, "closed"))
}

/// Whether every figure is away from where it started.
fn all_walked(table: &Table) -> bool {
    table.players.len() == FOUR.len()
        && table.players.iter().all(|player| {
            table.figures.get(&player.id).is_some_and(|at| at.distance(rules::start_of(player.colour)) > 0.5)
        })
}

/// Opens the game of a new player, or of this one.
fn open(with_log: bool, identity: Option<UhstIdentity>) -> App {
    let mut app = App::new();
    if with_log {
        // One log for the process.
        app.add_plugins(LogPlugin { level: Level::WARN, filter: crate::LOG_FILTER.into(), ..default() });
    }
    if let Some(identity) = identity {
        app.insert_resource(identity);
    }
    app.add_plugins((MinimalPlugins, StatesPlugin, UhstPlugin::default(), game::plugin, autopilot::plugin));
    app.finish();
    app.cleanup();
    app
}

/// The apps, stepped one after the other in this thread.
struct Stage {
    apps: Vec<App>,
    began: Instant,
}

impl Stage {
    fn new() -> Self {
        Stage { apps: (0..=STRANGER).map(|i| open(i == 0, None)).collect(), began: Instant::now() }
    }

    /// Opens the game of the same player once more. Returns the former one, which nobody looks at now.
    fn opens_anew(&mut self, app: usize) -> App {
        let identity = self.apps[app].world().resource::<UhstIdentity>().clone();
        std::mem::replace(&mut self.apps[app], open(false, Some(identity)))
    }

    fn wants(&mut self, app: usize, intent: Intent) {
        self.apps[app].world_mut().write_message(intent);
    }

    fn joins(&mut self, app: usize, name: &str, link: &str, password: &str) {
        let args = JoinArgs { name: name.to_owned(), password: Some(password.to_owned()), ..JoinArgs::ordinary(link) };
        self.wants(app, Intent::Join(args));
    }

    /// Steps all apps until the condition holds, and prints the step then.
    fn until(&mut self, step: &str, condition: impl Fn(&Stage) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            self.apps.iter_mut().for_each(App::update);
            if condition(self) {
                println!("{:6.2} s  {step}", self.began.elapsed().as_secs_f32());
                return Ok(());
            }
            thread::sleep(Duration::from_millis(2));
        }
        let notices: Vec<_> =
            self.apps.iter().filter_map(|app| app.world().resource::<Table>().notice.clone()).collect();
        Err(format!("“{step}” did not happen within {} s {}", PATIENCE.as_secs(), notices.join(" ")))
    }

    fn table(&self, app: usize) -> &Table {
        self.apps[app].world().resource::<Table>()
    }

    fn page(&self, app: usize) -> Page {
        *self.apps[app].world().resource::<State<Page>>().get()
    }

    /// Whether something holds for the tables of all four.
    fn all(&self, holds: impl Fn(&Table) -> bool) -> bool {
        FOUR.iter().all(|i| holds(self.table(*i)))
    }

    /// Whether this app is back on the start page, with these words among the reason.
    fn was_told(&self, app: usize, words: &str) -> bool {
        self.page(app) == Page::Start && self.table(app).notice.as_ref().is_some_and(|why| why.contains(words))
    }

    fn saw(&self, app: usize, line: &str) -> bool {
        self.table(app).chat.iter().any(|l| l.text == line)
    }
}
