//! Every way in which an app ends, and the events of its peers.

mod support;

use std::{
    io::{BufRead, BufReader, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use bevy::{app::AppExit, ecs::schedule::ScheduleLabel, prelude::*};
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, update_until},
};
use support::{PATIENCE, ended};

/// Sends ten messages to everyone.
fn last_words(host: &mut App) {
    let world = host.world_mut();
    let host = world.query::<&UhstHost>().single(world).expect("one host");
    for number in 0..10 {
        assert!(host.broadcast(number.to_string()).is_complete());
    }
}

/// Checks that the messages before the end arrive, and then the end with its reason.
#[track_caller]
fn assert_goodbye(way: &str, client: &mut App) {
    let in_time = update_until(&mut [client], PATIENCE, |apps| !ended(apps[0]).is_empty());
    assert!(in_time, "{way}: no end; {:?}", TestLog::of(client));
    let words: Vec<_> = (0..10).map(|number: u32| number.to_string()).collect();
    assert_eq!(TestLog::of(client).texts(), words, "{way}");
    assert_eq!(ended(client), [EndReason::Left], "{way}");
}

/// Ends a host in this way after it has sent its last messages.
#[track_caller]
fn host_ends(way: &str, end: impl FnOnce(App)) {
    let (mut host, mut client) = TestNetwork::memory().pair("game");
    last_words(&mut host);
    end(host);
    assert_goodbye(way, &mut client);
}

#[test_log::test]
fn leaving_and_despawning_are_goodbyes() {
    let goes_on_until_ended = |mut host: App| {
        assert!(update_until(&mut [&mut host], PATIENCE, |apps| !ended(apps[0]).is_empty()));
        assert_eq!(ended(&host), [EndReason::EndedLocally]);
    };
    host_ends("leave", |mut host| {
        let world = host.world_mut();
        world.query::<&UhstHost>().single(world).expect("one host").leave();
        goes_on_until_ended(host);
    });
    host_ends("despawn", |mut host| {
        let world = host.world_mut();
        let session = world.query_filtered::<Entity, With<UhstHost>>().single(world).expect("one host");
        world.despawn(session);
        goes_on_until_ended(host);
    });
}

fn exit_in(schedule: impl ScheduleLabel) -> impl FnOnce(App) {
    move |mut app| {
        app.add_systems(schedule, |mut exit: MessageWriter<AppExit>| {
            exit.write(AppExit::Success);
        });
        app.run();
    }
}

#[test_log::test]
fn an_exit_is_a_goodbye_whichever_schedule_asks_for_it() {
    host_ends("First", exit_in(First));
    host_ends("PreUpdate", exit_in(PreUpdate));
    host_ends("FixedUpdate", exit_in(FixedUpdate));
    host_ends("Update", exit_in(Update));
    host_ends("PostUpdate", exit_in(PostUpdate));
    host_ends("Last", exit_in(Last));
    host_ends("Last, after the plugin's own systems", |mut app| {
        let exit = |mut exit: MessageWriter<AppExit>| {
            exit.write(AppExit::Success);
        };
        app.add_systems(Last, exit.after(UhstSystems::Cleanup));
        app.run();
    });
}

#[test_log::test]
fn a_runner_that_returns_is_a_goodbye() {
    host_ends("a runner of the game's own", |mut app| {
        app.set_runner(|mut app| {
            app.update();
            AppExit::Success
        });
        app.run();
    });
    host_ends("dropped", drop);
    host_ends("a panic in a system", |mut app| {
        app.add_systems(Update, || panic!("on purpose"));
        assert!(catch_unwind(AssertUnwindSafe(|| app.run())).is_err());
    });
    host_ends("a panic beside the app", |app| {
        let panics = move || {
            let _app = app;
            panic!("on purpose");
        };
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    });
}

