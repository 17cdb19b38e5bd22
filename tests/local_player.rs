//! The local player of a host: a client like all others, without a network.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::time::{Duration, Instant};

use bevy::{app::AppExit, ecs::system::RunSystemOnce, prelude::*};
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork},
};
use serde::{Deserialize, Serialize};
use support::until;
use uhst_proto::connection::MESSAGE_OVERHEAD;

/// A message of a player to the host.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Say(String);

/// A message of the host to all players.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Said {
    by: String,
    words: String,
}

#[derive(Resource, Default)]
struct Screen(Vec<Said>);

/// Adds the game, which is the same on every machine.
fn game(app: &mut App) {
    app.add_uhst_message::<Say>(UhstChannel::Reliable)
        .add_uhst_message_json::<Said>(UhstChannel::Reliable)
        .init_resource::<Screen>()
        .add_systems(Update, (pass_on, show));
}

/// Passes on the messages of all players. It runs on the host.
fn pass_on(mut said: MessageReader<FromPeer<Say>>, peers: Query<&UhstPeer>, sender: UhstSender<Said>) -> Result {
    for say in said.read() {
        let by = String::from_utf8_lossy(peers.get(say.peer)?.metadata()).into_owned();
        sender.broadcast(&Said { by, words: say.0.clone() });
    }
    Ok(())
}

/// Shows the messages of the host. It runs for every player.
fn show(mut said: MessageReader<FromPeer<Said>>, mut screen: ResMut<Screen>) {
    screen.0.extend(said.read().map(|said| said.message.clone()));
}

struct Listen {
    app: App,
    host: Entity,
    client: Entity,
}

/// Starts a host with a local player, and waits until it is connected.
fn listen(network: &TestNetwork, host: UhstHost) -> Listen {
    let mut app = network.app();
    game(&mut app);
    let host = app.world_mut().spawn(host.metadata("arena")).id();
    let client = app.world_mut().spawn((UhstClient::local().metadata("Ada"), LocalClientOf(host))).id();
    until(&mut [&mut app], |apps| events(apps[0], "connected") == 2);
    Listen { app, host, client }
}

impl Listen {
    fn host(&self) -> &UhstHost {
        self.app.world().get(self.host).unwrap()
    }

    fn client(&self) -> &UhstClient {
        self.app.world().get(self.client).unwrap()
    }

    /// Returns the host's peer for the local player.
    fn player(&self) -> Entity {
        self.app.world().get::<bevy_uhst::Peers>(self.host).unwrap()[0]
    }

    fn log(&self) -> Vec<String> {
        TestLog::of(&self.app).0.iter().map(in_short).collect()
    }

    fn clear(&mut self) {
        self.app.world_mut().resource_mut::<TestLog>().0.clear();
    }
}

fn in_short(event: &TestEvent) -> String {
    match event {
        TestEvent::Ready(_) => "ready".to_owned(),
        TestEvent::Connected(_) => "connected".to_owned(),
        TestEvent::Disconnected(event) => format!("disconnected: {}", event.reason),
        TestEvent::Ended(event) => format!("ended: {}", event.reason),
        TestEvent::Message(message) => message.payload.as_text().unwrap_or("bytes").to_owned(),
        other => format!("{other:?}"),
    }
}

fn events(app: &App, name: &str) -> usize {
    TestLog::of(app).count(|event| in_short(event) == name)
}

#[test_log::test]
fn both_sides_are_told_of_the_beginning_once_it_is_ready() {
    let listen = listen(&TestNetwork::memory(), UhstHost::new("game").password("swordfish").admission(Admission::Ask));
    assert_eq!(listen.log(), ["ready", "ready", "connected", "connected"]);
    let (host, client) = (listen.host(), listen.client());
    assert_eq!((client.id(), client.links()), (host.id(), host.links()));
    assert!(client.is_connected() && host.peer_count() == 1);
    let world = listen.app.world();
    let player = world.get::<UhstPeer>(listen.player()).unwrap();
    let server = world.get::<UhstPeer>(client.host().unwrap()).unwrap();
    assert_eq!((&**player.metadata(), &**server.metadata()), (&b"Ada"[..], &b"arena"[..]));
    assert!(player.is_local() && server.is_local() && player.is_native());
    assert_eq!((player.path(), player.rtt()), (Path::Direct, None));
}

