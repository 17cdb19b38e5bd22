//! Whole sessions: how soon one is connected and direct, what an idle peer costs, and whether anything is left of those
//! who left.

use std::{
    fs, process, thread,
    time::{Duration, Instant},
};

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{link, update_until},
};
use serde_json::{Map, Value};

use crate::{
    Settings,
    apps::{self, PATIENCE},
    procstat,
    report::{self, Figures, Outcome, medians, percentile},
};

/// How soon a client is connected, and how soon after that directly.
pub fn join(settings: &Settings) -> Outcome {
    const JOINS: usize = 20;
    let mut host = apps::host(PathPolicy::Automatic)?;
    let (mut connected, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..JOINS * settings.rounds() {
        let start = Instant::now();
        let mut client = apps::join(&host, PathPolicy::Automatic);
        let mut when = [None, None];
        let reached = update_until(&mut [&mut host, &mut client], PATIENCE, |apps| {
            let connected = !apps::peers(apps[1]).is_empty();
            for (when, is_so) in when.iter_mut().zip([connected, apps::has_peers(apps[1], 1, Path::Direct)]) {
                if is_so {
                    when.get_or_insert_with(|| start.elapsed().as_secs_f64());
                }
            }
            when[1].is_some()
        });
        let (true, [Some(first), Some(second)]) = (reached, when) else {
            return Err("a client did not connect".into());
        };
        connected.push(first);
        direct.push(second - first);
        apps::leave(&mut client);
        update_until(&mut [&mut host], PATIENCE, |apps| apps::peers(apps[0]).is_empty());
    }
    apps::leave(&mut host);
    let figures = Figures::from([
        ("connected_p50_ms", percentile(&mut connected, 50) * 1e3),
        ("connected_p99_ms", percentile(&mut connected, 99) * 1e3),
        ("then_direct_p50_ms", percentile(&mut direct, 50) * 1e3),
        ("then_direct_p99_ms", percentile(&mut direct, 99) * 1e3),
    ]);
    let mut line = Map::new();
    line.insert("joins".to_owned(), Value::from(connected.len()));
    line.insert("figures".to_owned(), report::json(figures));
    Ok(line)
}

/// Memory for each of 32 idle direct peers, both ends in this process, and the CPU that all of them use without frames.
pub fn idle(settings: &Settings) -> Outcome {
    const PEERS: usize = 32;
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds() {
        let mut host = apps::host(PathPolicy::Automatic)?;
        // The first peer pays for what all share.
        let mut first = apps::join(&host, PathPolicy::Automatic);
        await_direct(&mut host, &mut first, 1)?;
        let mut clients = apps::join_all(&host, PathPolicy::Automatic, 0);
        clients.update();
        let before = procstat::memory(process::id())?.resident;
        for _ in 0..PEERS {
            clients.world_mut().spawn(UhstClient::from(link(&host)));
        }
        await_direct(&mut host, &mut clients, PEERS)?;
        thread::sleep(Duration::from_millis(500));
        let after = procstat::memory(process::id())?.resident;
        let cpu = procstat::cpu(process::id())?;
        thread::sleep(settings.duration());
        let cpu = (procstat::cpu(process::id())? - cpu).as_secs_f64() / settings.duration().as_secs_f64();
        rounds.push(Figures::from([
            ("kb_per_peer_both_ends", (after - before) / 1e3 / PEERS as f64),
            ("idle_cpu_percent", cpu * 100.0),
        ]));
        apps::leave(&mut first);
        apps::leave(&mut clients);
        apps::leave(&mut host);
    }
    let mut line = Map::new();
    line.insert("peers".to_owned(), Value::from(PEERS));
    line.insert("medians".to_owned(), report::json(medians(&rounds)));
    Ok(line)
}

fn await_direct(host: &mut App, clients: &mut App, count: usize) -> Outcome<()> {
    let direct = update_until(&mut [host, clients], 2 * PATIENCE, |apps| apps::has_peers(apps[1], count, Path::Direct));
    if direct { Ok(()) } else { Err("not every client became direct".into()) }
}

/// Joins and leaves, and what they leave behind.
pub fn churn(settings: &Settings) -> Outcome {
    let count = 50 * settings.rounds();
    let mut host = apps::host(PathPolicy::Automatic)?;
    let once = |host: &mut App| -> Outcome<()> {
        let mut client = apps::join(host, PathPolicy::Automatic);
        await_direct(host, &mut client, 1)?;
        apps::leave(&mut client);
        let gone = update_until(&mut [host], PATIENCE, |apps| apps::peers(apps[0]).is_empty());
        if gone { Ok(()) } else { Err("a client that left is still there".into()) }
    };
    for _ in 0..10 {
        once(&mut host)?;
    }
    let sockets = || Outcome::Ok(fs::read_dir("/proc/self/fd")?.count() as f64);
    let (memory, files, start) = (procstat::memory(process::id())?.resident, sockets()?, Instant::now());
    for _ in 0..count {
        once(&mut host)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let figures = Figures::from([
        ("ms_per_join_and_leave", seconds * 1e3 / count as f64),
        ("kb_left_per_join", (procstat::memory(process::id())?.resident - memory) / 1e3 / count as f64),
        ("files_left", sockets()? - files),
    ]);
    apps::leave(&mut host);
    let mut line = Map::new();
    line.insert("joins".to_owned(), Value::from(count));
    line.insert("figures".to_owned(), report::json(figures));
    Ok(line)
}
