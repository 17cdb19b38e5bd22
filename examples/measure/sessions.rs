//! Measures whole sessions: the time until a client is connected and direct, the cost of an idle peer, and the memory that
//! remains after clients have left.

use std::{
    env, fs,
    io::{self, Write},
    process, thread,
    time::{Duration, Instant},
};

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{link, update_until},
};
use futures_util::future::try_join_all;
use serde_json::{Map, Value};

use crate::{
    Settings,
    apps::{self, PATIENCE},
    direct,
    load::{self, Load},
    procstat, raw, relayed,
    report::{self, Figures, Outcome, percentile},
};

/// Measures the time until a client is connected, and from there until it is direct. The floors are a join by raw HTTP, and
/// the opening of a pair of the raw `webrtc` crate, whose signals take no time.
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
    let (mut raw_joins, mut raw_openings) =
        (relayed::floor_of_joins(settings, JOINS)?, direct::floor_of_openings(settings, JOINS / 2)?);
    let figures = Figures::from([
        ("raw_join_p50_ms", percentile(&mut raw_joins, 50) * 1e3),
        ("raw_direct_p50_ms", percentile(&mut raw_openings, 50) * 1e3),
        ("connected_p50_ms", percentile(&mut connected, 50) * 1e3),
        ("connected_p99_ms", percentile(&mut connected, 99) * 1e3),
        ("then_direct_p50_ms", percentile(&mut direct, 50) * 1e3),
        ("then_direct_p99_ms", percentile(&mut direct, 99) * 1e3),
    ]);
    let mut line = report::flat(figures);
    line.insert("joins".to_owned(), Value::from(connected.len()));
    Ok(line)
}

/// The number of idle peers.
const PEERS: usize = 32;

/// Measures the memory of each of 32 idle direct peers and the CPU time of all of them without frames, and the same of as
/// many pairs of the raw `webrtc` crate. Host, clients and pairs have processes of their own, since a process reuses
/// memory that it has freed.
pub fn idle(settings: &Settings) -> Outcome {
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds() {
        let mut figures = Figures::new();
        for (scenario, names) in [
            ("idle-raw", &["raw_kb_per_end", "raw_idle_cpu_percent"][..]),
            ("idle-ours", &["host_kb_per_peer", "client_kb_per_session", "idle_cpu_percent"]),
        ] {
            let child = process::Command::new(env::current_exe()?)
                .args([scenario, "--seconds", &settings.seconds.to_string()])
                .stderr(process::Stdio::inherit())
                .output()?;
            let line: Map<String, Value> = serde_json::from_slice(&child.stdout)?;
            for name in names {
                figures.insert(name, line.get(*name).and_then(Value::as_f64).ok_or("a figure is missing")?);
            }
        }
        rounds.push(figures);
    }
    Ok(report::rounds(&rounds))
}

/// Measures one round of this crate.
pub fn idle_ours(settings: &Settings) -> Outcome {
    let mut host = apps::host(PathPolicy::Automatic)?;
    let (mut clients, mut go) = clients_elsewhere(&host)?;
    let all = [process::id(), clients.id()];
    let memory = || -> Outcome<_> { Ok([procstat::memory(all[0])?.resident, procstat::memory(all[1])?.resident]) };
    let cpu = || -> Outcome<_> { Ok((procstat::cpu(all[0])? + procstat::cpu(all[1])?).as_secs_f64()) };
    // The first peer allocates the memory that all peers share.
    await_direct(&mut [&mut host], 1)?;
    let before = memory()?;
    writeln!(go)?;
    await_direct(&mut [&mut host], 1 + PEERS)?;
    // By then the relay has closed the connections over which they joined.
    thread::sleep(Duration::from_secs(6));
    let [host_kb, client_kb] = [0, 1].map(|end| memory().map(|now| (now[end] - before[end]) / 1e3 / PEERS as f64));
    let used = cpu()?;
    thread::sleep(settings.duration());
    let percent = (cpu()? - used) / settings.duration().as_secs_f64() * 100.0;
    drop(go);
    clients.wait()?;
    apps::leave(&mut host);
    Ok(report::flat(Figures::from([
        ("host_kb_per_peer", host_kb?),
        ("client_kb_per_session", client_kb?),
        ("idle_cpu_percent", percent),
    ])))
}

/// The environment variable that names the session to the clients.
const LINK: &str = "MEASURE_LINK";