#[test_log::test]
fn what_one_side_sends_the_other_reads_in_the_next_frame() {
    let mut listen = listen(&TestNetwork::memory(), UhstHost::new("game"));
    listen.clear();
    for channel in UhstChannel::ALL {
        listen.client().send_on(channel, "up").unwrap();
    }
    listen.app.update();
    let messages = TestLog::of(&listen.app).0.iter().map(|event| match event {
        TestEvent::Message(message) => (message.session, message.peer, message.channel),
        other => panic!("{other:?}"),
    });
    let messages: Vec<_> = messages.collect();
    assert_eq!(messages, UhstChannel::ALL.map(|channel| (listen.host, listen.player(), channel)));

    listen.clear();
    listen.host().broadcast("down");
    listen.host().broadcast_except(listen.player(), "not for you");
    listen.app.world().get::<UhstPeer>(listen.player()).unwrap().send(vec![0; 1 << 20]).unwrap();
    listen.app.update();
    assert_eq!(listen.log(), ["down", "bytes"]);
    let TestEvent::Message(message) = &TestLog::of(&listen.app).0[0] else { panic!() };
    assert_eq!((message.session, Some(message.peer)), (listen.client, listen.client().host()));
}

#[test_log::test]
fn the_same_systems_play_for_the_host_and_for_those_who_join() {
    let network = TestNetwork::memory();
    // The local player does not count towards the limit.
    let mut listen = listen(&network, UhstHost::new("game").max_peers(1));
    let mut guest = network.app();
    game(&mut guest);
    guest.world_mut().spawn(UhstClient::join("game").metadata("Bob"));
    until(&mut [&mut listen.app, &mut guest], |apps| {
        events(apps[0], "connected") == 3 && events(apps[1], "connected") == 1
    });
    assert_eq!(listen.host().peer_count(), 2);
    let say = |app: &mut App, words: &'static str| {
        app.world_mut()
            .run_system_once(move |sender: UhstSender<Say>| sender.to_host(&Say(words.to_owned())))
            .unwrap()
            .unwrap();
    };
    say(&mut listen.app, "hello");
    let seen = |app: &App| app.world().resource::<Screen>().0.len();
    until(&mut [&mut listen.app, &mut guest], |apps| apps.iter().all(|app| seen(app) == 1));
    say(&mut guest, "hi");
    until(&mut [&mut listen.app, &mut guest], |apps| apps.iter().all(|app| seen(app) == 2));
    let said = |by: &str, words: &str| Said { by: by.to_owned(), words: words.to_owned() };
    for app in [&listen.app, &guest] {
        assert_eq!(app.world().resource::<Screen>().0, [said("Ada", "hello"), said("Bob", "hi")]);
    }
    // The session is full for another joiner.
    let mut late = network.app();
    game(&mut late);
    late.world_mut().spawn(UhstClient::join("game"));
    until(&mut [&mut listen.app, &mut late], |apps| events(apps[1], "ended: the session is full") == 1);
}

#[test_log::test]
fn a_kick_ends_the_local_session_after_what_was_sent_before() {
    let mut listen = listen(&TestNetwork::memory(), UhstHost::new("game"));
    listen.clear();
    let player = listen.player();
    listen.host().broadcast("last words");
    listen.host().kick(player, "idle").unwrap();
    assert_eq!(listen.client().send("too late"), Err(SendError::Disconnected));
    let why = "removed by the host: idle";
    until(&mut [&mut listen.app], |apps| events(apps[0], &format!("ended: {why}")) == 1);
    // The player has a message to read before its disconnection. The host has none.
    let gone = format!("disconnected: {why}");
    assert_eq!(listen.log(), [&*gone, "last words", &*gone, &*format!("ended: {why}")]);
    assert!(listen.app.world().get_entity(listen.client).is_err() && listen.host().is_ready());
    assert_eq!(listen.host().peer_count(), 0);
    listen.clear();
    (0..5).for_each(|_| listen.app.update());
    assert!(listen.log().is_empty(), "{:?}", listen.log());
}

