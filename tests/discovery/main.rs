//! Sessions on the local network: announced by one app, listed by another, and joined. All of it on the loopback
//! interface, or in network namespaces of its own.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod responder;
#[path = "../support/mod.rs"]
mod support;

use std::{
    io::{BufRead, BufReader, Write},
    net::Ipv4Addr,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bevy::{app::ScheduleRunnerPlugin, prelude::*};
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, record, update_until},
};
use responder::{Responder, announcement, strings};
use support::StandaloneRelay;

const PATIENCE: Duration = Duration::from_secs(60);
/// A session is taken off the list within this time after its goodbye, which mDNS has be heard for a second. Silence
/// takes longer, also where all is on one machine.
const GOODBYE: Duration = Duration::from_millis(2900);

/// What one test sends, the browsers of all others hear: those that send too much have it for themselves.
static NETWORK: RwLock<()> = RwLock::new(());

fn beside_others() -> RwLockReadGuard<'static, ()> {
    NETWORK.read().unwrap_or_else(PoisonError::into_inner)
}

fn alone() -> RwLockWriteGuard<'static, ()> {
    NETWORK.write().unwrap_or_else(PoisonError::into_inner)
}

/// A game that no other test, and no other run of this one, announces.
fn game(test: &str) -> String {
    format!("{test} {}", std::process::id())
}

fn host_app(game: &str, name: &str) -> App {
    let mut app = TestNetwork::loopback().app();
    app.world_mut().spawn((UhstHost::any_id().max_peers(3), UhstAnnouncement::new(game, name)));
    app
}

fn browser_app(game: &str) -> App {
    let mut app = TestNetwork::loopback().app();
    app.world_mut().spawn(UhstBrowser::new(game));
    app
}

/// Names and players of the sessions that an app lists.
fn listed(app: &mut App) -> Vec<(String, u16)> {
    let mut sessions = app.world_mut().query::<&DiscoveredSession>();
    let mut listed: Vec<_> =
        sessions.iter(app.world()).map(|session| (session.name.clone(), session.players)).collect();
    listed.sort();
    listed
}

fn lists(app: &mut App, expected: &[(&str, u16)]) -> bool {
    listed(app).iter().map(|(name, players)| (name.as_str(), *players)).eq(expected.iter().copied())
}

fn diagnostics(app: &App) -> usize {
    TestLog::of(app).count(|event| matches!(event, TestEvent::Diagnostic(_)))
}

/// What a click on the only entry of a list does.
fn click(app: &mut App) -> Entity {
    let mut sessions = app.world_mut().query::<&DiscoveredSession>();
    let link = sessions.single(app.world()).unwrap().link.clone();
    app.world_mut().spawn(UhstClient::from(link)).id()
}

fn is_connected(app: &App, client: Entity) -> bool {
    app.world().get::<UhstClient>(client).is_some_and(UhstClient::is_connected)
}

#[test]
fn a_session_is_found_joined_followed_and_gone() {
    let _beside_others = beside_others();
    let game = game("found");
    let (mut host, mut browser) = (host_app(&game, "Ada’s round"), browser_app(&game));
    // One of another game, which is none of ours.
    let mut other = host_app("another game", "Ben’s round");
    // A second list in the same app, of its own entities.
    browser.world_mut().spawn(UhstBrowser::new(&game));
    let apps = &mut [&mut host, &mut browser, &mut other];
    assert!(update_until(apps, PATIENCE, |apps| lists(apps[1], &[("Ada’s round", 1), ("Ada’s round", 1)])));
    let mut query = browser.world_mut().query_filtered::<Entity, With<UhstBrowser>>();
    let second = query.iter(browser.world()).last().unwrap();
    browser.world_mut().despawn(second);
    assert!(lists(&mut browser, &[("Ada’s round", 1)]));

    let mut sessions = browser.world_mut().query::<(Entity, &DiscoveredSession)>();
    let (entity, session) = sessions.single(browser.world()).unwrap();
    assert_eq!((session.max_players, session.needs_password, session.is_full()), (4, false, false));
    let client = click(&mut browser);
    let apps = &mut [&mut host, &mut browser];
    assert!(update_until(apps, PATIENCE, |apps| is_connected(apps[1], client) && lists(apps[1], &[("Ada’s round", 2)])));
    // In place: whatever a game has put on the entity is still there.
    assert!(browser.world().get::<DiscoveredSession>(entity).is_some());

    browser.world_mut().despawn(client);
    let apps = &mut [&mut host, &mut browser];
    assert!(update_until(apps, PATIENCE, |apps| lists(apps[1], &[("Ada’s round", 1)])));

    let mut hosts = host.world_mut().query_filtered::<Entity, With<UhstHost>>();
    let session = hosts.single(host.world()).unwrap();
    host.world_mut().despawn(session);
    let goodbye = Instant::now();
    assert!(update_until(&mut [&mut host, &mut browser], PATIENCE, |apps| lists(apps[1], &[])));
    assert!(goodbye.elapsed() < GOODBYE, "by a goodbye, not by silence: {:?}", goodbye.elapsed());
}