/// Starts the clients in a process of their own, and returns it with its standard input.
fn clients_elsewhere(host: &App) -> Outcome<(process::Child, process::ChildStdin)> {
    let mut clients = process::Command::new(env::current_exe()?)
        .arg("idle-clients")
        .env(LINK, link(host).to_string())
        .stdin(process::Stdio::piped())
        .stdout(process::Stdio::null())
        .spawn()?;
    let go = clients.stdin.take().ok_or("no way to tell the clients")?;
    Ok((clients, go))
}

/// Runs the clients of such a round. One joins at once, the others after a line of input. All leave at the end of the input.
pub fn idle_clients(_: &Settings) -> Outcome {
    let link: JoinLink = env::var(LINK)?.parse()?;
    let mut clients = apps::app(PathPolicy::Automatic);
    clients.world_mut().spawn(UhstClient::from(link.clone()));
    await_direct(&mut [&mut clients], 1)?;
    let mut lines = io::stdin().lines();
    lines.next().ok_or("nobody asks for more")??;
    for _ in 0..PEERS {
        clients.world_mut().spawn(UhstClient::from(link.clone()));
    }
    await_direct(&mut [&mut clients], 1 + PEERS)?;
    lines.next();
    apps::leave(&mut clients);
    Ok(Map::new())
}

/// Measures one round of the raw crate.
pub fn idle_raw(settings: &Settings) -> Outcome {
    let figures = raw::runtime(settings)?.block_on(async {
        let mut open = vec![raw::open().await?];
        let before = procstat::memory(process::id())?.resident;
        open.extend(try_join_all((0..PEERS).map(|_| raw::open())).await?);
        let kb = (procstat::memory(process::id())?.resident - before) / 1e3 / PEERS as f64 / 2.0;
        let cpu = procstat::cpu(process::id())?;
        tokio::time::sleep(settings.duration()).await;
        let cpu = (procstat::cpu(process::id())? - cpu).as_secs_f64() / settings.duration().as_secs_f64();
        for pair in open {
            pair.close().await;
        }
        Outcome::Ok(Figures::from([("raw_kb_per_end", kb), ("raw_idle_cpu_percent", cpu * 100.0)]))
    })?;
    Ok(report::flat(figures))
}

/// Measures the cost of a message to a host with 33 more silent direct peers in another process, and to one with none.
pub fn growth(settings: &Settings) -> Outcome {
    const LOAD: Load = Load { size: 64, count: 4_000_000 };
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds() {
        let (alone, _) = load::one_way(apps::pair(Path::Direct)?, &LOAD)?;
        let (mut host, mut client) = apps::pair(Path::Direct)?;
        let (mut clients, mut go) = clients_elsewhere(&host)?;
        writeln!(go)?;
        await_direct(&mut [&mut client, &mut host], 1 + 1 + PEERS)?;
        let (crowded, _) = load::one_way((host, client), &LOAD)?;
        drop(go);
        clients.wait()?;
        rounds.push(Figures::from([
            ("cpu_ratio", crowded.cpu / alone.cpu),
            ("rate_ratio", alone.seconds / crowded.seconds),
            ("alone_cpu_s_per_million", alone.cpu / LOAD.count as f64 * 1e6),
            ("crowded_cpu_s_per_million", crowded.cpu / LOAD.count as f64 * 1e6),
        ]));
    }
    Ok(report::rounds(&rounds))
}

/// Waits until the last of these apps has this many direct peers.
fn await_direct(apps: &mut [&mut App], count: usize) -> Outcome<()> {
    let direct = update_until(apps, 2 * PATIENCE, |apps| {
        apps.last_mut().is_some_and(|app| apps::has_peers(app, count, Path::Direct))
    });
    if direct { Ok(()) } else { Err("not every client became direct".into()) }
}

/// Measures the memory that remains after clients have joined and left.
pub fn churn(settings: &Settings) -> Outcome {
    let count = 50 * settings.rounds();
    let mut host = apps::host(PathPolicy::Automatic)?;
    let once = |host: &mut App| -> Outcome<()> {
        let mut client = apps::join(host, PathPolicy::Automatic);
        await_direct(&mut [host, &mut client], 1)?;
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
    let mut line = report::flat(figures);
    line.insert("joins".to_owned(), Value::from(count));
    Ok(line)
}
