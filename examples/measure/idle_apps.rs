//! What 33 whole apps weigh that are connected and have nothing to say: a host and 32 clients in one process, which all
//! run 60 frames a second.

use std::{
    env, process, thread,
    time::{Duration, Instant},
};

use bevy::prelude::*;
use bevy_uhst::{prelude::*, test_app::update_until};
use serde_json::{Map, Value};

use crate::{
    Settings,
    apps::{self, PATIENCE},
    frames::FRAME,
    procstat,
    report::{self, Figures, Outcome},
};

const CLIENTS: usize = 32;

/// The apps of one kind: without this crate, connected by the relay, or directly.
struct Kind {
    scenario: &'static str,
    figures: [&'static str; 2],
}

const KINDS: [Kind; 3] = [
    Kind { scenario: "idle-apps-bare", figures: ["bare_kb_per_client", "bare_cpu_percent"] },
    Kind { scenario: "idle-apps-relay", figures: ["relay_kb_per_client", "relay_cpu_percent"] },
    Kind { scenario: "idle-apps-direct", figures: ["direct_kb_per_client", "direct_cpu_percent"] },
];

/// Each kind in a process of its own, since the next one would use what the last one has freed.
pub fn all(settings: &Settings) -> Outcome {
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds() {
        let mut figures = Figures::new();
        for Kind { scenario, figures: [memory, cpu] } in KINDS {
            let child = process::Command::new(env::current_exe()?)
                .args([scenario, "--seconds", &settings.seconds.to_string()])
                .stderr(process::Stdio::inherit())
                .output()?;
            let line: Map<String, Value> = serde_json::from_slice(&child.stdout)?;
            let figure = |name: &str| line.get(name).and_then(Value::as_f64).ok_or("a figure is missing");
            figures.extend([(memory, figure("kb_per_client")?), (cpu, figure("cpu_percent")?)]);
        }
        rounds.push(figures);
    }
    Ok(report::rounds(&rounds))
}

/// One round without this crate: what Bevy itself takes.
pub fn bare(settings: &Settings) -> Outcome {
    let start = || {
        let mut app = App::new();
        app.add_plugins(MinimalPlugins).init_schedule(Update);
        apps::on_one_thread(&mut app);
        app
    };
    let mut running = vec![start()];
    running.push(start());
    measure(settings, running, |running| {
        running.extend((1..CLIENTS).map(|_| start()));
        Ok(())
    })
}

/// One round over the relay.
pub fn relay(settings: &Settings) -> Outcome {
    connected(settings, Path::Relay)
}

/// One round with direct paths.
pub fn direct(settings: &Settings) -> Outcome {
    connected(settings, Path::Direct)
}

fn connected(settings: &Settings, path: Path) -> Outcome {
    let (host, client) = apps::pair(path)?;
    measure(settings, vec![host, client], |running| {
        let paths = if path == Path::Direct { PathPolicy::Automatic } else { PathPolicy::RelayOnly };
        for _ in 1..CLIENTS {
            let client = apps::join(&running[0], paths);
            running.push(client);
        }
        let mut references: Vec<&mut App> = running.iter_mut().collect();
        let joined = update_until(&mut references, 2 * PATIENCE, |apps| {
            let (host, clients) = apps.split_first_mut().expect("the host");
            apps::has_peers(host, CLIENTS, path) && clients.iter_mut().all(|client| apps::has_peers(client, 1, path))
        });
        if joined { Ok(()) } else { Err("not every client is connected".into()) }
    })
}

/// Adds the other clients to a host and a first one, which pays for what all share. Then runs all of them.
fn measure(settings: &Settings, mut running: Vec<App>, join: impl FnOnce(&mut Vec<App>) -> Outcome<()>) -> Outcome {
    let frames = |running: &mut [App], time: Duration| {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let start = Instant::now();
            running.iter_mut().for_each(App::update);
            thread::sleep(FRAME.saturating_sub(start.elapsed()));
        }
    };
    let before = procstat::memory(process::id())?.resident;
    join(&mut running)?;
    // The relay has closed the connections that brought them together by then.
    frames(&mut running, Duration::from_secs(6));
    let memory = procstat::memory(process::id())?.resident - before;
    let used = procstat::cpu(process::id())?;
    frames(&mut running, settings.duration());
    let used = (procstat::cpu(process::id())? - used).as_secs_f64();
    running.iter_mut().rev().for_each(apps::leave);
    Ok(report::flat(Figures::from([
        ("kb_per_client", memory / 1e3 / (CLIENTS - 1) as f64),
        ("cpu_percent", used / settings.duration().as_secs_f64() * 100.0),
    ])))
}