#[test]
fn a_relay_that_is_not_the_host_is_named() {
    let _beside_others = beside_others();
    let game = game("relay");
    let relay = StandaloneRelay::start();
    let url: url::Url = format!("http://{}/", relay.address()).parse().unwrap();
    let mut host = TestNetwork::loopback().app();
    let session = UhstHost::new("here").relay(Relay::Url(url.to_string())).password("swordfish");
    host.world_mut().spawn((session, UhstAnnouncement::new(&game, "elsewhere").local_players(0)));
    let mut browser = browser_app(&game);
    assert!(update_until(&mut [&mut host, &mut browser], PATIENCE, |apps| lists(apps[1], &[("elsewhere", 0)])));
    let mut sessions = browser.world_mut().query::<&DiscoveredSession>();
    let session = sessions.single(browser.world()).unwrap();
    assert_eq!((&session.link, session.needs_password), (&JoinLink { relay: Some(url), id: "here".to_owned() }, true));
}

#[test]
fn what_strangers_announce_is_ignored_and_reported_once() {
    let _alone = alone();
    let game = game("strangers");
    let mut browser = browser_app(&game);
    // A good announcement in the same bytes shows that they are read at all.
    let stranger = Responder::on(Ipv4Addr::LOCALHOST);
    announce_nonsense(&stranger, &game);
    assert!(is_listed(&mut browser, &stranger, &game, "good"));
    announce_nonsense(&stranger, &game);
    // Whatever is sent after it is read after it.
    assert!(is_listed(&mut browser, &stranger, &game, "renamed"), "{:?}", listed(&mut browser));
    assert_eq!(diagnostics(&browser), 1, "{:?}", TestLog::of(&browser));
}

/// Announces one session under this name, every so often, until it is all that is listed.
fn is_listed(browser: &mut App, stranger: &Responder, game: &str, name: &str) -> bool {
    let strings = strings(game, name, &[]);
    let strings: Vec<&[u8]> = strings.iter().map(Vec::as_slice).collect();
    let mut due = Instant::now();
    update_until(&mut [browser], PATIENCE, |apps| {
        if Instant::now() >= due {
            due += Duration::from_millis(200);
            stranger.announce("good", 3000, &strings);
        }
        lists(apps[0], &[(name, 1)])
    })
}

#[test]
fn a_flood_of_sessions_is_bounded_and_the_first_stays() {
    let _alone = alone();
    let game = game("flood");
    let (mut host, mut browser) = (host_app(&game, "Ada’s round"), browser_app(&game));
    let apps = &mut [&mut host, &mut browser];
    assert!(update_until(apps, PATIENCE, |apps| lists(apps[1], &[("Ada’s round", 1)])));
    let stranger = Responder::on(Ipv4Addr::LOCALHOST);
    for number in 0..5000 {
        let name = format!("flood {number}");
        let flood = strings(&game, &name, &[]);
        let strings: Vec<&[u8]> = flood.iter().map(Vec::as_slice).collect();
        stranger.announce(&format!("flood{number}"), 3000, &strings);
        if number % 100 == 0 {
            host.update();
            browser.update();
            assert!(listed(&mut browser).len() <= 256);
        }
    }
    assert!(update_until(&mut [&mut host, &mut browser], PATIENCE, |apps| {
        assert!(listed(apps[1]).len() <= 256);
        diagnostics(apps[1]) > 0
    }));
    assert!(listed(&mut browser).contains(&("Ada’s round".to_owned(), 1)));
    // Once for the crowd, once for the flood.
    assert!(diagnostics(&browser) <= 2, "{:?}", TestLog::of(&browser));
    // Long after, only who still beats is there.
    assert!(update_until(&mut [&mut host, &mut browser], PATIENCE, |apps| lists(apps[1], &[("Ada’s round", 1)])));
}

