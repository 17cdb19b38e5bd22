//! Sessions in replicon: the components of clients, the choice of the session, and what remains after its end.

use bevy::prelude::*;
use bevy_replicon::{
    prelude::*,
    server::server_tick::ServerTick,
    shared::backend::connected_client::{NetworkId, NetworkIdMap},
};
use bevy_uhst::{
    prelude::*,
    test_app::{TestLog, TestNetwork},
};

use super::{
    apps::*,
    original::Original,
    support::{StandaloneRelay, address, connected, diagnostics, disconnected, ended, the_peer},
};

fn network_id(app: &App, entity: Entity) -> NetworkId {
    *app.world().get::<NetworkId>(entity).unwrap()
}

#[test_log::test]
fn a_client_carries_its_largest_message_its_number_and_its_numbers() {
    let (mut host, mut client) = pair(Way::Memory);
    let entity = the_client(&mut host);
    let on_client = the_peer(&mut client);
    let peer = host.world().get::<UhstPeer>(entity).unwrap();
    let max_size = host.world().get::<ConnectedClient>(entity).unwrap().max_size;
    assert!((1000..=peer.max_message()).contains(&max_size), "{max_size}");

    // Both sides have the same id for the connection.
    let id = network_id(&host, entity);
    assert_eq!(network_id(&client, on_client), id);
    assert_eq!(host.world().resource::<NetworkIdMap>().get(&id), Some(&entity));

    let mut number = 0;
    until(&mut [&mut host, &mut client], |apps| {
        tell(apps[0], number);
        ask(apps[1], number);
        number += 1;
        let host = **apps[0].world().get::<ConnectedClientStats>(entity).unwrap();
        let client = *apps[1].world().resource::<ClientStats>();
        [host, client].iter().all(|stats| stats.rtt > 0.0 && stats.sent_bps > 0.0 && stats.received_bps > 0.0)
    });
    let stats = host.world().get::<ConnectedClientStats>(entity).unwrap();
    let rtt = host.world().get::<UhstPeer>(entity).unwrap().rtt().unwrap().as_secs_f64();
    assert!((stats.rtt - rtt).abs() < 1.0 && (0.0..=100.0).contains(&stats.packet_loss), "{stats:?}");

    let (_, mut other) = pair(Way::Memory);
    let other_peer = the_peer(&mut other);
    assert_ne!(network_id(&other, other_peer), id);
}

#[test_log::test]
fn a_client_keeps_its_number_when_its_connection_is_resumed() {
    let mut relay = StandaloneRelay::start();
    let network = TestNetwork::memory();
    let (mut host, mut client) = (app(&network), app(&network));
    host.world_mut().spawn(UhstHost::new("replicon").relay(relay.relay()));
    until(&mut [&mut host], |apps| server_state(apps[0]) == ServerState::Running);
    client.world_mut().spawn(UhstClient::join("replicon").relay(relay.relay()));
    until(&mut [&mut host, &mut client], |apps| authorized(apps[0]) == 1);
    let entity = the_client(&mut host);
    let id = network_id(&host, entity);

    relay.kill();
    let lost = |app: &App| diagnostics(app).iter().any(|text| text.contains("lost"));
    until(&mut [&mut host, &mut client], |apps| apps.iter().all(|app| lost(app)));
    host.world_mut().spawn((Replicated, Number(7)));
    tell(&mut host, 7);
    ask(&mut client, 7);
    host.update();
    client.update();
    relay.restart(Default::default());
    until(&mut [&mut host, &mut client], |apps| {
        numbers(apps[1]) == [7] && heard(apps[1]).told == [7] && heard(apps[0]).asked == [7]
    });
    assert_eq!((the_client(&mut host), network_id(&host, entity)), (entity, id));
    assert_eq!(heard(&client).states.iter().filter(|state| *state == "Connected").count(), 1);
}

