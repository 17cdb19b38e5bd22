//! Hosts in separate processes, on this machine and in another network namespace.

use std::{
    io::{BufRead, BufReader, Write},
    net::Ipv4Addr,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bevy::{app::ScheduleRunnerPlugin, prelude::*};
use bevy_uhst::{
    prelude::*,
    test_app::{TestLog, TestNetwork, record, update_until},
};

use crate::{
    GOODBYE, PATIENCE, announce_nonsense, beside_others, browser_app, click, diagnostics, game, is_connected, lists,
    responder::Responder,
};

/// A host in a separate process, which dropping it kills.
struct HostProcess(Child, Option<ChildStdin>);

impl HostProcess {
    fn start(mut command: Command, game: &str, name: &str, on_every_address: bool) -> Self {
        let child = command
            .args(["--exact", "processes::a_host_for_the_other_tests", "--ignored", "--nocapture"])
            .env("UHST_GAME", game)
            .env("UHST_NAME", name)
            .env("UHST_EVERYWHERE", if on_every_address { "1" } else { "" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test binary starts");
        HostProcess(child, None)
    }

    fn go(&mut self) {
        let mut stdin = self.0.stdin.take().unwrap();
        stdin.write_all(b"go\n").unwrap();
        self.1 = Some(stdin);
        let mut lines = BufReader::new(self.0.stdout.take().unwrap()).lines();
        assert!(
            lines.any(|line| line.is_ok_and(|line| line.contains("hosting"))),
            "the process ended before it hosted"
        );
        // The process must not block on further output.
        std::thread::spawn(move || lines.for_each(drop));
    }

    /// Lets the process exit by itself, as when a player closes the game.
    fn close(&mut self) {
        self.1 = None;
        assert!(self.0.wait().unwrap().success());
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
#[ignore = "other tests start it in a separate process"]
fn a_host_for_the_other_tests() {
    let (Ok(game), Ok(name)) = (std::env::var("UHST_GAME"), std::env::var("UHST_NAME")) else { return };
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let mut app = App::new();
    let mut plugin = UhstPlugin::default().ice_servers([]);
    if std::env::var("UHST_EVERYWHERE").is_ok_and(|value| value.is_empty()) {
        plugin = plugin.relay(TestNetwork::loopback().relay()).discovery(Discovery::ThisMachine);
    }
    let end = std::env::var("UHST_END").unwrap_or_default();
    let runtime = (end == "drop on a runtime").then(|| tokio::runtime::Runtime::new().unwrap());
    if let Some(runtime) = &runtime {
        plugin = plugin.runtime(runtime.handle().clone());
    }
    let closed = Arc::new(AtomicBool::new(false));
    let seen = closed.clone();
    // The parent process closes standard input to end this process.
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        seen.store(true, Ordering::Relaxed);
    });
    app.add_plugins((MinimalPlugins.set(ScheduleRunnerPlugin::run_loop(Duration::from_millis(10))), plugin))
        .add_observer(|_: On<UhstReady>| println!("hosting"));
    app.world_mut().spawn((UhstHost::any_id().max_peers(3), UhstAnnouncement::new(game, name)));
    if end.starts_with("drop") {
        while !closed.load(Ordering::Relaxed) {
            app.update();
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(app);
        // No task of the app runs after the drop.
        std::process::exit(0);
    }
    app.add_systems(Update, move |mut exit: MessageWriter<AppExit>| {
        if closed.load(Ordering::Relaxed) {
            exit.write(AppExit::Success);
        }
    });
    app.run();
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

#[test]
fn a_host_in_another_process_is_joined_and_missed_when_it_is_killed() {
    let _beside_others = beside_others();
    let game = game("processes");
    let mut host = HostProcess::start(this_program(), &game, "next door", false);
    host.go();
    joined_and_missed(&mut browser_app(&game), &mut host);
}

/// The host ends by an `AppExit`, or because its app is dropped, with and without a runtime of the game.
#[test]
fn a_host_that_ends_is_gone_at_once() {
    let _beside_others = beside_others();
    std::thread::scope(|scope| {
        for end in ["exit", "drop", "drop on a runtime"] {
            scope.spawn(move || ends_and_is_gone(end));
        }
    });
}

fn ends_and_is_gone(end: &str) {
    let game = game(end);
    let mut command = this_program();
    command.env("UHST_END", end);
    let mut host = HostProcess::start(command, &game, "next door", false);
    host.go();
    let mut browser = browser_app(&game);
    assert!(update_until(&mut [&mut browser], PATIENCE, |apps| lists(apps[0], &[("next door", 1)])));
    host.close();
    let goodbye = Instant::now();
    assert!(update_until(&mut [&mut browser], PATIENCE, |apps| lists(apps[0], &[])));
    let after = goodbye.elapsed();
    assert!(after < GOODBYE, "{end}: it was removed for its silence, after {after:?}");
}

fn joined_and_missed(browser: &mut App, host: &mut HostProcess) {
    assert!(update_until(&mut [browser], PATIENCE, |apps| lists(apps[0], &[("next door", 1)])));
    let client = click(browser);
    assert!(update_until(&mut [browser], PATIENCE, |apps| is_connected(apps[0], client)));
    assert!(update_until(&mut [browser], PATIENCE, |apps| lists(apps[0], &[("next door", 2)])));
    host.kill();
    let killed = Instant::now();
    assert!(update_until(&mut [browser], PATIENCE, |apps| lists(apps[0], &[])));
    println!("gone {:?} after it was killed", killed.elapsed());
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_host_in_another_network_namespace_is_joined_and_missed_when_it_is_killed() {
    let ip = |arguments: &str| {
        let done = Command::new("ip").args(arguments.split(' ')).status().expect("iproute2 is installed");
        assert!(done.success(), "ip {arguments}");
    };
    let strangers = if_addrs();
    assert_eq!(strangers, ["lo"], "this test needs a network namespace of its own");
    let game = game("namespaces");
    let mut elsewhere = Command::new("unshare");
    elsewhere.arg("--net").arg(std::env::current_exe().unwrap());
    let mut host = HostProcess::start(elsewhere, &game, "next door", true);
    let pid = host.0.id();
    // Waits until the process is in its own namespace.
    let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
    let begun = Instant::now();
    while std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|theirs| theirs == ours) {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    ip(&format!("link add uhst0 type veth peer name uhst1 netns {pid}"));
    ip("address add 10.77.0.1/24 dev uhst0");
    ip("link set uhst0 up");
    let inside = |command: &str| {
        let arguments = format!("-t {pid} -n ip {command}");
        let done = Command::new("nsenter").args(arguments.split(' ')).status().expect("util-linux is installed");
        assert!(done.success(), "nsenter {arguments}");
    };
    inside("link set lo up");
    inside("address add 10.77.0.2/24 dev uhst1");
    inside("link set uhst1 up");
    // This process keeps the namespace when the host is killed, so that the host is silent instead of unreachable.
    let mut cable = Command::new("nsenter");
    cable.args(["-t", &pid.to_string(), "-n", "sleep", "300"]);
    let _cable = HostProcess(cable.spawn().expect("util-linux is installed"), None);
    host.go();

    let mut browser = App::new();
    browser.add_plugins((MinimalPlugins, UhstPlugin::default().ice_servers([])));
    record(&mut browser);
    browser.world_mut().spawn(UhstBrowser::new(&game));
    announce_nonsense(&Responder::on(Ipv4Addr::new(10, 77, 0, 1)), &game);
    assert!(update_until(&mut [&mut browser], PATIENCE, |apps| lists(apps[0], &[("next door", 1)])));
    let mut sessions = browser.world_mut().query::<&DiscoveredSession>();
    let link = &sessions.single(browser.world()).unwrap().link;
    assert_eq!(link.relay.as_ref().and_then(|relay| relay.host_str()), Some("10.77.0.2"));
    joined_and_missed(&mut browser, &mut host);
    assert!(diagnostics(&browser) <= 1, "{:?}", TestLog::of(&browser));
}

/// Returns the names of this machine's interfaces.
fn if_addrs() -> Vec<String> {
    let devices = std::fs::read_to_string("/proc/net/dev").unwrap();
    devices.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}