/// Everything that may be wrong with an announcement.
fn announce_nonsense(stranger: &Responder, game: &str) {
    let long = [b'x'; 250];
    let wrong: [(&str, &[u8]); 12] = [
        ("uhst", b"999"),
        ("uhst", b"-1"),
        ("name", &[0xff, 0xfe, 0x00]),
        ("name", &long),
        ("id", b""),
        ("players", b"5"),
        ("players", b"99999999999999999999"),
        ("limit", b"65536"),
        ("password", b"maybe"),
        ("relay", b"file:///etc/passwd"),
        ("relay", b"http://0.0.0.0/"),
        ("game", &long),
    ];
    for (number, wrong) in wrong.into_iter().enumerate() {
        let wrong = strings(game, "wrong", &[wrong]);
        let strings: Vec<&[u8]> = wrong.iter().map(Vec::as_slice).collect();
        stranger.announce(&format!("wrong{number}"), 3000, &strings);
    }
    stranger.announce("empty", 3000, &[]);
    stranger.announce("keys", 3000, &[b"=", b"==", b"no value", b"\xff=\xff"]);
    // A port that nobody listens on, and addresses that are nobody's business.
    let good = strings(game, "wrong", &[]);
    let good: Vec<&[u8]> = good.iter().map(Vec::as_slice).collect();
    stranger.announce("port", 0, &good);
    for (number, address) in
        [[8, 8, 8, 8], [0, 0, 0, 0], [255, 255, 255, 255], [224, 0, 0, 251]].into_iter().enumerate()
    {
        stranger.send(&announcement(&format!("address{number}"), 3000, address.into(), &good));
    }
    // No DNS at all, or the beginning of some.
    let whole = announcement("cut", 3000, Ipv4Addr::LOCALHOST, &good);
    for end in (0..whole.len()).step_by(7) {
        stranger.send(&whole[..end]);
    }
    stranger.send(&[0xff; 1400]);
}

/// A host in a process of its own. Killed when dropped.
struct HostProcess(Child, Option<ChildStdin>);

impl HostProcess {
    fn start(mut command: Command, game: &str, name: &str, on_every_address: bool) -> Self {
        let child = command
            .args(["--exact", "a_host_for_the_other_tests", "--ignored", "--nocapture"])
            .env("UHST_GAME", game)
            .env("UHST_NAME", name)
            .env("UHST_EVERYWHERE", if on_every_address { "1" } else { "" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program of this test");
        HostProcess(child, None)
    }

    fn go(&mut self) {
        let mut stdin = self.0.stdin.take().unwrap();
        stdin.write_all(b"go\n").unwrap();
        self.1 = Some(stdin);
        let mut lines = BufReader::new(self.0.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line.contains("hosting"))), "it does not host");
        // Whatever else it says has somewhere to go.
        std::thread::spawn(move || lines.for_each(drop));
    }

    /// Has it exit by itself, as a player closes a game.
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
#[ignore = "a process that other tests start, and kill"]
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
    // Its parent closes it.
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
        // Nothing of it runs any more.
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

/// By an `AppExit`, or because its app is dropped, on a runtime of its own or not.
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
    assert!(after < GOODBYE, "{end}: by a goodbye, not by silence: {after:?}");
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
    assert_eq!(strangers, ["lo"], "to be run in a network namespace of its own");
    let game = game("namespaces");
    let mut elsewhere = Command::new("unshare");
    elsewhere.arg("--net").arg(std::env::current_exe().unwrap());
    let mut host = HostProcess::start(elsewhere, &game, "next door", true);
    let pid = host.0.id();
    // Once it is in a namespace of its own.
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
    // The cable stays in when the host is killed: that is silence, not a machine that is gone.
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

/// The interfaces of this machine.
fn if_addrs() -> Vec<String> {
    let devices = std::fs::read_to_string("/proc/net/dev").unwrap();
    devices.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}