#[test_log::test]
fn a_host_that_starts_again_has_no_stale_client_and_no_old_message() {
    let (mut host, mut client) = pair(Way::Memory);
    until(&mut [&mut host, &mut client], |apps| authorized(apps[0]) == 1);
    let old = session::<UhstHost>(&mut host);
    let stale = the_client(&mut host);
    ask(&mut client, 1);
    client.update();
    // Both happen in one frame, so that replicon never sees an app without a session.
    host.world_mut().despawn(old);
    host.world_mut().spawn(UhstHost::new("again"));
    until(&mut [&mut host, &mut client], |apps| {
        let ready = heard(apps[0]).states.iter().filter(|state| *state == "Running").count() == 2;
        ready && client_state(apps[1]) == ClientState::Disconnected
    });
    let states: Vec<_> = heard(&host).states.iter().skip_while(|state| *state != "Running").collect();
    assert_eq!(states, ["Running", "Stopped", "Running"]);
    assert_eq!(clients(&mut host), 0);
    assert!(host.world().get_entity(stale).is_err());
    assert!(host.world().resource::<NetworkIdMap>().is_empty());

    host.world_mut().spawn((Replicated, Number(2)));
    join(&mut client, &host);
    until(&mut [&mut host, &mut client], |apps| numbers(apps[1]) == [2]);
    assert_eq!((clients(&mut host), remotes(&mut client)), (1, 1));
    assert_eq!((heard(&host).asked.len(), heard(&client).told.len()), (0, 0));
}

#[test_log::test]
fn a_client_that_joins_again_starts_afresh() {
    let (mut host, mut client) = pair(Way::Memory);
    let old = session::<UhstClient>(&mut client);
    let stale = the_client(&mut host);
    tell(&mut host, 1);
    host.update();
    // Both happen in one frame. Messages to the old session do not reach the new one.
    client.world_mut().despawn(old);
    join(&mut client, &host);
    until(&mut [&mut host, &mut client], |apps| {
        heard(apps[1]).states.iter().filter(|state| *state == "Connected").count() == 2 && authorized(apps[0]) == 1
    });
    // In memory, a client may connect before its first frame.
    let states = heard(&client).states.iter().filter(|state| *state != "Connecting");
    assert!(states.skip_while(|state| *state != "Connected").eq(["Connected", "Disconnected", "Connected"]));
    until(&mut [&mut host, &mut client], |apps| clients(apps[0]) == 1);
    assert_ne!(the_client(&mut host), stale);
    tell(&mut host, 2);
    until(&mut [&mut host, &mut client], |apps| heard(apps[1]).told.last() == Some(&2));
    assert_eq!(heard(&client).told, [2]);
}

#[test_log::test]
fn a_session_that_ends_lets_its_peers_be_seen_to_the_end_of_the_frame() {
    let (mut host, mut client) = pair(Way::Memory);
    let leaving = the_client(&mut host);
    #[derive(Resource, Default)]
    struct Seen(bool);
    host.init_resource::<Seen>().add_systems(
        Update,
        move |ends: Res<TestLog>, peers: Query<&UhstPeer>, mut seen: ResMut<Seen>| {
            let ended = ends.has(|event| matches!(event, bevy_uhst::test_app::TestEvent::Ended(_)));
            seen.0 |= ended && peers.contains(leaving);
        },
    );
    let session = session::<UhstHost>(&mut host);
    host.world().get::<UhstHost>(session).unwrap().leave();
    until(&mut [&mut host, &mut client], |apps| ended(apps[0]).len() == 1);
    assert!(host.world().resource::<Seen>().0);
    assert_eq!((server_state(&host), clients(&mut host)), (ServerState::Stopped, 0));
    assert!(host.world().get_entity(leaving).is_err());
}