#[test_log::test]
fn leaving_either_way_is_told_once_to_both() {
    type Leave = fn(&mut Listen);
    let leave: [(Leave, &str); 4] = [
        (|listen| listen.client().leave(), "this"),
        (
            |listen| {
                listen.app.world_mut().despawn(listen.client);
            },
            "this",
        ),
        (
            |listen| {
                let host = listen.client().host().unwrap();
                let host = listen.app.world().get::<UhstPeer>(host).unwrap();
                assert_eq!(host.kick("a client cannot"), Err(NotHost));
                host.disconnect();
            },
            "this",
        ),
        (
            |listen| {
                let player = listen.player();
                listen.app.world_mut().despawn(player);
            },
            "the other",
        ),
    ];
    for (leave, side_of_client) in leave {
        let mut listen = listen(&TestNetwork::memory(), UhstHost::new("game"));
        listen.clear();
        leave(&mut listen);
        (0..5).for_each(|_| listen.app.update());
        let mut log = listen.log();
        log.sort();
        let ended = format!("ended: {side_of_client} side left");
        assert_eq!(log, ["disconnected: the other side left", "disconnected: this side left", &*ended]);
        assert!(listen.app.world().get_entity(listen.client).is_err() && listen.host().is_ready());
        // The player can join again.
        listen.clear();
        listen.app.world_mut().spawn(LocalClientOf(listen.host));
        (0..3).for_each(|_| listen.app.update());
        assert_eq!(listen.log(), ["ready", "connected", "connected"]);
    }
}

#[test_log::test]
fn a_host_that_leaves_takes_its_local_player_along() {
    let leave: [fn(&mut Listen); 2] = [
        |listen| listen.host().leave(),
        |listen| {
            listen.app.world_mut().despawn(listen.host);
        },
    ];
    for leave in leave {
        let mut listen = listen(&TestNetwork::memory(), UhstHost::new("game"));
        listen.clear();
        leave(&mut listen);
        let ended = ["ended: this side left", "ended: the other side left"];
        until(&mut [&mut listen.app], |apps| ended.iter().all(|ended| events(apps[0], ended) == 1));
        (0..5).for_each(|_| listen.app.update());
        assert_eq!(events(&listen.app, "disconnected: this side left"), 1);
        assert_eq!(events(&listen.app, "disconnected: the other side left"), 1);
        assert_eq!(listen.log().len(), 4, "{:?}", listen.log());
        let left = listen.app.world_mut().query_filtered::<Entity, With<UhstPeer>>().iter(listen.app.world()).count();
        assert_eq!(left, 0);
    }
}

#[test_log::test]
fn a_local_client_is_related_to_its_host() {
    let mut listen = listen(&TestNetwork::memory(), UhstHost::new("game"));
    let world = listen.app.world();
    assert_eq!(world.get::<LocalClientOf>(listen.client), Some(&LocalClientOf(listen.host)));
    assert_eq!(**world.get::<LocalClients>(listen.host).unwrap(), [listen.client]);
    let locals = |app: &mut App| {
        app.world_mut()
            .query_filtered::<&LocalClientOf, (With<UhstClient>, With<SessionConnected>)>()
            .iter(app.world())
            .count()
    };
    assert_eq!(locals(&mut listen.app), 1);
    listen.app.world_mut().despawn(listen.client);
    assert!(!listen.app.world().entity(listen.host).contains::<LocalClients>());

    // This host is spawned together with its player.
    let mut app = TestNetwork::memory().app();
    app.world_mut().spawn((UhstHost::new("game"), related!(LocalClients[UhstClient::local().metadata("Ada")])));
    until(&mut [&mut app], |apps| events(apps[0], "connected") == 2);
    assert_eq!(locals(&mut app), 1);
}

