//! A cause leads to the same reason, whichever layer notices it first: on every route, and with the relay in the host's
//! process or elsewhere.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::{fmt::Debug, net::TcpListener, thread, time::Duration};

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    relay::RelayConfig,
    test_app::{TestEvent, TestLog, link, update_until},
};
use support::{StandaloneRelay, connected, disconnected, ended, the_peer, until};
use tokio::runtime::Runtime;

const TIMEOUT: Duration = Duration::from_secs(1);
const RESUME_TIMEOUT: Duration = Duration::from_secs(2);

/// The allowed paths. Messages use the preferred one before the cause occurs.
const ROUTES: [PathPolicy; 3] = [PathPolicy::RelayOnly, PathPolicy::Automatic, PathPolicy::DirectOnly];

/// The place of the relay.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In the host's process.
    Host,
    Elsewhere,
}

const PLACES: [Place; 2] = [Place::Host, Place::Elsewhere];

/// An app that can be killed as a process can: without a goodbye.
struct Party {
    app: App,
    runtime: Runtime,
}

impl Party {
    fn kill(self) {
        // The app goes after it, so that its session has nobody left to say goodbye.
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

/// The route and the relay of a case.
struct Scene {
    route: PathPolicy,
    relay: Option<StandaloneRelay>,
}

impl Scene {
    fn new(route: PathPolicy, place: Place) -> Self {
        // The relay holds no id, since a host that is killed may be followed by another.
        let config = RelayConfig { hold: Duration::ZERO, ..RelayConfig::default() };
        let relay = matches!(place, Place::Elsewhere).then(|| StandaloneRelay::start_with(config));
        Scene { route, relay }
    }

    fn party(&self, session: impl Bundle, version: &str) -> Party {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = ConnectionConfig { timeout: TIMEOUT, resume_timeout: RESUME_TIMEOUT, ..default() };
        let embedded = EmbeddedRelay { bind: ([127, 0, 0, 1], 0).into(), port_attempts: 1, ..default() };
        let relay = self.relay.as_ref().map_or(Relay::Embedded(embedded), StandaloneRelay::relay);
        let plugin = UhstPlugin::default()
            .relay(relay)
            .paths(self.route)
            .ice_servers([])
            .connection(config)
            .version(version)
            .runtime(runtime.handle().clone());
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, plugin));
        bevy_uhst::test_app::record(&mut app);
        app.world_mut().spawn(session);
        Party { app, runtime }
    }

    fn host_with(&self, host: UhstHost) -> Party {
        let mut party = self.party(host, "1");
        until(&mut [&mut party.app], |apps| TestLog::of(apps[0]).has(|event| matches!(event, TestEvent::Ready(_))));
        party
    }

    fn client_with(&self, host: &Party, of: impl FnOnce(UhstClient) -> UhstClient) -> Party {
        self.party(of(UhstClient::from(link(&host.app))), "1")
    }

    /// Creates a host and a client that are connected over the path that this route prefers.
    fn pair(&self) -> (Party, Party) {
        let mut host = self.host_with(UhstHost::new("demo"));
        let mut client = self.client_with(&host, |client| client);
        let path = if self.route == PathPolicy::RelayOnly { Path::Relay } else { Path::Direct };
        until(&mut [&mut host.app, &mut client.app], |apps| {
            apps.iter_mut().all(|app| {
                connected(app) == 1 && {
                    let peer = the_peer(app);
                    app.world().get::<UhstPeer>(peer).unwrap().path() == path
                }
            })
        });
        (host, client)
    }

    /// Creates a host that is asked whether a client may join, and has not answered.
    fn asked(&self) -> (Party, Party) {
        let mut host = self.host_with(UhstHost::new("demo").admission(Admission::Ask));
        let mut client = self.client_with(&host, |client| client);
        until(&mut [&mut host.app, &mut client.app], |apps| {
            TestLog::of(apps[0]).has(|event| matches!(event, TestEvent::JoinRequest(_)))
        });
        (host, client)
    }
}

/// Returns the reason of the end of this client's session. The end of its peer, if any, must have the same reason.
fn client_ends(mut client: Party) -> EndReason {
    until(&mut [&mut client.app], |apps| !ended(apps[0]).is_empty());
    let reasons = ended(&client.app);
    assert_eq!(reasons.len(), 1);
    if connected(&client.app) > 0 {
        assert_eq!(disconnected(&client.app), reasons);
    }
    reasons[0].clone()
}

