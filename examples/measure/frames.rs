//! Measures apps at sixty frames a second: a flood, echoes, and a host that broadcasts to sixteen clients.

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bevy::{app::SubApp, prelude::*};
use bevy_uhst::{prelude::*, test_app::update_until};
use bytes::Bytes;

use crate::{
    Settings,
    apps::{self, PATIENCE},
    procstat, raw,
    report::{self, Figures, Outcome, percentile},
};

pub const FRAME: Duration = Duration::from_micros(16_667);
const CLIENTS: usize = 16;
const STATE: usize = 256;

/// Counts messages and records their latency. A message begins with the time at which it was sent, in microseconds.
#[derive(Resource)]
struct Arrived {
    origin: Instant,
    messages: usize,
    late: Vec<f64>,
}

impl Arrived {
    fn since(origin: Instant) -> Self {
        Arrived { origin, messages: 0, late: Vec::new() }
    }
}

fn read(mut messages: MessageReader<UhstMessage>, mut arrived: ResMut<Arrived>) {
    for message in messages.read() {
        arrived.messages += 1;
        if let Some(Ok(sent)) = message.payload.as_bytes().get(..8).map(<[u8; 8]>::try_from) {
            let sent = Duration::from_micros(u64::from_le_bytes(sent));
            let late = arrived.origin.elapsed().saturating_sub(sent);
            arrived.late.push(late.as_secs_f64());
        }
    }
}

/// Counts messages where a record of their latency would take memory.
#[derive(Resource, Default)]
struct Count(usize);

fn count(mut messages: MessageReader<UhstMessage>, mut count: ResMut<Count>) {
    count.0 += messages.read().count();
}

fn stamped(origin: Instant, size: usize) -> Bytes {
    let mut bytes = vec![0; size];
    bytes[..8].copy_from_slice(&(origin.elapsed().as_micros() as u64).to_le_bytes());
    bytes.into()
}

fn frame(app: &mut App) {
    let start = Instant::now();
    app.update();
    thread::sleep(FRAME.saturating_sub(start.elapsed()));
}

/// Runs an app frame by frame on a thread of its own, until `stop` is set.
fn run(app: App, stop: Arc<AtomicBool>) -> thread::JoinHandle<SubApp> {
    let app = apps::pack(app);
    thread::spawn(move || {
        let mut app = apps::unpack(app);
        while !stop.load(Ordering::Relaxed) {
            frame(&mut app);
        }
        apps::pack(app)
    })
}

/// Sends as many messages of 64 B in each frame as the queue takes, at sixty frames a second on both sides.
pub fn flood(settings: &Settings) -> Outcome {
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds() {
        let (mut host, mut client) = apps::pair(Path::Direct)?;
        host.init_resource::<Count>().add_systems(Update, count);
        procstat::forget_peak()?;
        let before = procstat::memory(process::id())?;
        let stop = Arc::new(AtomicBool::new(false));
        let host = run(host, stop.clone());
        let peer = apps::peers(&mut client)[0];
        let payload = Bytes::from(vec![0; 64]);
        let start = Instant::now();
        let mut sent = 0_usize;
        while start.elapsed() < settings.duration() {
            let handle = client.world().get::<UhstPeer>(peer).ok_or("the peer was dropped")?;
            while handle.send(payload.clone()).is_ok() {
                sent += 1;
            }
            frame(&mut client);
        }
        let seconds = start.elapsed().as_secs_f64();
        // The rest of the queue is drained before the memory is read.
        let drained = update_until(&mut [&mut client], PATIENCE, |apps| {
            apps[0].world().get::<UhstPeer>(peer).is_some_and(|peer| peer.queued() == 0)
        });
        let after = procstat::memory(process::id())?;
        stop.store(true, Ordering::Relaxed);
        let mut host = apps::unpack(host.join().map_err(|_| "the host's thread panicked")?);
        let complete =
            update_until(&mut [&mut host, &mut client], PATIENCE, |apps| apps[0].world().resource::<Count>().0 == sent);
        if !drained || !complete {
            return Err(format!("{} of {sent} arrived", host.world().resource::<Count>().0).into());
        }
        rounds.push(Figures::from([
            ("per_s", sent as f64 / seconds),
            ("memory_growth_mb", (after.peak - before.resident) / 1e6),
        ]));
        apps::leave(&mut client);
        apps::leave(&mut host);
    }
    Ok(report::rounds(&rounds))
}