#[test_log::test]
fn a_player_joins_again_by_the_host_it_is_related_to() {
    let mut listen = listen(&TestNetwork::memory(), UhstHost::new("game"));
    listen.clear();
    listen.app.world_mut().entity_mut(listen.client).insert(UhstClient::local());
    (0..5).for_each(|_| listen.app.update());
    let mut log = listen.log();
    log.sort();
    let again = ["connected", "connected", "disconnected: the other side left", "disconnected: this side left"];
    assert_eq!(log, [&again[..], &["ended: this side left", "ready"]].concat());
    assert!(listen.client().is_connected() && listen.host().peer_count() == 1);
}

#[test_log::test]
fn where_nobody_hosts_it_ends_with_the_reason() {
    let network = TestNetwork::memory();
    let mut app = network.app();
    let nobody = app.world_mut().spawn_empty().id();
    app.world_mut().spawn(LocalClientOf(nobody));
    app.update();
    assert!(
        matches!(&TestLog::of(&app).0[..], [TestEvent::Ended(end)] if matches!(end.reason, EndReason::NotStarted(_)))
    );

    let mut app = network.app();
    app.world_mut().spawn(UhstClient::local());
    app.update();
    let log: Vec<_> = TestLog::of(&app).0.iter().map(in_short).collect();
    assert_eq!(log, ["ended: could not start: a local client has no host: spawn it with `LocalClientOf`"]);

    // This host does not start, since its id is taken.
    let _host = network.host("game");
    let mut app = network.app();
    let host = app.world_mut().spawn(UhstHost::new("game")).id();
    app.world_mut().spawn(LocalClientOf(host));
    until(&mut [&mut app], |apps| TestLog::of(apps[0]).0.len() == 2);
    let log: Vec<_> = TestLog::of(&app).0.iter().map(in_short).collect();
    assert_eq!(log, [format!("ended: {}", EndReason::HostIdInUse).as_str(); 2]);
}

#[test_log::test]
fn a_player_that_an_observer_of_the_ready_host_spawns_connects_once() {
    let mut app = TestNetwork::memory().app();
    app.add_observer(|ready: On<UhstReady>, hosts: Query<(), With<UhstHost>>, mut commands: Commands| {
        if hosts.contains(ready.entity) {
            commands.spawn(LocalClientOf(ready.entity));
        }
    });
    app.world_mut().spawn(UhstHost::new("game"));
    until(&mut [&mut app], |apps| events(apps[0], "connected") == 2);
    (0..5).for_each(|_| app.update());
    assert_eq!(TestLog::of(&app).0.len(), 4, "{:?}", TestLog::of(&app));
}

#[test_log::test]
fn what_nobody_reads_is_bounded_and_flows_again() {
    let config = ConnectionConfig { max_message: 2000, send_buffer: 10_000, ..ConnectionConfig::default() };
    let mut listen = listen(&TestNetwork::memory(), UhstHost::new("game").connection(config));
    let client = listen.client();
    assert_eq!(client.send(vec![0; 2001]), Err(SendError::TooLarge { size: 2001, limit: 2000 }));
    let sent = (0..100).take_while(|_| client.send(vec![0; 1000]).is_ok()).count();
    assert_eq!(sent, 10_000 / (1000 + MESSAGE_OVERHEAD));
    assert!(matches!(client.send(vec![0; 1000]), Err(SendError::QueueFull { .. })));
    listen.app.update();
    assert_eq!(events(&listen.app, "bytes"), sent);
    let host = listen.app.world().get::<UhstPeer>(listen.client().host().unwrap()).unwrap();
    assert_eq!(host.queued(), 0);
    listen.client().send(vec![0; 1000]).unwrap();
}

#[test_log::test]
fn an_app_that_exits_does_not_wait_for_its_local_player() {
    let mut listen = listen(&TestNetwork::memory(), UhstHost::new("game"));
    listen.clear();
    listen.app.world_mut().write_message(AppExit::Success);
    let before = Instant::now();
    listen.app.update();
    assert!(before.elapsed() < Duration::from_millis(450), "the exit waited for {:?}", before.elapsed());
    let mut log = listen.log();
    log.sort();
    // The app ends both sessions itself.
    assert_eq!(log, ["disconnected", "disconnected", "ended", "ended"].map(|what| format!("{what}: this side left")));
}