#[test_log::test]
fn a_request_between_two_ticks_waits_for_what_was_sent_before() {
    let network = TestNetwork::memory();
    let by_hand = ServerPlugin { tick_schedule: None, ..ServerPlugin::default() };
    let mut host = app_with(&network, |replicon| replicon.set(by_hand), |_| {});
    let mut client = app(&network);
    super::apps::host(&mut host);
    join(&mut client, &host);
    until(&mut [&mut host, &mut client], |apps| authorized(apps[0]) == 1 && replicating(apps[1]));
    let leaving = the_client(&mut host);
    host.world_mut().spawn((Replicated, Number(1)));
    tell(&mut host, 1);
    host.world_mut().write_message(DisconnectRequest { client: leaving });
    host.update();
    assert_eq!(clients(&mut host), 1);
    host.world_mut().resource_mut::<ServerTick>().increment();
    host.update();
    assert_eq!(clients(&mut host), 0);
    // The session may end a frame after its peer.
    until(&mut [&mut host, &mut client], |apps| !replicating(apps[1]) && !ended(apps[1]).is_empty());
    assert_eq!(heard(&client).told, [1]);
    assert_eq!(numbers(&mut client), [1]);
    assert!(matches!(ended(&client)[..], [EndReason::Kicked(_)]), "{:?}", ended(&client));
}

#[test_log::test]
fn replicon_takes_the_session_that_started_first_and_then_the_next() {
    let network = TestNetwork::memory();
    let mut host = app(&network);
    let chat = host.world_mut().spawn((UhstHost::new("chat"), WithoutReplication)).id();
    let first = host.world_mut().spawn(UhstHost::new("first")).id();
    let second = host.world_mut().spawn(UhstHost::new("second")).id();
    until(&mut [&mut host], |apps| {
        [chat, first, second].iter().all(|session| apps[0].world().get::<UhstHost>(*session).unwrap().is_ready())
    });
    let mut in_all: Vec<App> = ["chat", "first", "second"]
        .map(|id| {
            let mut client = app(&network);
            client.world_mut().spawn(UhstClient::join(id));
            client
        })
        .into();
    let mut apps: Vec<&mut App> = std::iter::once(&mut host).chain(&mut in_all).collect();
    until(&mut apps, |apps| connected(apps[0]) == 3 && authorized(apps[0]) == 1);
    let client = the_client(&mut host);
    assert_eq!(host.world().get::<PeerOf>(client), Some(&PeerOf(first)));
    // The host reports the replication messages of the other clients, once for each.
    let mut apps: Vec<&mut App> = std::iter::once(&mut host).chain(&mut in_all).collect();
    until(&mut apps, |apps| diagnostics(apps[0]).len() == 2);
    assert!(diagnostics(&host).iter().all(|text| text.contains("Replication")), "{:?}", diagnostics(&host));

    // The second session has a peer whose first messages replicon has missed, so replicon takes the third session.
    host.world_mut().despawn(first);
    let third = host.world_mut().spawn(UhstHost::new("third")).id();
    until(&mut [&mut host], |apps| heard(apps[0]).states.ends_with(&["Stopped".to_owned(), "Running".to_owned()]));
    let mut client = app(&network);
    client.world_mut().spawn(UhstClient::join("third"));
    until(&mut [&mut host, &mut client], |apps| authorized(apps[0]) == 1);
    let client = the_client(&mut host);
    assert_eq!(host.world().get::<PeerOf>(client), Some(&PeerOf(third)));
    host.world_mut().despawn(third);
    host.update();
    assert_eq!((server_state(&host), clients(&mut host)), (ServerState::Stopped, 0));
    assert!([chat, second].iter().all(|session| host.world().get::<UhstHost>(*session).unwrap().is_ready()));
}

#[test_log::test]
fn messages_of_the_game_go_on_beside_replication() {
    let (mut host, mut client) = pair(Way::Memory);
    let (to_client, to_host) = (the_peer(&mut host), the_peer(&mut client));
    for number in 0..10 {
        host.world_mut().spawn((Replicated, Number(number)));
        tell(&mut host, number);
        host.world().get::<UhstPeer>(to_client).unwrap().send("plain").unwrap();
        client.world().get::<UhstPeer>(to_host).unwrap().send("plain").unwrap();
    }
    until(&mut [&mut host, &mut client], |apps| {
        let told = heard(apps[1]).told.len() == 10 && numbers(apps[1]).len() == 10;
        told && apps.iter().all(|app| TestLog::of(app).texts().len() == 10)
    });
}

