//! Players who are who they were: identities, and those who join again.

mod support;

use bevy::prelude::*;
use bevy_uhst::{
    UhstSecurity,
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, link},
};
use support::{connected, disconnected, ended, until};

#[derive(Component, Clone, Debug, PartialEq)]
struct Score(u32);

/// The network as the player with this identity sees it.
fn of(network: &TestNetwork, identity: &UhstIdentity) -> TestNetwork {
    let identity = identity.clone();
    network.clone().game(move |app| {
        app.insert_resource(identity.clone());
    })
}

/// An app of the player with this identity, which joins the host.
fn join(network: &TestNetwork, host: &App, identity: &UhstIdentity) -> App {
    of(network, identity).join_with(UhstClient::from(link(host)))
}

fn identity() -> UhstIdentity {
    UhstIdentity::generate().expect("random bytes")
}

/// The connected peers of an app, in the order of their attempts to join.
fn peers(app: &mut App) -> Vec<Entity> {
    let mut peers = app.world_mut().query::<(Entity, &UhstPeer)>();
    let mut peers: Vec<_> = peers.iter(app.world()).map(|(entity, peer)| (peer.join_id(), entity)).collect();
    peers.sort_by_key(|(join, _)| *join);
    peers.into_iter().map(|(_, entity)| entity).collect()
}

fn the_peer(app: &mut App) -> &UhstPeer {
    let peers = peers(app);
    assert_eq!(peers.len(), 1);
    app.world().get(peers[0]).expect("a peer")
}

fn requests(app: &App) -> Vec<UhstJoinRequest> {
    let request = |event: &TestEvent| match event {
        TestEvent::JoinRequest(request) => Some(request.clone()),
        _ => None,
    };
    TestLog::of(app).0.iter().filter_map(request).collect()
}

/// The requests that came to nothing, and why.
fn abandoned(app: &App) -> Vec<(JoinId, EndReason)> {
    let abandoned = |event: &TestEvent| match event {
        TestEvent::JoinAbandoned(event) => Some((event.join, event.reason.clone())),
        _ => None,
    };
    TestLog::of(app).0.iter().filter_map(abandoned).collect()
}

fn is_locked_out(app: &App) -> bool {
    matches!(&ended(app)[..], [EndReason::Refused(why)] if why.contains("nobody new"))
}

fn rejoined(app: &App) -> usize {
    TestLog::of(app).count(|event| matches!(event, TestEvent::Rejoined(_)))
}

/// The first player of a host whose game decides on joiners. It is admitted.
fn admitted(network: &TestNetwork, host: &mut App, player: &UhstIdentity) -> App {
    let mut app = join(network, host, player);
    until(&mut [host, &mut app], |apps| requests(apps[0]).len() == 1);
    requests(host)[0].accept();
    until(&mut [host, &mut app], |apps| connected(apps[0]) == 1 && connected(apps[1]) == 1);
    app
}

/// A host, a player who plays there, and another app of the player which asks to join. The game has not decided yet.
fn asks_again() -> (App, App, App) {
    let network = TestNetwork::memory();
    let mut host = network.host_with(UhstHost::new("game").admission(Admission::Ask));
    let ann = identity();
    let mut first = admitted(&network, &mut host, &ann);
    let mut second = join(&network, &host, &ann);
    until(&mut [&mut host, &mut first, &mut second], |apps| requests(apps[0]).len() == 2);
    (host, first, second)
}

/// Moves the score of a player who joins again, as a game does.
fn keep_scores(host: &mut App) {
    host.add_observer(|rejoined: On<UhstRejoined>, scores: Query<&Score>, mut commands: Commands| -> Result {
        commands.entity(rejoined.entity).insert(scores.get(rejoined.former)?.clone());
        Ok(())
    });
}

#[test_log::test]
fn both_sides_know_each_other_again_by_their_identities() {
    let (ann, server) = (identity(), identity());
    let restored = UhstIdentity::from_bytes(server.to_bytes());
    let mut keys = Vec::new();
    for server in [server, restored] {
        let network = TestNetwork::memory();
        let mut host = of(&network, &server).host("game");
        let mut client = join(&network, &host, &ann);
        until(&mut [&mut host, &mut client], |apps| connected(apps[0]) == 1 && connected(apps[1]) == 1);
        assert_eq!(the_peer(&mut host).identity(), Some(ann.public()));
        let expected = host.world().resource::<UhstIdentity>().public();
        assert_eq!(the_peer(&mut client).identity(), Some(expected));
        keys.push((expected, link(&host).key()));
    }
    assert_eq!(keys[0], keys[1], "the same host, after it was started anew");
    assert_eq!(keys[0].1, Some(keys[0].0.hash()));
}

#[test_log::test]
fn apps_have_different_identities_unless_they_keep_them() {
    let network = TestNetwork::memory();
    let (mut host, mut client) = network.pair("game");
    let (of_client, of_host) = (the_peer(&mut host).identity(), the_peer(&mut client).identity());
    assert!(of_client.is_some() && of_host.is_some());
    assert_ne!(of_client, of_host);
}