/// Returns the reason of the end of this host's only peer. The session goes on.
fn peer_of(mut host: Party) -> EndReason {
    until(&mut [&mut host.app], |apps| !disconnected(apps[0]).is_empty());
    let reasons = disconnected(&host.app);
    assert_eq!((reasons.len(), ended(&host.app).len()), (1, 0));
    reasons[0].clone()
}

/// Returns the reason of both sides. A host whose relay is gone with its last peer ends, too.
fn both_end(mut host: Party, mut client: Party) -> EndReason {
    until(&mut [&mut host.app, &mut client.app], |apps| apps.iter().all(|app| !disconnected(app).is_empty()));
    let at_client = client_ends(client);
    assert_eq!(disconnected(&host.app), std::slice::from_ref(&at_client), "at the host, and at the client");
    at_client
}

fn host_session(host: &mut Party) -> Mut<'_, UhstHost> {
    let entity = host.app.world_mut().query_filtered::<Entity, With<UhstHost>>().single(host.app.world()).unwrap();
    host.app.world_mut().get_mut::<UhstHost>(entity).unwrap()
}

fn host_is_killed(scene: &Scene) -> EndReason {
    let (host, client) = scene.pair();
    host.kill();
    client_ends(client)
}

fn client_is_killed(scene: &Scene) -> EndReason {
    let (host, client) = scene.pair();
    client.kill();
    peer_of(host)
}

fn cable_is_pulled(scene: &Scene) -> EndReason {
    let (mut host, client) = scene.pair();
    host_session(&mut host).set_conditions(NetworkConditions { cut: true, ..NetworkConditions::PERFECT });
    both_end(host, client)
}

fn host_leaves(scene: &Scene) -> EndReason {
    let (mut host, client) = scene.pair();
    host_session(&mut host).leave();
    client_ends(client)
}

fn client_leaves(scene: &Scene) -> EndReason {
    let (host, client) = scene.pair();
    drop(client.app);
    peer_of(host)
}

fn client_is_kicked(scene: &Scene) -> EndReason {
    let (mut host, client) = scene.pair();
    let peer = the_peer(&mut host.app);
    host.app.world().get::<UhstPeer>(peer).unwrap().kick("cheating").unwrap();
    both_end(host, client)
}

fn host_is_started_anew(scene: &Scene) -> EndReason {
    let (host, client) = scene.pair();
    host.kill();
    let _anew = scene.host_with(UhstHost::new("demo"));
    client_ends(client)
}

fn relay_is_gone(scene: &mut Scene) -> EndReason {
    let (host, client) = scene.pair();
    scene.relay = None;
    both_end(host, client)
}

fn relay_is_gone_and_somebody_minds(scene: &mut Scene) -> bool {
    let (mut host, mut client) = scene.pair();
    scene.relay = None;
    update_until(&mut [&mut host.app, &mut client.app], 2 * TIMEOUT + RESUME_TIMEOUT, |apps| {
        apps.iter().any(|app| !disconnected(app).is_empty() || !ended(app).is_empty())
    })
}

fn wrong_id(scene: &Scene) -> EndReason {
    let host = scene.host_with(UhstHost::new("demo"));
    let id = JoinLink::new(link(&host.app).relay, "nobody");
    client_ends(scene.party(UhstClient::from(id), "1"))
}

fn host_is_gone_before(scene: &Scene) -> EndReason {
    let mut host = scene.host_with(UhstHost::new("demo"));
    let link = link(&host.app);
    host_session(&mut host).leave();
    until(&mut [&mut host.app], |apps| !ended(apps[0]).is_empty());
    client_ends(scene.party(UhstClient::from(link), "1"))
}

fn wrong_password(scene: &Scene) -> EndReason {
    let host = scene.host_with(UhstHost::new("demo").password("swordfish"));
    client_ends(scene.client_with(&host, |client| client.password("trout")))
}

fn full(scene: &Scene) -> EndReason {
    let host = scene.host_with(UhstHost::new("demo").max_peers(0));
    client_ends(scene.client_with(&host, |client| client))
}

fn other_version(scene: &Scene) -> EndReason {
    let host = scene.host_with(UhstHost::new("demo"));
    client_ends(scene.party(UhstClient::from(link(&host.app)), "2"))
}

fn refused(scene: &Scene) -> EndReason {
    let (host, client) = scene.asked();
    let request = TestLog::of(&host.app).0.iter().find_map(|event| match event {
        TestEvent::JoinRequest(request) => Some(request.responder()),
        _ => None,
    });
    request.unwrap().refuse("not you");
    client_ends(client)
}

fn host_is_killed_while_it_is_asked(scene: &Scene) -> EndReason {
    let (host, client) = scene.asked();
    host.kill();
    client_ends(client)
}

