//! A peer that is silent or unreachable is interrupted: the events of both sides, the place that it keeps, and its end.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, update_until},
};
use support::{PATIENCE, connected, disconnected, ended, the_peer, until};

const TIMEOUT: Duration = Duration::from_millis(400);
const RESUME_TIMEOUT: Duration = Duration::from_secs(6);

/// An app whose network can be suspended, as its process would be.
struct Sleeper {
    app: App,
    runtime: tokio::runtime::Runtime,
}

impl Sleeper {
    fn new(relay: &MemoryRelay) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = ConnectionConfig { timeout: TIMEOUT, resume_timeout: RESUME_TIMEOUT, ..default() };
        let plugin = UhstPlugin::default()
            .relay(Relay::Memory(relay.clone()))
            .paths(PathPolicy::RelayOnly)
            .connection(config)
            .runtime(runtime.handle().clone());
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, plugin));
        bevy_uhst::test_app::record(&mut app);
        Sleeper { app, runtime }
    }

    fn host(relay: &MemoryRelay, host: UhstHost) -> Self {
        let mut sleeper = Self::new(relay);
        sleeper.app.world_mut().spawn(host);
        let ready = |app: &App| TestLog::of(app).has(|event| matches!(event, TestEvent::Ready(_)));
        assert!(update_until(&mut [&mut sleeper.app], PATIENCE, |apps| ready(apps[0])));
        sleeper
    }

    fn client(relay: &MemoryRelay, client: UhstClient) -> Self {
        let mut sleeper = Self::new(relay);
        sleeper.app.world_mut().spawn(client);
        sleeper
    }

    /// Blocks the only thread of its network for this time.
    fn sleep(&self, time: Duration) {
        self.runtime.spawn(async move { std::thread::sleep(time) });
    }
}

fn pair(host: UhstHost) -> (MemoryRelay, Sleeper, Sleeper) {
    let relay = MemoryRelay::new();
    let mut host = Sleeper::host(&relay, host);
    let mut client = Sleeper::client(&relay, UhstClient::join("demo"));
    until(&mut [&mut host.app, &mut client.app], |apps| apps.iter().all(|app| connected(app) == 1));
    (relay, host, client)
}

/// Returns the events about interruptions, in order.
fn told(app: &App) -> Vec<Option<Interruption>> {
    let told = |event: &TestEvent| match event {
        TestEvent::Interrupted(event) => Some(Some(event.reason)),
        TestEvent::Resumed(_) => Some(None),
        _ => None,
    };
    TestLog::of(app).0.iter().filter_map(told).collect()
}

/// Whether the peer was reachable for those who observed an interruption or its end.
#[derive(Resource, Default)]
struct Seen(Vec<bool>);

fn send(app: &mut App, texts: &[&str]) {
    let peer = the_peer(app);
    let peer = app.world().get::<UhstPeer>(peer).unwrap();
    texts.iter().for_each(|text| peer.send(*text).unwrap());
}

#[test]
fn one_that_sleeps_is_interrupted_at_the_other_and_told_nothing_itself() {
    let (_relay, mut host, mut client) = pair(UhstHost::new("demo"));
    host.app.init_resource::<Seen>();
    host.app.add_observer(|event: On<UhstInterrupted>, peers: Query<&UhstPeer>, mut seen: ResMut<Seen>| {
        seen.0.push(peers.get(event.entity).unwrap().is_reachable());
    });
    host.app.add_observer(|event: On<UhstResumed>, peers: Query<&UhstPeer>, mut seen: ResMut<Seen>| {
        seen.0.push(peers.get(event.entity).unwrap().is_reachable());
    });
    client.sleep(3 * TIMEOUT);
    send(&mut host.app, &["while you sleep"]);
    let apps = &mut [&mut host.app, &mut client.app];
    until(apps, |apps| told(apps[0]).len() == 1);
    let peer = the_peer(apps[0]);
    let of = apps[0].world().get::<UhstPeer>(peer).unwrap();
    assert!(!of.is_reachable() && of.is_open());
    assert!(of.interrupted().is_some() && of.interrupted_time_left().unwrap() > Duration::from_secs(1));
    of.send("and more").unwrap();
    of.send_on(UhstChannel::Unreliable, "dropped").unwrap();
    until(apps, |apps| told(apps[0]).len() == 2 && TestLog::of(apps[1]).texts().len() == 2);
    assert_eq!(told(apps[0]), [Some(Interruption::Silent), None]);
    assert_eq!(apps[0].world().resource::<Seen>().0, [false, true]);
    assert_eq!(told(apps[1]), []);
    assert_eq!(TestLog::of(apps[1]).texts(), ["while you sleep", "and more"]);
    let of = apps[0].world().get::<UhstPeer>(peer).unwrap();
    assert!(of.is_reachable() && of.interrupted().is_none() && of.interrupted_time_left().is_none());
}