/// The network is too slow for what was sent before.
#[test_log::test]
fn an_exit_that_gives_up_is_a_goodbye() {
    let slow = NetworkConditions { bandwidth: Some(10_000), ..NetworkConditions::PERFECT };
    let network = TestNetwork::memory();
    let mut host = network.host_with(UhstHost::new("game").conditions(slow));
    let mut client = network.join(&host);
    let connected = |event: &TestEvent| matches!(event, TestEvent::Connected(_));
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| {
        apps.iter().all(|app| TestLog::of(app).has(connected))
    }));
    let world = host.world_mut();
    let session = world.query::<&UhstHost>().single(world).expect("one host");
    assert!(session.broadcast(vec![0; 1 << 20]).is_complete());
    drop(host);
    assert!(update_until(&mut [&mut client], PATIENCE, |apps| !ended(apps[0]).is_empty()));
    assert_eq!(ended(&client), [EndReason::Left]);
    assert!(!TestLog::of(&client).has(|event| matches!(event, TestEvent::Message(_))));
}

#[test_log::test]
fn a_client_that_is_dropped_says_goodbye() {
    let (mut host, mut client) = TestNetwork::memory().pair("game");
    let world = client.world_mut();
    let session = world.query::<&UhstClient>().single(world).expect("one client");
    for number in 0..10 {
        session.send(number.to_string()).expect("room for it");
    }
    drop(client);
    let left = |event: &TestEvent| matches!(event, TestEvent::Disconnected(end) if end.reason == EndReason::Left);
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| TestLog::of(apps[0]).has(left)));
    assert_eq!(TestLog::of(&host).texts().len(), 10);
}

/// A host on a runtime of the game's own, and a client.
fn pair_on(runtime: &tokio::runtime::Handle) -> (App, App) {
    let network = TestNetwork::memory();
    let mut host = App::new();
    let plugin = UhstPlugin::host("game").relay(network.relay()).runtime(runtime.clone());
    host.add_plugins((MinimalPlugins, plugin));
    bevy_uhst::test_app::record(&mut host);
    let ready = |event: &TestEvent| matches!(event, TestEvent::Ready(_));
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| TestLog::of(apps[0]).has(ready)));
    let mut client = network.join(&host);
    let connected = |event: &TestEvent| matches!(event, TestEvent::Connected(_));
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| {
        apps.iter().all(|app| TestLog::of(app).has(connected))
    }));
    (host, client)
}

#[test_log::test]
fn an_app_on_a_runtime_of_its_own_says_goodbye_before_both_are_gone() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (mut host, mut client) = pair_on(runtime.handle());
    last_words(&mut host);
    drop(host);
    runtime.shutdown_background();
    assert_goodbye("a runtime with threads", &mut client);
}

#[test_log::test]
fn an_app_on_the_only_thread_of_its_runtime_does_not_wait_for_itself() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let handle = runtime.handle().clone();
    let (stop, driver) = drive(runtime);
    let (mut host, mut client) = pair_on(&handle);
    last_words(&mut host);
    drop(stop);
    let runtime = driver.join().expect("no panic");
    let begun = Instant::now();
    runtime.block_on(async { drop(host) });
    assert!(begun.elapsed() < Duration::from_millis(400), "it waited for {:?}", begun.elapsed());
    // The thread is free from here on.
    let (stop, _driver) = drive(runtime);
    assert_goodbye("the only thread", &mut client);
    drop(stop);
}

type Runtime = tokio::runtime::Runtime;

/// Runs a runtime on a thread until the returned sender is dropped.
fn drive(runtime: Runtime) -> (tokio::sync::oneshot::Sender<()>, std::thread::JoinHandle<Runtime>) {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let driver = std::thread::spawn(move || {
        let _: Result<(), _> = runtime.block_on(stopped);
        runtime
    });
    (stop, driver)
}

#[test_log::test]
fn an_app_whose_runtime_is_gone_does_not_wait_for_it() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (host, _client) = pair_on(runtime.handle());
    runtime.shutdown_timeout(Duration::from_secs(1));
    let begun = Instant::now();
    drop(host);
    assert!(begun.elapsed() < Duration::from_millis(400), "it waited for {:?}", begun.elapsed());
}

/// The environment variable with the way in which a child process ends. With it, the process hosts.
const CHILD: &str = "UHST_TEST_EXIT";