#[test_log::test]
fn a_player_in_another_window_replaces_itself_and_keeps_its_score() {
    let network = TestNetwork::memory();
    let mut host = network.host_with(UhstHost::new("game").max_peers(2));
    keep_scores(&mut host);
    let (ann, bob) = (identity(), identity());
    let (mut first, mut other) = (join(&network, &host, &ann), join(&network, &host, &bob));
    until(&mut [&mut host, &mut first, &mut other], |apps| {
        connected(apps[0]) == 2 && connected(apps[1]) == 1 && connected(apps[2]) == 1
    });
    let of_ann = |app: &mut App| {
        let found = peers(app);
        let is_ann = |peer: &Entity| app.world().get::<UhstPeer>(*peer).unwrap().identity() == Some(ann.public());
        found.into_iter().find(is_ann).unwrap()
    };
    let former = of_ann(&mut host);
    host.world_mut().entity_mut(former).insert(Score(7));

    // The session is full, and the former self is alive.
    let mut second = join(&network, &host, &ann);
    until(&mut [&mut host, &mut first, &mut other, &mut second], |apps| {
        connected(apps[3]) == 1 && !disconnected(apps[0]).is_empty() && !ended(apps[1]).is_empty()
    });
    assert_eq!(ended(&first), [EndReason::Rejoined]);
    assert_eq!(disconnected(&host), [EndReason::Rejoined]);
    let now = of_ann(&mut host);
    assert_ne!(now, former);
    assert_eq!(host.world().get::<Score>(now), Some(&Score(7)));
    assert_eq!((rejoined(&host), peers(&mut host).len(), ended(&other)), (1, 2, vec![]));

    // Its place is still one place: nobody else gets in.
    let mut third = join(&network, &host, &identity());
    until(&mut [&mut host, &mut second, &mut other, &mut third], |apps| !ended(apps[3]).is_empty());
    assert_eq!(ended(&third), [EndReason::Full]);

    // And it is free once the player leaves.
    drop(second);
    until(&mut [&mut host, &mut other], |apps| disconnected(apps[0]).len() == 2);
    let mut third = join(&network, &host, &identity());
    until(&mut [&mut host, &mut other, &mut third], |apps| connected(apps[2]) == 1);
}

#[test_log::test]
fn a_player_whose_game_has_crashed_joins_a_full_session_again_at_once() {
    let network = TestNetwork::memory();
    let mut host = network.host_with(UhstHost::new("game").max_peers(1).replace_interrupted(false));
    keep_scores(&mut host);
    let ann = identity();
    let mut first = join(&network, &host, &ann);
    until(&mut [&mut host, &mut first], |apps| connected(apps[0]) == 1 && connected(apps[1]) == 1);
    let former = peers(&mut host)[0];
    host.world_mut().entity_mut(former).insert(Score(3));
    // A crash says no goodbye. This one does not even close the stream.
    std::mem::forget(first);
    let mut second = join(&network, &host, &ann);
    until(&mut [&mut host, &mut second], |apps| connected(apps[1]) == 1 && !disconnected(apps[0]).is_empty());
    let now = peers(&mut host);
    assert_eq!((now.len(), host.world().get::<Score>(now[0])), (1, Some(&Score(3))));
}

#[test_log::test]
fn a_player_asks_to_join_once_at_a_time() {
    let network = TestNetwork::memory();
    let mut host = network.host_with(UhstHost::new("game").admission(Admission::Ask));
    let ann = identity();
    let (mut first, mut second) = (join(&network, &host, &ann), join(&network, &host, &ann));
    until(&mut [&mut host, &mut first, &mut second], |apps| {
        requests(apps[0]).len() == 2
            && abandoned(apps[0]).len() == 1
            && ended(apps[1]).len() + ended(apps[2]).len() == 1
    });
    let asked = requests(&host);
    assert!(asked.iter().all(|request| request.identity == Some(ann.public())));
    assert_eq!(abandoned(&host), [(asked[0].join, EndReason::Rejoined)]);
    asked[1].accept();
    until(&mut [&mut host, &mut first, &mut second], |apps| connected(apps[0]) == 1);
    assert_eq!((the_peer(&mut host).join_id(), rejoined(&host)), (asked[1].join, 0));
}

/// A lock is for new players. One who has only asked to join is new.
#[test_log::test]
fn a_player_whose_game_has_crashed_joins_a_locked_session_again() {
    let network = TestNetwork::memory();
    let mut host = network.host_with(UhstHost::new("game").admission(Admission::Ask));
    let (ann, bob) = (identity(), identity());
    let mut first = admitted(&network, &mut host, &ann);
    let mut other = join(&network, &host, &bob);
    until(&mut [&mut host, &mut first, &mut other], |apps| requests(apps[0]).len() == 2);

    host.world_mut().query::<&mut UhstHost>().single_mut(host.world_mut()).unwrap().set_locked(true);
    until(&mut [&mut host, &mut first, &mut other], |apps| {
        !ended(apps[2]).is_empty() && !abandoned(apps[0]).is_empty()
    });
    assert!(is_locked_out(&other));
    assert_eq!(abandoned(&host).len(), 1, "its request is void");
    let mut other = join(&network, &host, &bob);
    until(&mut [&mut host, &mut first, &mut other], |apps| !ended(apps[2]).is_empty());
    assert!(is_locked_out(&other));

    std::mem::forget(first);
    let mut second = join(&network, &host, &ann);
    until(&mut [&mut host, &mut second], |apps| requests(apps[0]).len() == 3);
    requests(&host)[2].accept();
    until(&mut [&mut host, &mut second], |apps| connected(apps[1]) == 1 && rejoined(apps[0]) == 1);
}