#[test]
fn both_may_sleep_for_longer_than_any_timeout() {
    let (_relay, mut host, mut client) = pair(UhstHost::new("demo"));
    let asleep = 2 * RESUME_TIMEOUT;
    host.sleep(asleep);
    client.sleep(asleep);
    send(&mut host.app, &["good morning"]);
    send(&mut client.app, &["to you as well"]);
    let apps = &mut [&mut host.app, &mut client.app];
    until(apps, |apps| apps.iter().all(|app| TestLog::of(app).texts().len() == 1));
    for app in apps {
        assert_eq!(disconnected(app), []);
    }
}

#[test]
fn a_relay_that_is_gone_for_a_while_interrupts_both_and_for_long_ends_both() {
    let (relay, mut host, mut client) = pair(UhstHost::new("demo"));
    let apps = &mut [&mut host.app, &mut client.app];
    relay.stop();
    until(apps, |apps| apps.iter().all(|app| told(app) == [Some(Interruption::NoPath)]));
    for app in apps.iter_mut() {
        send(app, &["kept"]);
    }
    relay.restart();
    until(apps, |apps| apps.iter().all(|app| told(app).len() == 2 && TestLog::of(app).texts() == ["kept"]));
    let since = Instant::now();
    relay.stop();
    until(apps, |apps| apps.iter().all(|app| disconnected(app).len() == 1));
    assert!(since.elapsed() >= RESUME_TIMEOUT);
    for app in apps {
        assert_eq!(disconnected(app), [EndReason::TimedOut]);
        assert_eq!(told(app).len(), 3);
    }
}

#[test]
fn the_longest_interrupted_gives_way_in_a_full_session() {
    for replace in [true, false] {
        let (relay, mut host, client) = pair(UhstHost::new("demo").max_peers(1).replace_interrupted(replace));
        let mut early = Sleeper::client(&relay, UhstClient::join("demo"));
        until(&mut [&mut host.app, &mut early.app], |apps| !ended(apps[1]).is_empty());
        assert_eq!(ended(&early.app), [EndReason::Full]);

        client.sleep(8 * TIMEOUT);
        until(&mut [&mut host.app], |apps| told(apps[0]).len() == 1);
        let mut late = Sleeper::client(&relay, UhstClient::join("demo"));
        let apps = &mut [&mut host.app, &mut late.app];
        if replace {
            until(apps, |apps| connected(apps[1]) == 1 && connected(apps[0]) == 2);
            assert_eq!(disconnected(apps[0]), [EndReason::Replaced]);
            let mut client = client;
            until(&mut [&mut host.app, &mut client.app], |apps| !ended(apps[1]).is_empty());
            assert_eq!(ended(&client.app), [EndReason::Replaced]);
        } else {
            until(apps, |apps| !ended(apps[1]).is_empty());
            assert_eq!(ended(apps[1]), [EndReason::Full]);
            until(&mut [&mut host.app], |apps| told(apps[0]).len() == 2);
        }
    }
}

/// A player who joins again asks for the place of its former self. Nobody else gets that place meanwhile.
#[test]
fn a_place_does_not_give_way_to_others_while_its_player_joins_again() {
    let relay = MemoryRelay::new();
    let hosted = UhstHost::new("demo").max_peers(1).replace_interrupted(true).admission(Admission::Ask);
    let mut host = Sleeper::host(&relay, hosted);
    let identity = UhstIdentity::generate().unwrap();
    let join = |identity: &UhstIdentity| Sleeper::client(&relay, UhstClient::join("demo").identity(identity.clone()));
    let requests = |app: &App| -> Vec<UhstJoinRequest> {
        let request = |event: &TestEvent| match event {
            TestEvent::JoinRequest(request) => Some(request.clone()),
            _ => None,
        };
        TestLog::of(app).0.iter().filter_map(request).collect()
    };
    let mut former = join(&identity);
    until(&mut [&mut host.app, &mut former.app], |apps| requests(apps[0]).len() == 1);
    requests(&host.app)[0].accept();
    until(&mut [&mut host.app, &mut former.app], |apps| apps.iter().all(|app| connected(app) == 1));
    former.sleep(RESUME_TIMEOUT);
    until(&mut [&mut host.app], |apps| told(apps[0]).len() == 1);

    let mut again = join(&identity);
    until(&mut [&mut host.app, &mut again.app], |apps| requests(apps[0]).len() == 2);
    let mut other = join(&UhstIdentity::generate().unwrap());
    until(&mut [&mut host.app, &mut again.app, &mut other.app], |apps| requests(apps[0]).len() == 3);
    let asked = requests(&host.app);
    asked[2].accept();
    until(&mut [&mut host.app, &mut again.app, &mut other.app], |apps| !ended(apps[2]).is_empty());
    assert_eq!(ended(&other.app), [EndReason::Full]);
    assert_eq!((disconnected(&host.app), ended(&again.app)), (vec![], vec![]));
    asked[1].accept();
    until(&mut [&mut host.app, &mut again.app], |apps| connected(apps[1]) == 1 && !disconnected(apps[0]).is_empty());
    assert_eq!(disconnected(&host.app), [EndReason::Rejoined]);
}

