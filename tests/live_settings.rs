//! Settings of a host that change while it runs: who may join.

mod support;

use std::time::Instant;

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, update_until},
};
use support::PATIENCE;

fn set(host: &mut App, change: impl FnOnce(&mut UhstHost)) {
    let world = host.world_mut();
    change(&mut world.query::<&mut UhstHost>().single_mut(world).expect("one host"));
}

/// Whether this joiner is connected, or why it is not.
#[track_caller]
fn join(network: &TestNetwork, host: &mut App, client: UhstClient) -> Result<App, EndReason> {
    let mut app = network.join_with(client);
    let known = |event: &TestEvent| matches!(event, TestEvent::Connected(_) | TestEvent::Ended(_));
    let in_time = update_until(&mut [host, &mut app], PATIENCE, |apps| TestLog::of(apps[1]).has(known));
    assert!(in_time, "neither connected nor refused");
    let reason = TestLog::of(&app).0.iter().find_map(|event| match event {
        TestEvent::Ended(event) => Some(event.reason.clone()),
        _ => None,
    });
    reason.map_or(Ok(app), Err)
}

/// A host with one place that is asked, somebody who waits for its answer, and what answers the request.
#[track_caller]
fn asking(network: &TestNetwork) -> (App, App, JoinResponder) {
    let mut host = network.host_with(UhstHost::new("game").max_peers(1).admission(Admission::Ask));
    let mut joiner = network.join_with(game());
    assert!(update_until(&mut [&mut host, &mut joiner], PATIENCE, |apps| !requests(apps[0]).is_empty()));
    let responder = requests(&host).remove(0);
    (host, joiner, responder)
}

/// What answers each request that this host was asked, in order.
fn requests(host: &App) -> Vec<JoinResponder> {
    let responder = |event: &TestEvent| match event {
        TestEvent::JoinRequest(request) => Some(request.responder()),
        _ => None,
    };
    TestLog::of(host).0.iter().filter_map(responder).collect()
}

fn game() -> UhstClient {
    UhstClient::join("game")
}

#[test_log::test]
fn the_limit_of_peers_follows() {
    let network = TestNetwork::memory();
    let mut host = network.host_with(UhstHost::new("game").max_peers(1));
    let first = join(&network, &mut host, game()).expect("a place");
    assert_eq!(join(&network, &mut host, game()).err(), Some(EndReason::Full));
    set(&mut host, |host| host.set_max_peers(2));
    let second = join(&network, &mut host, game()).expect("another place");
    assert_eq!(join(&network, &mut host, game()).err(), Some(EndReason::Full));

    // Fewer than there are: nobody has to go, and a place that is left is not given again.
    set(&mut host, |host| host.set_max_peers(1));
    let peers = |host: &mut App| host.world_mut().query::<&UhstPeer>().iter(host.world()).count();
    assert_eq!(peers(&mut host), 2);
    drop(first);
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| peers(apps[0]) == 1));
    assert_eq!(join(&network, &mut host, game()).err(), Some(EndReason::Full));
    set(&mut host, |host| host.set_max_peers(2));
    let _third = join(&network, &mut host, game()).expect("a place again");
    drop(second);
}

#[test_log::test]
fn the_password_follows() {
    let network = TestNetwork::memory();
    let mut host = network.host("game");
    let _first = join(&network, &mut host, game()).expect("no password");
    set(&mut host, |host| host.set_password(Some("swordfish")));
    assert_eq!(join(&network, &mut host, game()).err(), Some(EndReason::WrongPassword));
    let _second = join(&network, &mut host, game().password("swordfish")).expect("the right password");
    set(&mut host, |host| host.set_password(None));
    let _third = join(&network, &mut host, game()).expect("no password again");
}

