//! Many clients with direct paths join and leave, and no resources remain. The tests count those of the whole process, so
//! that each runs alone in it: `cargo test --test churn -- --ignored --test-threads=1`.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy_uhst::{
    EmbeddedRelay,
    prelude::*,
    test_app::{TestEvent, TestLog, link, record, update_until},
};
use support::disconnected;
use tokio::runtime::{Builder, Runtime};

const PATIENCE: Duration = Duration::from_secs(60);

/// The resources of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    tasks: usize,
    sockets: usize,
    threads: usize,
}

fn open(runtime: &Runtime) -> Open {
    let is_socket = |file: &std::fs::DirEntry| {
        std::fs::read_link(file.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    let sockets = std::fs::read_dir("/proc/self/fd").unwrap().flatten().filter(is_socket).count();
    Open { tasks: runtime.metrics().num_alive_tasks(), sockets, threads: status("Threads:") }
}

fn status(key: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Waits until no more is open than this, since sockets of finished requests are closed a little later.
fn returns_to(before: Open, runtime: &Runtime, apps: &mut [&mut App]) -> Open {
    update_until(apps, PATIENCE, |_| {
        let now = open(runtime);
        now.tasks <= before.tasks && now.sockets <= before.sockets && now.threads <= before.threads
    });
    open(runtime)
}

fn app(runtime: &Runtime) -> App {
    let mut app = App::new();
    let plugin = UhstPlugin::default().ice_servers([]).runtime(runtime.handle().clone());
    app.add_plugins((MinimalPlugins, plugin));
    record(&mut app);
    app
}

fn host(runtime: &Runtime) -> App {
    let mut host = app(runtime);
    let relay = EmbeddedRelay { bind: ([127, 0, 0, 1], 0).into(), port_attempts: 1, ..EmbeddedRelay::default() };
    host.world_mut().spawn(UhstHost::new("churn").relay(Relay::Embedded(relay)));
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| {
        TestLog::of(apps[0]).has(|event| matches!(event, TestEvent::Ready(_)))
    }));
    host
}

fn has_become_direct(app: &App) -> bool {
    TestLog::of(app).has(|event| matches!(event, TestEvent::PathChanged(change) if change.path == Path::Direct))
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
#[ignore = "heavy, and counts what the whole process has open"]
fn thirty_two_apps_join_at_once_all_direct_and_all_leave() {
    const CLIENTS: usize = 32;
    let runtime = runtime();
    let mut host = host(&runtime);
    let before = open(&runtime);
    let mut clients: Vec<App> = (0..CLIENTS).map(|_| app(&runtime)).collect();
    let target = link(&host);
    let begun = Instant::now();
    for client in &mut clients {
        client.world_mut().spawn(UhstClient::from(target.clone()));
    }
    let mut apps: Vec<&mut App> = std::iter::once(&mut host).chain(&mut clients).collect();
    let direct = update_until(&mut apps, PATIENCE, |apps| apps[1..].iter().all(|app| has_become_direct(app)));
    assert!(direct, "{} of {CLIENTS}", apps[1..].iter().filter(|app| has_become_direct(app)).count());
    let during = open(&runtime);
    eprintln!("{CLIENTS} apps were direct after {:?}; {during:?}, resident {} kB", begun.elapsed(), status("VmRSS:"));
    for client in &mut clients {
        client.world_mut().write_message(AppExit::Success);
        client.update();
    }
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| disconnected(apps[0]).len() == CLIENTS));
    assert!(disconnected(&host).iter().all(|reason| *reason == EndReason::Left), "{:?}", disconnected(&host));
    drop(clients);
    let after = returns_to(before, &runtime, &mut [&mut host]);
    eprintln!("before {before:?}, after {after:?}");
    assert!(after.tasks <= before.tasks && after.sockets <= before.sockets && after.threads <= before.threads);
}

#[test]
#[ignore = "heavy, and counts what the whole process has open"]
fn two_hundred_joins_and_leaves_leave_nothing() {
    const ROUNDS: usize = 10;
    const JOINS: usize = 20;
    /// What an allocator may keep for itself, in kB.
    const SLACK: usize = 8 << 10;
    let runtime = runtime();
    let mut host = host(&runtime);
    let mut client = app(&runtime);
    let mut first: Option<(Open, usize)> = None;
    for round in 0..ROUNDS {
        for _ in 0..JOINS {
            let session = client.world_mut().spawn(UhstClient::from(link(&host))).id();
            assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| has_become_direct(apps[1])));
            client.world_mut().despawn(session);
            assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| disconnected(apps[0]).len() == 1));
            for app in [&mut host, &mut client] {
                app.world_mut().resource_mut::<TestLog>().0.clear();
            }
        }
        let before = first.map_or_else(|| open(&runtime), |(before, _)| before);
        // The first round is measured once all of it is gone.
        let settled = Instant::now();
        let mut now = returns_to(before, &runtime, &mut [&mut host, &mut client]);
        while first.is_none() && settled.elapsed() < Duration::from_secs(6) {
            now = returns_to(now, &runtime, &mut [&mut host, &mut client]);
            std::thread::sleep(Duration::from_millis(50));
        }
        let memory = status("VmRSS:");
        eprintln!("round {round}: {now:?}, resident {memory} kB");
        let (before, resident) = *first.get_or_insert((now, memory));
        assert!(now.tasks <= before.tasks && now.sockets <= before.sockets && now.threads <= before.threads);
        assert!(memory <= resident + SLACK, "{memory} kB, {resident} kB after the first round");
    }
}
