//! A network made worse on purpose, between two apps. That the numbers set are the numbers measured is tested with the
//! delay line itself, in virtual time.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::time::Duration;

use bevy::{app::AppExit, prelude::*};
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, link, update_until},
};
use support::{connected, disconnected, the_peer};

const PATIENCE: Duration = Duration::from_secs(60);
const DELAY: Duration = Duration::from_millis(60);

/// A host on a good network, and a client on this one.
fn pair(network: &TestNetwork, conditions: NetworkConditions) -> [App; 2] {
    let host = network.host("bad");
    let client = network.join_with(UhstClient::from(link(&host)).conditions(conditions));
    let mut apps = [host, client];
    await_all(&mut apps, |apps| apps.iter().all(|app| connected(app) == 1));
    apps
}

#[track_caller]
fn await_all(apps: &mut [App; 2], done: impl FnMut(&mut [&mut App]) -> bool) {
    let [host, client] = apps;
    assert!(update_until(&mut [host, client], PATIENCE, done), "{:?}", TestLog::of(host));
}

fn on<T>(app: &App, peer: Entity, act: impl Fn(&UhstPeer) -> T) -> T {
    act(app.world().get::<UhstPeer>(peer).unwrap())
}

fn numbers(app: &App) -> Vec<u32> {
    let number = |event: &TestEvent| match event {
        TestEvent::Message(message) => Some(u32::from_be_bytes(message.payload.as_bytes()[..4].try_into().unwrap())),
        _ => None,
    };
    TestLog::of(app).0.iter().filter_map(number).collect()
}

#[test]
fn a_delay_shows_in_the_round_trip_time_of_both_sides_and_goes_again() {
    for network in [TestNetwork::memory(), TestNetwork::loopback()] {
        let conditions = NetworkConditions { delay: DELAY, ..Default::default() };
        let mut apps = pair(&network, conditions);
        let peers = apps.each_mut().map(the_peer);
        let rtt = |app: &App, peer: Entity| app.world().get::<UhstPeer>(peer).unwrap().rtt();
        await_all(&mut apps, |apps| (0..2).all(|side| rtt(apps[side], peers[side]) >= Some(2 * DELAY)));
        let client = &apps[1];
        client.world().get::<UhstPeer>(peers[1]).unwrap().set_conditions(NetworkConditions::PERFECT);
        await_all(&mut apps, |apps| (0..2).all(|side| rtt(apps[side], peers[side]) < Some(2 * DELAY)));
    }
}

#[test]
fn what_is_reliable_arrives_once_and_in_order_on_a_terrible_network() {
    for network in [TestNetwork::memory(), TestNetwork::loopback()] {
        let mut apps = pair(&network, NetworkConditions::TERRIBLE);
        let peers = apps.each_mut().map(the_peer);
        for number in 0..1000_u32 {
            for side in 0..2 {
                on(&apps[side], peers[side], |peer| peer.send(number.to_be_bytes())).unwrap();
            }
        }
        await_all(&mut apps, |apps| apps.iter().all(|app| numbers(app).len() >= 1000));
        assert!(apps.iter().all(|app| numbers(app).into_iter().eq(0..1000) && disconnected(app).is_empty()));
    }
}

#[test]
fn a_share_of_unreliable_messages_is_lost_on_the_direct_path_while_the_session_runs() {
    const SENT: u32 = 1500;
    let mut apps = pair(&TestNetwork::loopback(), NetworkConditions::PERFECT);
    let peers = apps.each_mut().map(the_peer);
    await_all(&mut apps, |apps| on(apps[0], peers[0], UhstPeer::path) == Path::Direct);
    let host = apps[0].world_mut().query::<&UhstHost>().single(apps[0].world()).unwrap();
    host.set_conditions(NetworkConditions { loss: 0.3, ..Default::default() });
    let lost = |app: &App| on(app, peers[0], |peer| peer.traffic().lost);
    let (mut sent, before) = (0, lost(&apps[0]));
    await_all(&mut apps, |apps| {
        // One a step, since messages that are sent at once share a packet.
        if sent < SENT {
            on(apps[0], peers[0], |peer| peer.send_on(UhstChannel::Unreliable, sent.to_be_bytes())).unwrap();
            sent += 1;
        } else if sent == SENT {
            on(apps[0], peers[0], |peer| peer.send(SENT.to_be_bytes())).unwrap();
            sent += 1;
        }
        numbers(apps[1]).contains(&SENT)
    });
    let arrived = numbers(&apps[1]).into_iter().filter(|number| *number < SENT).count();
    let missing = u64::from(SENT) - arrived as u64;
    let arrived = arrived as f64 / f64::from(SENT);
    // Five standard deviations are 0.06; messages that met in one packet add to it.
    assert!((0.6..=0.8).contains(&arrived), "{arrived} arrived");

    // The other side tells what it missed.
    on(&apps[0], peers[0], |peer| peer.set_conditions(NetworkConditions::PERFECT));
    await_all(&mut apps, |apps| {
        on(apps[0], peers[0], |peer| peer.send_on(UhstChannel::Unreliable, u32::MAX.to_be_bytes())).unwrap();
        lost(apps[0]) - before == missing
    });
    assert_eq!(on(&apps[1], peers[1], |peer| peer.traffic().lost), 0, "the client lost nothing");
}

