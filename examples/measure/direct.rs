//! The direct path, one pair of apps in one process, beside the floor: the `webrtc` crate alone in the same run.

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bevy::prelude::*;
use bevy_uhst::{prelude::*, test_app::wait_for_arrival};
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::{
    Settings,
    apps::{self, PATIENCE},
    procstat, raw,
    report::{self, Figures, Outcome, medians, percentile},
};

/// One size of message, and how many of them make a round.
struct Load {
    size: usize,
    count: usize,
}

const SMALL: Load = Load { size: 64, count: 1_000_000 };
const MIDDLE: Load = Load { size: 1000, count: 200_000 };
const MEGABYTE: usize = 1 << 20;
/// What the floor needs for as many bytes: pieces that every stack takes.
const PIECE: usize = 16 << 10;

/// What one way costs.
struct Cost {
    seconds: f64,
    cpu: f64,
}

/// Messages one way in a tight loop.
pub fn one_way(settings: &Settings) -> Outcome {
    let runtime = raw::runtime()?;
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds() {
        let mut figures = Figures::new();
        for (load, names) in [
            (
                SMALL,
                [
                    "raw_64B_per_s",
                    "ours_64B_per_s",
                    "rate_64B_ratio",
                    "raw_64B_cpu_s_per_million",
                    "ours_64B_cpu_s_per_million",
                    "cpu_64B_ratio",
                ],
            ),
            (
                MIDDLE,
                [
                    "raw_1kB_per_s",
                    "ours_1kB_per_s",
                    "rate_1kB_ratio",
                    "raw_1kB_cpu_s_per_million",
                    "ours_1kB_cpu_s_per_million",
                    "cpu_1kB_ratio",
                ],
            ),
        ] {
            // The floor is slower: fewer of its messages take as long.
            let floor = Load { count: load.count / 4, ..load };
            let raw = runtime.block_on(raw_one_way(&floor))?;
            let ours = our_one_way(&load)?;
            let rate = |cost: &Cost, load: &Load| load.count as f64 / cost.seconds;
            let cpu = |cost: &Cost, load: &Load| cost.cpu / load.count as f64 * 1e6;
            figures.extend([
                (names[0], rate(&raw, &floor)),
                (names[1], rate(&ours, &load)),
                (names[2], rate(&ours, &load) / rate(&raw, &floor)),
                (names[3], cpu(&raw, &floor)),
                (names[4], cpu(&ours, &load)),
                (names[5], cpu(&ours, &load) / cpu(&raw, &floor)),
            ]);
        }
        rounds.push(figures);
    }
    finish(&rounds)
}

/// One message of a mebibyte.
pub fn megabyte(settings: &Settings) -> Outcome {
    let runtime = raw::runtime()?;
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds() {
        let pieces = Load { size: PIECE, count: MEGABYTE / PIECE };
        let raw = runtime.block_on(raw_one_way(&pieces))?.seconds;
        let ours = our_one_way(&Load { size: MEGABYTE, count: 1 })?.seconds;
        rounds.push(Figures::from([("raw_ms", raw * 1e3), ("ours_ms", ours * 1e3), ("ratio", ours / raw)]));
    }
    finish(&rounds)
}

/// A message there and back, nothing else going on.
pub fn echo(settings: &Settings) -> Outcome {
    const COUNT: usize = 3000;
    let runtime = raw::runtime()?;
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds() {
        let mut raw = runtime.block_on(async {
            let pair = raw::open().await?;
            pair.echoes(64, COUNT / 10).await?;
            let times = pair.echoes(64, COUNT).await?;
            pair.close().await;
            Outcome::Ok(times)
        })?;
        let mut ours = our_echoes(COUNT)?;
        let micros = |times: &mut [f64], percent| percentile(times, percent) * 1e6;
        let medians = (micros(&mut raw, 50), micros(&mut ours, 50));
        rounds.push(Figures::from([
            ("raw_p50_us", medians.0),
            ("ours_p50_us", medians.1),
            ("added_us", medians.1 - medians.0),
            ("raw_p99_us", micros(&mut raw, 99)),
            ("ours_p99_us", micros(&mut ours, 99)),
        ]));
    }
    finish(&rounds)
}

fn finish(rounds: &[Figures]) -> Outcome {
    let mut figures = Map::new();
    figures.insert("medians".to_owned(), report::json(medians(rounds)));
    figures.insert("rounds".to_owned(), Value::from(rounds.len()));
    Ok(figures)
}

async fn raw_one_way(load: &Load) -> Outcome<Cost> {
    let pair = raw::open().await?;
    pair.one_way(load.size, (load.count / 10).max(1)).await?;
    let cpu = procstat::cpu(process::id())?;
    let seconds = pair.one_way(load.size, load.count).await?.as_secs_f64();
    let cpu = (procstat::cpu(process::id())? - cpu).as_secs_f64();
    pair.close().await;
    Ok(Cost { seconds, cpu })
}