/// Hosts in this process until something ends it, if a test has started this process for that.
#[test]
fn child() {
    let Ok(way) = std::env::var(CHILD) else { return };
    let mut app = App::new();
    let relay = Relay::Embedded(EmbeddedRelay {
        bind: ([127, 0, 0, 1], 0).into(),
        port_attempts: 1,
        ..EmbeddedRelay::default()
    });
    let plugin = UhstPlugin::host("game").relay(relay).ice_servers([]);
    let plugin = if way == "handled" { plugin.exit_on_signals() } else { plugin };
    if way == "Ctrl+C" {
        // One of Bevy's `DefaultPlugins`.
        app.add_plugins(bevy::app::TerminalCtrlCHandlerPlugin);
    }
    // The process ends once the test writes to its input, or closes it.
    let end: Option<fn() -> !> = match way.as_str() {
        "exit" => Some(|| std::process::exit(0)),
        "abort" => Some(|| std::process::abort()),
        _ => None,
    };
    if let Some(end) = end {
        std::thread::spawn(move || {
            let _ = std::io::stdin().read(&mut [0]);
            end()
        });
    }
    #[cfg(feature = "discovery")]
    let plugin = plugin.discovery(Discovery::ThisMachine);
    app.add_plugins((MinimalPlugins, plugin))
        .add_observer(|ready: On<UhstReady>| println!("link {}", ready.links[0]))
        .add_observer(|connected: On<UhstConnected>, peers: Query<&UhstPeer>| {
            for number in 0..10 {
                peers.get(connected.entity).expect("a peer").send(number.to_string()).expect("room for it");
            }
        })
        .add_systems(Update, || std::thread::sleep(Duration::from_millis(5)));
    app.run();
}

struct Host {
    process: Child,
    link: String,
    /// Kept open, so that the process can print more.
    _output: BufReader<ChildStdout>,
}

impl Host {
    fn start(way: &str) -> Self {
        let this_test = std::env::current_exe().expect("this test");
        let mut process = if cfg!(target_os = "linux") {
            // A job in the background of a script inherits that SIGINT is ignored, and one of `nohup` SIGHUP.
            let mut process = Command::new("env");
            process.arg("--default-signal=INT,HUP,TERM").arg(this_test);
            process
        } else {
            Command::new(this_test)
        };
        let mut process = process
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(CHILD, way)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test starts");
        let mut output = BufReader::new(process.stdout.take().expect("piped"));
        let lines = output.by_ref().lines().map_while(Result::ok);
        // The name of the test stands before the first line.
        let link = lines.filter_map(|line| Some(line.split_once("link ")?.1.to_owned())).next();
        Host { process, link: link.expect("a link"), _output: output }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.expect("`kill` is there").success());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Creates a client that is connected to a host in another process, and has received its messages.
fn join(host: &Host, config: ConnectionConfig) -> App {
    let mut client = TestNetwork::loopback().join_with(UhstClient::join(host.link.clone()).connection(config));
    assert!(update_until(&mut [&mut client], PATIENCE, |apps| TestLog::of(apps[0]).texts().len() == 10));
    client
}

#[cfg(unix)]
#[test_log::test]
fn signals_that_stop_a_server_are_goodbyes() {
    for (way, signal) in [("handled", "-TERM"), ("handled", "-HUP"), ("handled", "-INT"), ("Ctrl+C", "-INT")] {
        let mut host = Host::start(way);
        let mut client = join(&host, ConnectionConfig::default());
        host.signal(signal);
        assert_goodbye(signal, &mut client);
        let status = host.process.wait().expect("it ends");
        // The test in that process passed.
        assert!(status.success(), "{way}, {signal}: {status}");
    }
}

#[cfg(unix)]
#[test_log::test]
fn a_process_that_is_ended_without_a_word_is_missed() {
    let impatient = ConnectionConfig {
        timeout: Duration::from_millis(500),
        resume_timeout: Duration::from_secs(1),
        ..ConnectionConfig::default()
    };
    let signals = [("handled", Some("-KILL")), ("not handled", Some("-TERM")), ("not handled", Some("-INT"))];
    for (way, signal) in signals.into_iter().chain([("exit", None), ("abort", None)]) {
        let mut host = Host::start(way);
        let mut client = join(&host, impatient.clone());
        match signal {
            Some(signal) => host.signal(signal),
            None => drop(host.process.stdin.take()),
        }
        assert!(update_until(&mut [&mut client], PATIENCE, |apps| !ended(apps[0]).is_empty()));
        assert_eq!(ended(&client), [EndReason::TimedOut], "{way}, {signal:?}");
    }
}