fn host_leaves_while_it_is_asked(scene: &Scene) -> EndReason {
    let (mut host, client) = scene.asked();
    host_session(&mut host).leave();
    client_ends(client)
}

fn relay_is_gone_while_the_host_is_asked(scene: &mut Scene) -> EndReason {
    let (_host, client) = scene.asked();
    scene.relay = None;
    client_ends(client)
}

fn no_relay(scene: &Scene) -> EndReason {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    client_ends(scene.party(UhstClient::join(format!("http://{free}/#demo")), "1"))
}

/// Runs a cause in all of these scenes at once, and checks each end.
fn each<End: Debug>(
    cause: impl Fn(&mut Scene) -> End + Sync,
    scenes: impl IntoIterator<Item = (PathPolicy, Place)>,
    expected: impl Fn(&End) -> bool + Sync,
) {
    let (cause, expected) = (&cause, &expected);
    thread::scope(|scope| {
        for (route, place) in scenes {
            scope.spawn(move || {
                let end = cause(&mut Scene::new(route, place));
                assert!(expected(&end), "{end:?} on {route:?}, with the relay at {place:?}");
            });
        }
    });
}

fn everywhere(cause: impl Fn(&mut Scene) -> EndReason + Sync, expected: EndReason) {
    let scenes = ROUTES.into_iter().flat_map(|route| PLACES.map(|place| (route, place)));
    each(cause, scenes, |reason| *reason == expected);
}

/// Runs a cause with a relay elsewhere only, since a relay in the host's process cannot do it.
fn elsewhere(cause: impl Fn(&mut Scene) -> EndReason + Sync, expected: EndReason) {
    each(cause, ROUTES.map(|route| (route, Place::Elsewhere)), |reason| *reason == expected);
}

#[test]
fn a_host_that_is_killed_has_timed_out() {
    everywhere(|scene| host_is_killed(scene), EndReason::TimedOut);
}

#[test]
fn a_client_that_is_killed_has_timed_out() {
    everywhere(|scene| client_is_killed(scene), EndReason::TimedOut);
}

#[test]
fn a_pulled_cable_is_a_timeout_on_both_sides() {
    everywhere(|scene| cable_is_pulled(scene), EndReason::TimedOut);
}

#[test]
fn a_lost_relay_is_a_timeout_on_both_sides_or_nothing_where_there_is_a_direct_path() {
    let on_the_relay = [(PathPolicy::RelayOnly, Place::Elsewhere)];
    each(relay_is_gone, on_the_relay, |reason| *reason == EndReason::TimedOut);
    let beside = [PathPolicy::Automatic, PathPolicy::DirectOnly].map(|route| (route, Place::Elsewhere));
    each(relay_is_gone_and_somebody_minds, beside, |somebody| !somebody);
}

#[test]
fn a_goodbye_is_one_on_every_path() {
    everywhere(|scene| host_leaves(scene), EndReason::Left);
    everywhere(|scene| client_leaves(scene), EndReason::Left);
    everywhere(|scene| client_is_kicked(scene), EndReason::Kicked("cheating".to_owned()));
}

#[test]
fn a_host_that_is_started_anew_says_so_on_every_path() {
    elsewhere(|scene| host_is_started_anew(scene), EndReason::HostRestarted);
}

#[test]
fn what_ends_a_connection_ends_a_joiner_that_waits_by_the_same_reason() {
    everywhere(|scene| host_is_killed_while_it_is_asked(scene), EndReason::TimedOut);
    everywhere(|scene| host_leaves_while_it_is_asked(scene), EndReason::Left);
    elsewhere(relay_is_gone_while_the_host_is_asked, EndReason::TimedOut);
}

#[test]
fn who_is_turned_away_is_told_why_on_every_path() {
    everywhere(|scene| refused(scene), EndReason::Refused("not you".to_owned()));
    everywhere(|scene| wrong_password(scene), EndReason::WrongPassword);
    everywhere(|scene| full(scene), EndReason::Full);
    let words = "the host has “1”, the joiner has “2”".to_owned();
    everywhere(|scene| other_version(scene), EndReason::GameMismatch(words));
}

#[test]
fn nobody_there_is_no_such_host_and_no_relay_is_an_unreachable_one() {
    everywhere(|scene| wrong_id(scene), EndReason::NoSuchHost);
    elsewhere(|scene| host_is_gone_before(scene), EndReason::NoSuchHost);
    let scenes = ROUTES.map(|route| (route, Place::Elsewhere));
    each(|scene| no_relay(scene), scenes, |reason| matches!(reason, EndReason::RelayUnreachable(_)));
}
