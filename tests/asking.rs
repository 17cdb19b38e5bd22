//! A host that asks its game about each joiner: every request that is not refused has one outcome.

mod support;

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, link},
};
use support::{connected, ended, until};

/// A host whose game is asked.
fn asking(network: &TestNetwork, host: UhstHost) -> App {
    network.host_with(host.admission(Admission::Ask))
}

/// Waits for this many requests, and returns them.
fn requests(host: &mut App, others: &mut [&mut App], count: usize) -> Vec<UhstJoinRequest> {
    let all = |app: &App| -> Vec<UhstJoinRequest> {
        let request = |event: &TestEvent| match event {
            TestEvent::JoinRequest(request) => Some(request.clone()),
            _ => None,
        };
        TestLog::of(app).0.iter().filter_map(request).collect()
    };
    let mut apps = vec![&mut *host];
    apps.extend(others.iter_mut().map(|app| &mut **app));
    until(&mut apps, |apps| all(apps[0]).len() == count);
    all(host)
}

/// The joiners that were abandoned, and why.
fn abandoned(host: &App) -> Vec<(JoinId, EndReason)> {
    let abandoned = |event: &TestEvent| match event {
        TestEvent::JoinAbandoned(event) => Some((event.join, event.reason.clone())),
        _ => None,
    };
    TestLog::of(host).0.iter().filter_map(abandoned).collect()
}

/// Lets another player join, whose request is the last: what was reported of others before has arrived by then.
fn one_more_joins(network: &TestNetwork, host: &mut App) -> JoinId {
    let before = TestLog::of(host).count(|event| matches!(event, TestEvent::JoinRequest(_)));
    let mut last = network.join(host);
    let request = requests(host, &mut [&mut last], before + 1).pop().expect("it asks");
    request.accept();
    until(&mut [host, &mut last], |apps| connected(apps[1]) == 1 && connected(apps[0]) > 0);
    request.join
}

fn join_ids(host: &mut App) -> Vec<JoinId> {
    host.world_mut().query::<&UhstPeer>().iter(host.world()).map(UhstPeer::join_id).collect()
}

#[test_log::test]
fn a_request_that_is_accepted_becomes_a_peer_with_its_id() {
    let network = TestNetwork::memory();
    let mut host = asking(&network, UhstHost::new("game"));
    let (mut first, mut second) = (network.join(&host), network.join(&host));
    let asked = requests(&mut host, &mut [&mut first, &mut second], 2);
    assert_ne!(asked[0].join, asked[1].join);
    asked[1].accept();
    until(&mut [&mut host, &mut first, &mut second], |apps| connected(apps[0]) == 1);
    assert_eq!(join_ids(&mut host), [asked[1].join]);
    assert_eq!(abandoned(&host), []);
}

#[test_log::test]
fn a_joiner_that_gives_up_is_abandoned() {
    let network = TestNetwork::memory();
    let mut host = asking(&network, UhstHost::new("game"));
    let mut joiner = network.join(&host);
    let asked = requests(&mut host, &mut [&mut joiner], 1);
    let session = joiner.world_mut().query_filtered::<Entity, With<UhstClient>>().single(joiner.world()).unwrap();
    joiner.world_mut().despawn(session);
    until(&mut [&mut host, &mut joiner], |apps| !abandoned(apps[0]).is_empty());
    assert_eq!(abandoned(&host), [(asked[0].join, EndReason::Left)]);
    // An answer that comes too late changes nothing.
    asked[0].accept();
    let last = one_more_joins(&network, &mut host);
    assert_eq!(join_ids(&mut host), [last]);
    assert_eq!(abandoned(&host).len(), 1);
}

#[test_log::test]
fn a_joiner_that_is_refused_is_not_abandoned() {
    let network = TestNetwork::memory();
    let mut host = asking(&network, UhstHost::new("game"));
    let mut joiner = network.join(&host);
    requests(&mut host, &mut [&mut joiner], 1)[0].refuse("not you");
    until(&mut [&mut host, &mut joiner], |apps| !ended(apps[1]).is_empty());
    drop(joiner);
    one_more_joins(&network, &mut host);
    assert_eq!(abandoned(&host), []);
}

#[test_log::test]
fn a_joiner_keeps_its_place_while_the_game_thinks() {
    let network = TestNetwork::memory();
    let mut host = asking(&network, UhstHost::new("game").max_peers(1).replace_interrupted(false));
    let mut first = network.join(&host);
    requests(&mut host, &mut [&mut first], 1)[0].accept();
    until(&mut [&mut host, &mut first], |apps| connected(apps[0]) == 1 && connected(apps[1]) == 1);
    let session = host.world_mut().query_filtered::<Entity, With<UhstHost>>().single(host.world()).unwrap();
    host.world_mut().get_mut::<UhstHost>(session).unwrap().set_max_peers(2);
    let mut second = network.join(&host);
    let asked = requests(&mut host, &mut [&mut first, &mut second], 2);
    assert_eq!((abandoned(&host), ended(&second)), (vec![], vec![]));
    host.world_mut().get_mut::<UhstHost>(session).unwrap().set_max_peers(1);
    asked[1].accept();
    until(&mut [&mut host, &mut first, &mut second], |apps| connected(apps[0]) == 2 && connected(apps[2]) == 1);
    assert_eq!(abandoned(&host), []);
}

#[test_log::test]
fn a_session_that_ends_abandons_those_who_ask() {
    let network = TestNetwork::memory();
    let mut host = asking(&network, UhstHost::new("game"));
    let mut joiner = network.join_with(UhstClient::from(link(&host)));
    let asked = requests(&mut host, &mut [&mut joiner], 1);
    let mut hosts = host.world_mut().query::<&UhstHost>();
    hosts.single(host.world()).unwrap().leave();
    until(&mut [&mut host, &mut joiner], |apps| !ended(apps[0]).is_empty() && !ended(apps[1]).is_empty());
    assert_eq!(abandoned(&host), [(asked[0].join, EndReason::EndedLocally)]);
    let log = &TestLog::of(&host).0;
    let at = |such: fn(&TestEvent) -> bool| log.iter().position(such).unwrap();
    let (end, gone) =
        (at(|event| matches!(event, TestEvent::Ended(_))), at(|event| matches!(event, TestEvent::JoinAbandoned(_))));
    assert!(gone < end, "nothing is reported of a session after its end");
}