/// Its former session may still wait to say goodbye.
#[test]
fn a_player_that_leaves_an_unreachable_host_and_joins_again_is_the_same_player() {
    let (relay, mut host, mut client) = pair(UhstHost::new("demo"));
    relay.stop();
    until(&mut [&mut host.app, &mut client.app], |apps| apps.iter().all(|app| told(app).len() == 1));
    let mut clients = client.app.world_mut().query::<&UhstClient>();
    clients.iter(client.app.world()).for_each(UhstClient::leave);
    client.app.world_mut().spawn(UhstClient::join("demo"));
    relay.restart();
    until(&mut [&mut host.app, &mut client.app], |apps| connected(apps[0]) == 2 && connected(apps[1]) == 2);
    let own = client.app.world().resource::<UhstIdentity>().public();
    // Its former self may still be there.
    let mut peers = host.app.world_mut().query::<&UhstPeer>();
    let players: Vec<_> = peers.iter(host.app.world()).map(UhstPeer::identity).collect();
    assert!(!players.is_empty() && players.iter().all(|player| *player == Some(own)), "{players:?}");
}

#[test]
fn a_host_ends_an_interrupted_peer_at_once() {
    let (_relay, mut host, mut client) = pair(UhstHost::new("demo"));
    client.sleep(3 * TIMEOUT);
    until(&mut [&mut host.app], |apps| told(apps[0]).len() == 1);
    let peer = the_peer(&mut host.app);
    let since = Instant::now();
    host.app.world().get::<UhstPeer>(peer).unwrap().kick("too late").unwrap();
    until(&mut [&mut host.app], |apps| disconnected(apps[0]) == [EndReason::Kicked("too late".into())]);
    assert!(since.elapsed() < TIMEOUT, "{:?}", since.elapsed());
    until(&mut [&mut client.app], |apps| ended(apps[0]) == [EndReason::Kicked("too late".into())]);
}

#[test]
fn a_client_learns_that_its_host_was_restarted() {
    let (relay, host, mut client) = pair(UhstHost::new("demo"));
    // The old process counts as killed.
    host.sleep(Duration::from_secs(4));
    relay.stop();
    relay.restart();
    let mut new = Sleeper::host(&relay, UhstHost::new("demo"));
    let since = Instant::now();
    until(&mut [&mut new.app, &mut client.app], |apps| !ended(apps[1]).is_empty());
    assert_eq!(ended(&client.app), [EndReason::HostRestarted]);
    assert!(since.elapsed() < RESUME_TIMEOUT, "{:?}", since.elapsed());
}

/// A game that keeps no identities may know a player who comes back by a token of its own.
#[test]
fn one_that_comes_back_as_a_new_program_takes_the_place_of_its_former_self() {
    #[derive(Component)]
    struct Token(Vec<u8>);

    let relay = MemoryRelay::new();
    let mut host = Sleeper::host(&relay, UhstHost::new("demo").max_peers(2).admission(Admission::Ask));
    host.app
        .add_observer(|request: On<UhstJoinRequest>, peers: Query<(&UhstPeer, &Token)>| -> Result {
            for (peer, token) in &peers {
                if token.0 == *request.metadata {
                    if peer.is_reachable() {
                        request.refuse("you play already");
                        return Ok(());
                    }
                    peer.kick("you came back in another window")?;
                }
            }
            request.accept();
            Ok(())
        })
        .add_observer(|connected: On<UhstConnected>, peers: Query<&UhstPeer>, mut commands: Commands| {
            let token = peers.get(connected.entity).unwrap().metadata().to_vec();
            commands.entity(connected.entity).insert(Token(token));
        });
    let join = || UhstClient::join("demo").metadata(&b"token of Ada"[..]);
    let mut first = Sleeper::client(&relay, join());
    until(&mut [&mut host.app, &mut first.app], |apps| apps.iter().all(|app| connected(app) == 1));
    let mut second = Sleeper::client(&relay, join());
    until(&mut [&mut host.app, &mut second.app], |apps| !ended(apps[1]).is_empty());
    assert_eq!(ended(&second.app), [EndReason::Refused("you play already".into())]);

    first.sleep(8 * TIMEOUT);
    until(&mut [&mut host.app], |apps| told(apps[0]).len() == 1);
    let mut third = Sleeper::client(&relay, join());
    until(&mut [&mut host.app, &mut third.app], |apps| connected(apps[1]) == 1 && connected(apps[0]) == 2);
    until(&mut [&mut host.app], |apps| disconnected(apps[0]).len() == 1);
    let peers = host.app.world_mut().query::<&UhstPeer>().iter(host.app.world()).count();
    assert_eq!(peers, 1);
}
