//! Loads between two apps on any path, each with its floor: messages one way in a tight loop, and echoes.

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

use crate::{
    Settings,
    apps::{self, PATIENCE},
    procstat,
    report::{self, Figures, Outcome, percentile},
    switches,
};

/// A size of messages, and their number in a round.
#[derive(Clone, Copy)]
pub struct Load {
    pub size: usize,
    pub count: usize,
}

impl Load {
    /// The number of messages before the measurement begins.
    pub fn warm_up(&self) -> usize {
        (self.count / 10).max(1)
    }
}

/// The results of a load one way.
pub struct Cost {
    pub seconds: f64,
    pub cpu: f64,
}

/// Sends this many messages of 64 B and of 1 kB. The floor is slower and sends the same share of each.
pub fn one_way_beside(
    settings: &Settings,
    path: Path,
    counts: [usize; 2],
    floor_share: usize,
    floor: impl Fn(&Load) -> Outcome<Cost>,
) -> Outcome {
    const SIZES: [(usize, [&str; 7]); 2] = [
        (
            64,
            [
                "raw_64B_per_s",
                "ours_64B_per_s",
                "rate_64B_ratio",
                "raw_64B_cpu_s_per_million",
                "ours_64B_cpu_s_per_million",
                "cpu_64B_ratio",
                "ours_64B_memory_growth_mb",
            ],
        ),
        (
            1000,
            [
                "raw_1kB_per_s",
                "ours_1kB_per_s",
                "rate_1kB_ratio",
                "raw_1kB_cpu_s_per_million",
                "ours_1kB_cpu_s_per_million",
                "cpu_1kB_ratio",
                "ours_1kB_memory_growth_mb",
            ],
        ),
    ];
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds() {
        let mut figures = Figures::new();
        for ((size, names), count) in SIZES.into_iter().zip(counts) {
            let (load, less) = (Load { size, count }, Load { size, count: count / floor_share });
            let (raw, (ours, memory)) = (floor(&less)?, one_way(apps::pair(path)?, &load)?);
            let rate = |cost: &Cost, load: &Load| load.count as f64 / cost.seconds;
            let cpu = |cost: &Cost, load: &Load| cost.cpu / load.count as f64 * 1e6;
            let values = [
                rate(&raw, &less),
                rate(&ours, &load),
                rate(&ours, &load) / rate(&raw, &less),
                cpu(&raw, &less),
                cpu(&ours, &load),
                cpu(&ours, &load) / cpu(&raw, &less),
                memory / 1e6,
            ];
            figures.extend(names.into_iter().zip(values));
        }
        rounds.push(figures);
    }
    Ok(report::rounds(&rounds))
}

/// Sends a message of 64 B there and back this many times, without other traffic.
pub fn echo_beside(
    settings: &Settings,
    path: Path,
    count: usize,
    floor: impl Fn(usize) -> Outcome<Vec<f64>>,
) -> Outcome {
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds() {
        let (mut raw, mut ours) = (floor(count)?, echoes(apps::pair(path)?, count)?);
        let mut between_threads = switches::echoes(count)?;
        let micros = |times: &mut [f64], percent| percentile(times, percent) * 1e6;
        let medians = (micros(&mut raw, 50), micros(&mut ours, 50));
        rounds.push(Figures::from([
            ("raw_p50_us", medians.0),
            ("ours_p50_us", medians.1),
            ("added_us", medians.1 - medians.0),
            ("threads_p50_us", micros(&mut between_threads, 50)),
            ("raw_p99_us", micros(&mut raw, 99)),
            ("ours_p99_us", micros(&mut ours, 99)),
        ]));
    }
    Ok(report::rounds(&rounds))
}

/// The number of messages that the host's app has read, and their bytes.
#[derive(Resource, Default)]
struct Arrived {
    messages: usize,
    bytes: usize,
}

/// Sends from the client's app until the queue is full, again and again. The host's app reads on a thread of its own. Both
/// apps are updated without a pause. Also returns the largest growth of the memory in bytes.
pub fn one_way((mut host, mut client): (App, App), load: &Load) -> Outcome<(Cost, f64)> {
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
    let warm_up = load.warm_up();
    procstat::forget_peak()?;
    let before = procstat::memory(process::id())?.resident;
    flood(&mut client, peer, load.size, warm_up, || arrived.load(Ordering::Relaxed) == warm_up)?;
    let (start, cpu) = (Instant::now(), procstat::cpu(process::id())?);
    let all = warm_up + load.count;
    flood(&mut client, peer, load.size, load.count, || arrived.load(Ordering::Relaxed) == all)?;
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), procstat::cpu(process::id())? - cpu);
    let memory = procstat::memory(process::id())?.peak - before;
    stop.store(true, Ordering::Relaxed);
    apps::leave(&mut client);
    let mut host = apps::unpack(reading.join().map_err(|_| "the reading thread panicked")?);
    let bytes = host.world().resource::<Arrived>().bytes;
    apps::leave(&mut host);
    if bytes != all * load.size {
        return Err(format!("{bytes} bytes arrived of {}", all * load.size).into());
    }
    Ok((Cost { seconds, cpu: cpu.as_secs_f64() }, memory))
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
            // The queue is full, or all is sent. A tight loop would take CPU time from the threads that empty the queue.
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

/// Sends echoes. Each app is updated when messages arrive.
fn echoes((mut host, mut client): (App, App), count: usize) -> Outcome<Vec<f64>> {
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