/// Nothing passes, on any path and either way. What was sent meanwhile comes afterwards.
#[test_log::test]
fn nothing_passes_a_cable_that_is_pulled_and_nothing_is_lost() {
    let pulled = NetworkConditions { cut: true, ..NetworkConditions::PERFECT };
    let all_lost = NetworkConditions { loss: 1.0, ..NetworkConditions::PERFECT };
    for (network, conditions) in [(TestNetwork::memory(), pulled), (TestNetwork::loopback(), all_lost)] {
        let mut apps = pair(&network, NetworkConditions::PERFECT);
        let (at_host, at_client) = (the_peer(&mut apps[0]), the_peer(&mut apps[1]));
        on(&apps[0], at_host, |peer| peer.set_conditions(conditions));
        // The command and what was on its way before it.
        let [host, client] = &mut apps;
        update_until(&mut [host, client], Duration::from_millis(200), |_| false);
        for (app, peer) in [(0, at_host), (1, at_client)] {
            on(&apps[app], peer, |peer| peer.send("meanwhile").unwrap());
        }
        let [host, client] = &mut apps;
        update_until(&mut [host, client], Duration::from_millis(700), |_| false);
        assert!(apps.iter().all(|app| TestLog::of(app).texts().is_empty()), "something passed");
        on(&apps[0], at_host, |peer| peer.set_conditions(NetworkConditions::PERFECT));
        await_all(&mut apps, |apps| apps.iter().all(|app| TestLog::of(app).texts() == ["meanwhile"]));
        assert!(apps.iter().all(|app| disconnected(app).is_empty()));
    }
}

/// Not even a goodbye passes.
#[test_log::test]
fn who_leaves_over_a_pulled_cable_is_missed() {
    let network = TestNetwork::memory();
    let impatient = ConnectionConfig {
        timeout: Duration::from_millis(500),
        resume_timeout: Duration::from_secs(1),
        ..ConnectionConfig::default()
    };
    let host = network.host_with(UhstHost::new("bad").connection(impatient.clone()));
    let client = network.join_with(UhstClient::from(link(&host)).connection(impatient));
    let mut apps = [host, client];
    await_all(&mut apps, |apps| apps.iter().all(|app| connected(app) == 1));
    let peer = the_peer(&mut apps[1]);
    on(&apps[1], peer, |peer| {
        peer.set_conditions(NetworkConditions { cut: true, ..NetworkConditions::PERFECT });
        peer.disconnect();
    });
    await_all(&mut apps, |apps| !disconnected(apps[0]).is_empty());
    assert_eq!(disconnected(&apps[0]), [EndReason::TimedOut]);
}

/// Whoever leaves learns what did not arrive, and of whom.
#[test_log::test]
fn the_end_tells_what_was_cut() {
    let network = TestNetwork::memory();
    let slow = NetworkConditions { bandwidth: Some(100_000), ..NetworkConditions::PERFECT };
    let config = ConnectionConfig { drain_timeout: Duration::from_secs(1), ..ConnectionConfig::default() };
    let host = network.host_with(UhstHost::new("bad").connection(config).conditions(slow));
    let client = network.join_with(UhstClient::from(link(&host)));
    let mut apps = [host, client];
    await_all(&mut apps, |apps| apps.iter().all(|app| connected(app) == 1));
    let peer = the_peer(&mut apps[0]);
    for _ in 0..16 {
        on(&apps[0], peer, |peer| peer.send(vec![0; 64 << 10])).unwrap();
    }
    let world = apps[0].world_mut();
    world.query::<&UhstHost>().single(world).unwrap().leave();
    await_all(&mut apps, |apps| apps.iter().all(|app| !disconnected(app).is_empty()));
    let unconfirmed = apps.each_ref().map(|app| {
        let end = |event: &TestEvent| match event {
            TestEvent::Disconnected(event) => Some(event.unconfirmed),
            _ => None,
        };
        TestLog::of(app).0.iter().find_map(end).unwrap()
    });
    let arrived = TestLog::of(&apps[1]).count(|event| matches!(event, TestEvent::Message(_)));
    assert!(arrived < 16 && unconfirmed[0] >= (16 - arrived - 1) * (64 << 10), "{arrived} arrived, {unconfirmed:?}");
    assert_eq!(unconfirmed[1], 0);
}

/// 2 MiB take four seconds on this link.
#[test]
fn what_was_sent_before_leaving_arrives_over_a_slow_link() {
    const COUNT: u32 = 32;
    let slow =
        NetworkConditions { delay: Duration::from_millis(50), bandwidth: Some(500_000), ..NetworkConditions::PERFECT };
    let network = TestNetwork::loopback();
    for leave in [
        (|app| app.world_mut().query::<&UhstClient>().single(app.world()).unwrap().leave()) as fn(&mut App),
        |app| {
            let session = app.world_mut().query_filtered::<Entity, With<UhstClient>>().single(app.world()).unwrap();
            app.world_mut().despawn(session);
        },
        |app| {
            app.world_mut().write_message(AppExit::Success);
            app.update();
        },
    ] {
        let mut apps = pair(&network, slow);
        let peer = the_peer(&mut apps[1]);
        for number in 0..COUNT {
            let mut payload = vec![0; 64 << 10];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            on(&apps[1], peer, |peer| peer.send(payload.clone())).unwrap();
        }
        leave(&mut apps[1]);
        await_all(&mut apps, |apps| disconnected(apps[0]) == [EndReason::Left]);
        assert!(numbers(&apps[0]).into_iter().eq(0..COUNT), "{} of {COUNT} arrived", numbers(&apps[0]).len());
    }
}