#[test_log::test]
fn the_hosts_own_player_is_no_client() {
    let network = TestNetwork::memory();
    let mut host = app(&network);
    super::apps::host(&mut host);
    let session = session::<UhstHost>(&mut host);
    let player = host.world_mut().spawn(LocalClientOf(session)).id();
    until(&mut [&mut host], |apps| apps[0].world().get::<UhstClient>(player).unwrap().is_connected());
    // The host's player is connected, and its messages reach replicon's server directly.
    ask(&mut host, 1);
    until(&mut [&mut host], |apps| heard(apps[0]).asked == [1]);
    assert_eq!((connected(&host), clients(&mut host)), (2, 0));
    // The end of the player's session, after the end of the host, does not make it a client either.
    host.world_mut().despawn(session);
    until(&mut [&mut host], |apps| server_state(apps[0]) == ServerState::Stopped);
    assert!(!heard(&host).states.iter().any(|state| state == "Connecting" || state == "Connected"));
}

#[test_log::test]
fn a_peer_of_the_original_protocol_is_no_client() {
    let network = Way::Relay.network();
    let (mut host, mut client) = (app(&network), app(&network));
    super::apps::host(&mut host);
    let plain = Original::join(&address(&host), "replicon");
    assert_eq!(plain.send(&plain.token, "hello"), 200);
    until(&mut [&mut host], |apps| TestLog::of(apps[0]).texts() == ["hello"]);
    join(&mut client, &host);
    until(&mut [&mut host, &mut client], |apps| authorized(apps[0]) == 1);
    tell(&mut host, 1);
    until(&mut [&mut host, &mut client], |apps| heard(apps[1]).told == [1]);
    assert_eq!((connected(&host), clients(&mut host)), (2, 1));
    assert!(diagnostics(&host).is_empty(), "{:?}", diagnostics(&host));
}

#[test_log::test]
fn a_channel_that_this_game_does_not_have_is_reported_once() {
    #[derive(Message, serde::Serialize, serde::Deserialize)]
    struct Unknown;
    let network = TestNetwork::memory();
    // Otherwise replicon would disconnect the client.
    let trust = || RepliconSharedPlugin { auth_method: AuthMethod::None };
    let mut host = app_with(&network, |replicon| replicon.set(trust()), |_| {});
    let mut client = app_with(
        &network,
        |replicon| replicon.set(trust()),
        |app| {
            app.add_client_message::<Unknown>(Channel::Ordered);
        },
    );
    super::apps::host(&mut host);
    join(&mut client, &host);
    until(&mut [&mut host, &mut client], |apps| replicating(apps[1]));
    for _ in 0..3 {
        client.world_mut().write_message(Unknown);
        client.update();
    }
    // What comes after them shows that they were all there.
    ask(&mut client, 1);
    until(&mut [&mut host, &mut client], |apps| heard(apps[0]).asked == [1]);
    assert_eq!((diagnostics(&host).len(), disconnected(&host)), (1, vec![]));
}

#[test_log::test]
fn a_client_that_replication_cannot_reach_is_told_why() {
    let network = TestNetwork::memory();
    let (mut host, mut client) = (app(&network), app(&network));
    let config = ConnectionConfig { max_message: 1024, ..ConnectionConfig::default() };
    host.world_mut().spawn(UhstHost::new("replicon").connection(config));
    until(&mut [&mut host], |apps| server_state(apps[0]) == ServerState::Running);
    join(&mut client, &host);
    until(&mut [&mut host, &mut client], |apps| authorized(apps[0]) == 1);
    // One frame spawns more than one message can hold.
    for number in 0..1000 {
        host.world_mut().spawn((Replicated, Number(number)));
    }
    until(&mut [&mut host, &mut client], |apps| ended(apps[1]).len() == 1);
    let EndReason::Kicked(words) = &ended(&client)[0] else { panic!("{:?}", ended(&client)) };
    assert!(words.contains("1024"), "{words}");
    assert_eq!((server_state(&host), clients(&mut host)), (ServerState::Running, 0));
}
