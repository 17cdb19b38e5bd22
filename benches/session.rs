//! What players feel: how long a join takes, and how long an echo, between two apps over the embedded relay on
//! loopback. `cargo bench --bench session`

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, link, update_until},
};

const JOINS: usize = 50;
const ECHOES: usize = 300;
const PATIENCE: Duration = Duration::from_secs(20);
const FRAME: Duration = Duration::from_micros(16_667);

/// How the host's app is updated.
const AT_ONCE: u8 = 0;
const PACED: u8 = 1;
const STOP: u8 = 2;

fn main() {
    let pace = Arc::new(AtomicU8::new(AT_ONCE));
    let (sender, links) = channel();
    let host = thread::spawn({
        let pace = pace.clone();
        move || host(&pace, &sender)
    });
    let link = links.recv().expect("the host is ready");
    let join = |paths| {
        let start = Instant::now();
        let mut client = TestNetwork::loopback().paths(paths).join_with(UhstClient::from(link.clone()));
        assert!(update_until(&mut [&mut client], PATIENCE, |apps| {
            TestLog::of(apps[0]).has(|event| matches!(event, TestEvent::Connected(_)))
        }));
        (start.elapsed(), client)
    };

    let joins = (0..JOINS).map(|_| {
        let (time, mut client) = join(PathPolicy::RelayOnly);
        leave(&mut client);
        time
    });
    print("join to connected", joins.collect());
    let direct = (0..JOINS).map(|_| {
        let (_, mut client) = join(PathPolicy::Automatic);
        let start = Instant::now();
        await_direct(&mut client);
        leave(&mut client);
        start.elapsed()
    });
    print("connected to direct", direct.collect());

    for (paths, name) in [(PathPolicy::RelayOnly, "relay"), (PathPolicy::Automatic, "direct")] {
        let (_, mut client) = join(paths);
        if paths == PathPolicy::Automatic {
            await_direct(&mut client);
        }
        pace.store(AT_ONCE, Ordering::Relaxed);
        let echoes = (0..ECHOES).map(|number| echo(&mut client, number, None)).collect();
        print(&format!("echo, {name}, updated as messages come"), echoes);
        pace.store(PACED, Ordering::Relaxed);
        let echoes = (ECHOES..2 * ECHOES).map(|number| echo(&mut client, number, Some(FRAME))).collect();
        print(&format!("echo, {name}, both at 60 frames a second"), echoes);
        leave(&mut client);
    }
    pace.store(STOP, Ordering::Relaxed);
    host.join().expect("the host ends");
}

fn leave(client: &mut App) {
    client.world_mut().write_message(AppExit::Success);
    client.update();
}

fn await_direct(client: &mut App) {
    assert!(update_until(&mut [client], PATIENCE, |apps| {
        let world = apps[0].world_mut();
        world.query::<&UhstPeer>().iter(world).any(|peer| peer.path() == Path::Direct)
    }));
}

/// Says everything back, in an app and on a thread of its own.
fn host(pace: &AtomicU8, links: &Sender<JoinLink>) {
    let mut app = TestNetwork::loopback().host("bench");
    app.add_systems(Update, |mut messages: MessageReader<UhstMessage>, peers: Query<&UhstPeer>| -> Result {
        for message in messages.read() {
            peers.get(message.peer)?.send_on(message.channel, message.payload.clone())?;
        }
        Ok(())
    });
    links.send(link(&app)).expect("somebody waits for it");
    loop {
        match pace.load(Ordering::Relaxed) {
            AT_ONCE => drop(update_until(&mut [&mut app], FRAME, |_| pace.load(Ordering::Relaxed) != AT_ONCE)),
            PACED => frame(&mut app, FRAME),
            _ => break,
        }
    }
}

fn frame(app: &mut App, length: Duration) {
    let start = Instant::now();
    app.update();
    thread::sleep(length.saturating_sub(start.elapsed()));
}

/// One message there and back; with a pace, until the frame that can read it has passed.
fn echo(client: &mut App, number: usize, pace: Option<Duration>) -> Duration {
    let start = Instant::now();
    let peer = client.world_mut().query::<&UhstPeer>().single(client.world()).expect("the host");
    peer.send(number.to_be_bytes()).expect("room for it");
    let echoes = |app: &App| TestLog::of(app).count(|event| matches!(event, TestEvent::Message(_)));
    match pace {
        None => assert!(update_until(&mut [client], PATIENCE, |apps| echoes(apps[0]) > number)),
        Some(pace) => {
            while echoes(client) <= number {
                frame(client, pace);
            }
        }
    }
    start.elapsed()
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1000.0;
    println!("{what:<45} p50 {:>7.2} ms   p99 {:>7.2} ms", at(50), at(99));
}