/// With a kick, a player's place is gone: who asks to come back is new, like anybody else.
#[test_log::test]
fn a_player_that_is_kicked_while_it_joins_again_is_new() {
    for locked in [false, true] {
        let (mut host, mut first, mut second) = asks_again();
        host.world_mut().query::<&mut UhstHost>().single_mut(host.world_mut()).unwrap().set_locked(locked);

        the_peer(&mut host).kick("enough").unwrap();
        until(&mut [&mut host, &mut first, &mut second], |apps| {
            !ended(apps[1]).is_empty() && !disconnected(apps[0]).is_empty()
        });
        assert_eq!(ended(&first), [EndReason::Kicked("enough".to_owned())]);
        let request = requests(&host).remove(1);
        if locked {
            until(&mut [&mut host, &mut second], |apps| !ended(apps[1]).is_empty() && !abandoned(apps[0]).is_empty());
            assert!(is_locked_out(&second), "{:?}", ended(&second));
            assert!(matches!(&abandoned(&host)[..], [(join, _)] if *join == request.join));
        } else {
            request.accept();
            until(&mut [&mut host, &mut second], |apps| connected(apps[0]) == 2 && connected(apps[1]) == 1);
            assert_eq!(abandoned(&host), []);
        }
        assert_eq!((rejoined(&host), disconnected(&host).len()), (0, 1));
    }
}

/// Players at one screen, or bots.
#[test_log::test]
fn the_clients_of_one_app_are_different_players() {
    let network = TestNetwork::memory();
    let mut host = network.host("game");
    let bot = identity();
    let mut app = network.app();
    for client in [
        UhstClient::from(link(&host)),
        UhstClient::from(link(&host)),
        UhstClient::from(link(&host)).identity(bot.clone()),
    ] {
        app.world_mut().spawn(client);
    }
    until(&mut [&mut host, &mut app], |apps| connected(apps[0]) == 3 && connected(apps[1]) == 3);
    assert_eq!((disconnected(&host), ended(&app)), (vec![], vec![]));
    let of_app = app.world().resource::<UhstIdentity>().public();
    let players: Vec<_> = peers(&mut host)
        .into_iter()
        .map(|peer| host.world().get::<UhstPeer>(peer).unwrap().identity().unwrap())
        .collect();
    assert_eq!(players.iter().filter(|player| **player == of_app).count(), 1);
    assert_eq!(players.iter().filter(|player| **player == bot.public()).count(), 1);
    assert!(players[0] != players[1] && players[0] != players[2] && players[1] != players[2]);

    // Who leaves and joins again is the same player again.
    let mut clients = app.world_mut().query::<&UhstClient>();
    clients.iter(app.world()).for_each(UhstClient::leave);
    until(&mut [&mut host, &mut app], |apps| disconnected(apps[0]).len() == 3 && ended(apps[1]).len() == 3);
    app.world_mut().spawn(UhstClient::from(link(&host)));
    until(&mut [&mut host, &mut app], |apps| connected(apps[0]) == 4 && connected(apps[1]) == 4);
    assert_eq!(the_peer(&mut host).identity(), Some(of_app));
}

/// The former self plays on while the game thinks, and when the answer is no.
#[test_log::test]
fn a_player_that_is_refused_keeps_its_former_self() {
    let (mut host, mut first, mut second) = asks_again();
    requests(&host)[1].refuse("you play already");
    until(&mut [&mut host, &mut first, &mut second], |apps| !ended(apps[2]).is_empty());
    assert_eq!(ended(&second), [EndReason::Refused("you play already".to_owned())]);
    host.world_mut().query::<&UhstHost>().single(host.world()).unwrap().broadcast("still here?");
    until(&mut [&mut host, &mut first], |apps| !TestLog::of(apps[1]).texts().is_empty());
    assert_eq!((rejoined(&host), disconnected(&host), ended(&first)), (0, vec![], vec![]));
}

#[test_log::test]
fn the_player_at_the_host_has_the_hosts_identity() {
    let network = TestNetwork::memory();
    let mut host = network.host("game");
    let session = host.world_mut().query_filtered::<Entity, With<UhstHost>>().single(host.world()).unwrap();
    host.world_mut().spawn(LocalClientOf(session));
    until(&mut [&mut host], |apps| connected(apps[0]) == 2);
    let own = host.world().resource::<UhstIdentity>().public();
    let both: Vec<_> = host.world_mut().query::<&UhstPeer>().iter(host.world()).collect();
    assert!(both.iter().all(|peer| peer.identity() == Some(own) && peer.security() == UhstSecurity::Authenticated));
}
