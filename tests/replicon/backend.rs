//! The requirements of replicon on a backend, tested on every path.

use bevy::prelude::*;
use bevy_replicon::prelude::*;
use bevy_uhst::prelude::{Relay, UhstClient, UhstHost};

use super::apps::*;

macro_rules! on_every_path {
    ($($scenario:ident)*) => {
        on_every_path!(memory Memory: $($scenario)*);
        on_every_path!(relay Relay: $($scenario)*);
        on_every_path!(direct Direct: $($scenario)*);
    };
    ($module:ident $way:ident: $($scenario:ident)*) => {
        mod $module {
            $(
                #[test_log::test]
                fn $scenario() {
                    super::$scenario(super::Way::$way);
                }
            )*
        }
    };
}

on_every_path! {
    connect_disconnect
    disconnect_request
    server_stop
    replication
    server_message
    client_message
    protocol_mismatch
}

fn connect_disconnect(way: Way) {
    let (mut host, mut client) = pair(way);
    assert_eq!((server_state(&host), clients(&mut host), authorized(&mut host)), (ServerState::Running, 1, 1));
    assert_eq!((client_state(&host), server_state(&client)), (ClientState::Disconnected, ServerState::Stopped));
    let session = session::<UhstClient>(&mut client);
    assert!(client.world().get::<UhstClient>(session).unwrap().is_connected());

    client.world_mut().despawn(session);
    client.update();
    assert_eq!(client_state(&client), ClientState::Disconnected);
    until(&mut [&mut host], |apps| clients(apps[0]) == 0);
    assert_eq!(server_state(&host), ServerState::Running);
    // A client that connects before its first frame never enters `Connecting`. The next test covers that state.
    let seen = heard(&client).states.iter().filter(|state| !["Stopped", "Connecting"].contains(&state.as_str()));
    assert!(seen.eq(["Disconnected", "Connected", "Disconnected"].iter()), "{:?}", heard(&client).states);
}

#[test_log::test]
fn a_client_is_connecting_until_a_host_answers() {
    // This relay accepts connections and never responds.
    let relay = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = app(&Way::Relay.network());
    let url = format!("http://{}/", relay.local_addr().unwrap());
    let session = client.world_mut().spawn(UhstClient::join("replicon").relay(Relay::Url(url))).id();
    until(&mut [&mut client], |apps| client_state(apps[0]) == ClientState::Connecting);
    client.world_mut().despawn(session);
    until(&mut [&mut client], |apps| client_state(apps[0]) == ClientState::Disconnected);
}

fn disconnect_request(way: Way) {
    let (mut host, mut client) = pair(way);
    host.world_mut().spawn((Replicated, Number(1)));
    tell(&mut host, 1);
    let leaving = the_client(&mut host);
    host.world_mut().write_message(DisconnectRequest { client: leaving });
    host.update();
    assert_eq!(clients(&mut host), 0);
    until(&mut [&mut client], |apps| !replicating(apps[0]));
    assert_eq!(client_state(&client), ClientState::Disconnected);
    assert_eq!(heard(&client).told, [1]);
    assert_eq!(numbers(&mut client), [1]);
    // The host despawns the peer too.
    until(&mut [&mut host], |apps| {
        apps[0].world_mut().query::<&bevy_uhst::UhstPeer>().iter(apps[0].world()).len() == 0
    });
}

fn server_stop(way: Way) {
    let (mut host, mut client) = pair(way);
    let session = session::<UhstHost>(&mut host);
    host.world_mut().despawn(session);
    host.world_mut().spawn((Replicated, Number(1)));
    tell(&mut host, 1);
    host.update();
    assert_eq!((server_state(&host), clients(&mut host)), (ServerState::Stopped, 0));
    until(&mut [&mut host, &mut client], |apps| client_state(apps[1]) == ClientState::Disconnected);
    assert_eq!((heard(&client).told.len(), remotes(&mut client)), (0, 0));
}

fn replication(way: Way) {
    let (mut host, mut client) = pair(way);
    let entity = host.world_mut().spawn((Replicated, Number(1))).id();
    until(&mut [&mut host, &mut client], |apps| numbers(apps[1]) == [1]);
    assert_eq!(remotes(&mut client), 1);
    host.world_mut().get_mut::<Number>(entity).unwrap().0 = 2;
    until(&mut [&mut host, &mut client], |apps| numbers(apps[1]) == [2]);
    host.world_mut().despawn(entity);
    until(&mut [&mut host, &mut client], |apps| remotes(apps[1]) == 0);
}

fn server_message(way: Way) {
    let (mut host, mut client) = pair(way);
    for number in 0..100 {
        tell(&mut host, number);
    }
    // The host's own player receives the messages too.
    until(&mut [&mut host, &mut client], |apps| apps.iter().all(|app| heard(app).told.len() >= 100));
    for app in [&host, &client] {
        assert!(heard(app).told.iter().copied().eq(0..100));
    }
}

fn client_message(way: Way) {
    let (mut host, mut client) = pair(way);
    for number in 0..100 {
        ask(&mut client, number);
    }
    until(&mut [&mut host, &mut client], |apps| heard(apps[0]).asked.len() >= 100);
    assert!(heard(&host).asked.iter().copied().eq(0..100));
    // The host's own player may send messages, like every client.
    ask(&mut host, 100);
    host.update();
    host.update();
    assert_eq!(heard(&host).asked.last(), Some(&100));
}

/// A client with another version of the game receives `ProtocolMismatch`, an unreliable message, before the
/// disconnection.
fn protocol_mismatch(way: Way) {
    #[derive(Component, serde::Serialize, serde::Deserialize)]
    struct New;
    #[derive(Resource, Default)]
    struct Mismatch(bool);
    let network = way.network();
    let mut host = app(&network);
    let mut client = app_with(
        &network,
        |replicon| replicon,
        |app| {
            app.replicate::<New>().init_resource::<Mismatch>();
            app.add_observer(|_: On<ProtocolMismatch>, mut mismatch: ResMut<Mismatch>| mismatch.0 = true);
        },
    );
    super::apps::host(&mut host);
    join(&mut client, &host);
    until(&mut [&mut host, &mut client], |apps| heard(apps[1]).states.iter().any(|state| state == "Connected"));
    until(&mut [&mut host, &mut client], |apps| !replicating(apps[1]));
    assert!(client.world().resource::<Mismatch>().0);
    assert_eq!(clients(&mut host), 0);
}