/// Sends one message there and back at sixty frames a second, on each path.
pub fn echo(settings: &Settings) -> Outcome {
    const ECHOES: usize = 200;
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds() {
        let mut figures = Figures::new();
        for (path, names) in
            [(Path::Relay, ["relay_p50_ms", "relay_p99_ms"]), (Path::Direct, ["direct_p50_ms", "direct_p99_ms"])]
        {
            let (mut host, mut client) = apps::pair(path)?;
            host.add_systems(Update, |mut messages: MessageReader<UhstMessage>, peers: Query<&UhstPeer>| -> Result {
                for message in messages.read() {
                    peers.get(message.peer)?.send(message.payload.clone())?;
                }
                Ok(())
            });
            let origin = Instant::now();
            client.insert_resource(Arrived::since(origin)).add_systems(Update, read);
            let stop = Arc::new(AtomicBool::new(false));
            let host = run(host, stop.clone());
            let peer = apps::peers(&mut client)[0];
            for number in 1..=ECHOES {
                client.world().get::<UhstPeer>(peer).ok_or("the peer was dropped")?.send(stamped(origin, 64))?;
                while client.world().resource::<Arrived>().messages < number {
                    frame(&mut client);
                }
            }
            stop.store(true, Ordering::Relaxed);
            apps::leave(&mut client);
            apps::leave(&mut apps::unpack(host.join().map_err(|_| "the host's thread panicked")?));
            let late = &mut client.world_mut().resource_mut::<Arrived>().late;
            figures.insert(names[0], percentile(late, 50) * 1e3);
            figures.insert(names[1], percentile(late, 99) * 1e3);
        }
        rounds.push(figures);
    }
    Ok(report::rounds(&rounds))
}

/// Broadcasts 256 B from a host to sixteen clients in every frame, and reports the CPU time beyond that of the same apps
/// at rest.
pub fn fan_out(settings: &Settings) -> Outcome {
    let mut rounds = Vec::new();
    let runtime = raw::runtime(settings)?;
    for _ in 0..settings.rounds() {
        let frames = (settings.duration().as_secs_f64() / FRAME.as_secs_f64()) as usize;
        let floor = runtime.block_on(raw_fan_out(frames))?;
        let mut host = apps::host(PathPolicy::Automatic)?;
        let mut clients = apps::join_all(&host, PathPolicy::Automatic, CLIENTS);
        let direct = update_until(&mut [&mut host, &mut clients], PATIENCE, |apps| {
            apps.iter_mut().all(|app| apps::has_peers(app, CLIENTS, Path::Direct))
        });
        if !direct {
            return Err("not every client became direct".into());
        }
        let origin = Instant::now();
        clients.insert_resource(Arrived::since(origin)).add_systems(Update, read);
        let mut packed = apps::pack(clients);
        let idle = cpu_of_frames(frames, &mut host, &mut packed, None)?;
        let busy = cpu_of_frames(frames, &mut host, &mut packed, Some(origin))?;
        let mut clients = apps::unpack(packed);
        let arrived = |app: &App| app.world().resource::<Arrived>().messages;
        let all = frames * CLIENTS;
        update_until(&mut [&mut clients], Duration::from_secs(2), |apps| arrived(apps[0]) == all);
        let delivered = arrived(&clients) as f64 / all as f64;
        let late = &mut clients.world_mut().resource_mut::<Arrived>().late;
        let scale = 10.0 / (frames as f64 * FRAME.as_secs_f64());
        rounds.push(Figures::from([
            ("delivered_share", delivered),
            ("p50_ms", percentile(late, 50) * 1e3),
            ("p99_ms", percentile(late, 99) * 1e3),
            ("idle_cpu_s_in_10_s", idle * scale),
            ("added_cpu_s_in_10_s", (busy - idle) * scale),
            ("raw_added_cpu_s_in_10_s", floor * scale),
            ("added_cpu_ratio", (busy - idle) / floor),
        ]));
        apps::leave(&mut clients);
        apps::leave(&mut host);
    }
    Ok(report::rounds(&rounds))
}

/// Returns the CPU seconds of this many frames of a host and its clients. With an origin of the time stamps, the host
/// broadcasts in each frame.
fn cpu_of_frames(frames: usize, host: &mut App, clients: &mut SubApp, stamps: Option<Instant>) -> Outcome<f64> {
    let before = procstat::cpu(process::id())?;
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            for _ in 0..frames {
                let start = Instant::now();
                clients.update();
                thread::sleep(FRAME.saturating_sub(start.elapsed()));
            }
        });
        for _ in 0..frames {
            if let Some(origin) = stamps {
                let state = stamped(origin, STATE);
                let hosts = host.world_mut().query::<&UhstHost>().single(host.world())?;
                hosts.broadcast(state);
            }
            frame(host);
        }
        reading.join().map_err(|_| "the clients' thread panicked")?;
        Outcome::Ok(())
    })?;
    Ok((procstat::cpu(process::id())? - before).as_secs_f64())
}

/// Returns the CPU seconds of the same load on the `webrtc` crate alone, beyond those of its connections at rest.
async fn raw_fan_out(frames: usize) -> Outcome<f64> {
    let mut pairs = Vec::new();
    for _ in 0..CLIENTS {
        pairs.push(raw::open().await?);
    }
    let mut took = [0.0; 2];
    for (took, talk) in took.iter_mut().zip([false, true]) {
        let before = procstat::cpu(process::id())?;
        let all = pairs.iter().map(|pair| pair.paced(STATE, if talk { frames } else { 0 }));
        let sleep = tokio::time::sleep(FRAME * frames as u32);
        let (arrived, ()) = tokio::join!(futures_util::future::try_join_all(all), sleep);
        arrived?;
        *took = (procstat::cpu(process::id())? - before).as_secs_f64();
    }
    for pair in pairs {
        pair.close().await;
    }
    Ok(took[1] - took[0])
}