/// The game may take its time to answer a join request: what holds then counts.
#[test_log::test]
fn who_is_on_the_way_in_is_turned_away_by_a_new_lock_or_password() {
    let lock = |host: &mut UhstHost| host.set_locked(true);
    let password = |host: &mut UhstHost| host.set_password(Some("swordfish"));
    for (change, words) in [(lock as fn(&mut UhstHost), "nobody new"), (password, "password has just been changed")] {
        let (mut host, mut joiner, responder) = asking(&TestNetwork::memory());
        set(&mut host, change);
        responder.accept();
        let known = |event: &TestEvent| matches!(event, TestEvent::Connected(_) | TestEvent::Ended(_));
        let decided = |event: &TestEvent| matches!(event, TestEvent::Connected(_) | TestEvent::JoinAbandoned(_));
        assert!(update_until(&mut [&mut host, &mut joiner], PATIENCE, |apps| {
            TestLog::of(apps[0]).has(decided) && TestLog::of(apps[1]).has(known)
        }));
        let refused = |event: &TestEvent| match event {
            TestEvent::Ended(event) => matches!(&event.reason, EndReason::Refused(why) if why.contains(words)),
            _ => false,
        };
        assert!(TestLog::of(&joiner).has(refused), "{:?}", TestLog::of(&joiner));
        let abandoned = |event: &TestEvent| match event {
            TestEvent::JoinAbandoned(event) => matches!(&event.reason, EndReason::Refused(why) if why.contains(words)),
            _ => false,
        };
        assert!(TestLog::of(&host).has(abandoned), "the game waits for nobody: {:?}", TestLog::of(&host));
    }
}

/// Its request is void, and nobody is connected by a late answer.
#[test_log::test]
fn a_joiner_that_leaves_before_it_is_let_in_frees_its_place() {
    for leave in [
        (|app| app.world_mut().query::<&UhstClient>().single(app.world()).expect("one client").leave()) as fn(&mut App),
        |app| {
            let world = app.world_mut();
            let session = world.query_filtered::<Entity, With<UhstClient>>().single(world).expect("one client");
            world.despawn(session);
        },
    ] {
        let network = TestNetwork::memory();
        let (mut host, mut joiner, responder) = asking(&network);
        leave(&mut joiner);
        let over = |event: &TestEvent| matches!(event, TestEvent::Ended(_));
        assert!(update_until(&mut [&mut host, &mut joiner], PATIENCE, |apps| TestLog::of(apps[1]).has(over)));
        // The place is free, and so is the host's memory of the first, once another one can ask.
        let began = Instant::now();
        let mut other = loop {
            let mut other = network.join_with(game());
            update_until(&mut [&mut host, &mut joiner, &mut other], PATIENCE, |apps| {
                requests(apps[0]).len() == 2 || TestLog::of(apps[2]).has(over)
            });
            if requests(&host).len() == 2 {
                break other;
            }
            assert!(began.elapsed() < PATIENCE, "its place is never free: {:?}", TestLog::of(&other));
        };
        responder.accept();
        requests(&host)[1].accept();
        let connected = |app: &App| TestLog::of(app).count(|event| matches!(event, TestEvent::Connected(_)));
        assert!(update_until(&mut [&mut host, &mut joiner, &mut other], PATIENCE, |apps| {
            connected(apps[0]) > 0 && connected(apps[2]) == 1
        }));
        assert_eq!((connected(&host), connected(&joiner)), (1, 0), "a ghost is connected");
    }
}

#[test_log::test]
fn a_lock_keeps_newcomers_out_and_peers_in() {
    let network = TestNetwork::memory();
    let mut host = network.host("game");
    let mut first = join(&network, &mut host, game()).expect("open");
    set(&mut host, |host| host.set_locked(true));
    assert!(matches!(join(&network, &mut host, game()), Err(EndReason::Refused(_))));
    first.world_mut().query::<&UhstClient>().single(first.world()).expect("one client").send("here").expect("room");
    assert!(update_until(&mut [&mut host, &mut first], PATIENCE, |apps| TestLog::of(apps[0]).texts() == ["here"]));
    set(&mut host, |host| host.set_locked(false));
    let _second = join(&network, &mut host, game()).expect("open again");

    // From the beginning.
    let network = TestNetwork::memory();
    let mut locked = UhstHost::new("game");
    locked.set_locked(true);
    let mut host = network.host_with(locked);
    assert!(matches!(join(&network, &mut host, game()), Err(EndReason::Refused(_))));
}