/// How many messages a host's app has read, and of how many bytes.
#[derive(Resource, Default)]
struct Arrived {
    messages: usize,
    bytes: usize,
}

/// The client's app floods as a game would that only looks at the error of a full queue; the host's app, on a thread
/// of its own, reads. Each is updated again as soon as it was.
fn our_one_way(load: &Load) -> Outcome<Cost> {
    let (mut host, mut client) = apps::pair(Path::Direct)?;
    host.init_resource::<Arrived>().add_systems(
        Update,
        |mut messages: MessageReader<UhstMessage>, mut arrived: ResMut<Arrived>| {
            for message in messages.read() {
                arrived.messages += 1;
                arrived.bytes += message.payload.len();
            }
        },
    );
    let arrived = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let reading = thread::spawn({
        let (arrived, stop, host) = (arrived.clone(), stop.clone(), apps::pack(host));
        move || {
            let mut host = apps::unpack(host);
            while !stop.load(Ordering::Relaxed) {
                wait_for_arrival(&host, Duration::from_millis(1));
                host.update();
                arrived.store(host.world().resource::<Arrived>().messages, Ordering::Relaxed);
            }
            apps::pack(host)
        }
    });
    let peer = apps::peers(&mut client)[0];
    let warm_up = (load.count / 10).max(1);
    flood(&mut client, peer, load.size, warm_up, || arrived.load(Ordering::Relaxed) == warm_up)?;
    let (start, cpu) = (Instant::now(), procstat::cpu(process::id())?);
    let all = warm_up + load.count;
    flood(&mut client, peer, load.size, load.count, || arrived.load(Ordering::Relaxed) == all)?;
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), procstat::cpu(process::id())? - cpu);
    stop.store(true, Ordering::Relaxed);
    apps::leave(&mut client);
    let mut host = apps::unpack(reading.join().map_err(|_| "the reading thread panicked")?);
    let bytes = host.world().resource::<Arrived>().bytes;
    apps::leave(&mut host);
    if bytes != all * load.size {
        return Err(format!("{bytes} bytes arrived of {}", all * load.size).into());
    }
    Ok(Cost { seconds, cpu: cpu.as_secs_f64() })
}

fn flood(client: &mut App, peer: Entity, size: usize, count: usize, done: impl Fn() -> bool) -> Outcome<()> {
    let payload = Bytes::from(vec![7; size]);
    let start = Instant::now();
    let mut sent = 0;
    while !done() {
        let Some(handle) = client.world().get::<UhstPeer>(peer) else { return Err("the peer was dropped".into()) };
        let before = sent;
        while sent < count && handle.send(payload.clone()).is_ok() {
            sent += 1;
        }
        client.update();
        if sent == before {
            // Full, or all sent: a tight loop would only take the CPU from those who empty the queue.
            wait_for_arrival(client, Duration::from_micros(200));
        }
        if start.elapsed() > PATIENCE {
            return Err(
                format!("{sent} of {count} were sent within {PATIENCE:?}, and they have not all arrived").into()
            );
        }
    }
    Ok(())
}

fn our_echoes(count: usize) -> Outcome<Vec<f64>> {
    let (mut host, mut client) = apps::pair(Path::Direct)?;
    host.add_systems(Update, |mut messages: MessageReader<UhstMessage>, peers: Query<&UhstPeer>| -> Result {
        for message in messages.read() {
            peers.get(message.peer)?.send(message.payload.clone())?;
        }
        Ok(())
    });
    client.init_resource::<Arrived>().add_systems(
        Update,
        |mut messages: MessageReader<UhstMessage>, mut arrived: ResMut<Arrived>| {
            arrived.messages += messages.read().count();
        },
    );
    let stop = Arc::new(AtomicBool::new(false));
    let echoing = thread::spawn({
        let (stop, host) = (stop.clone(), apps::pack(host));
        move || {
            let mut host = apps::unpack(host);
            while !stop.load(Ordering::Relaxed) {
                if wait_for_arrival(&host, Duration::from_millis(5)) {
                    host.update();
                }
            }
            apps::leave(&mut host);
        }
    });
    let peer = apps::peers(&mut client)[0];
    let payload = Bytes::from(vec![7; 64]);
    let mut times = Vec::with_capacity(count);
    for number in 1..=count + count / 10 {
        let start = Instant::now();
        client.world().get::<UhstPeer>(peer).ok_or("the peer was dropped")?.send(payload.clone())?;
        let arrived = |app: &App| app.world().resource::<Arrived>().messages;
        while arrived(&client) < number {
            if !wait_for_arrival(&client, PATIENCE) {
                return Err("an echo is missing".into());
            }
            client.update();
        }
        times.push(start.elapsed().as_secs_f64());
    }
    stop.store(true, Ordering::Relaxed);
    apps::leave(&mut client);
    echoing.join().map_err(|_| "the echoing thread panicked")?;
    Ok(times.split_off(count / 10))
}
