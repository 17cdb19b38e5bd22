//! Paths that break and change between three machines. Each machine is a network namespace with a process.
//!
//! The tests need root, the programs `ip` and `python3`, and a kernel that allows namespaces. `.ci/namespaces` checks
//! for these, and runs some of the tests in parallel.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

#[path = "namespaces/addresses.rs"]
mod addresses;
#[path = "namespaces/game.rs"]
mod game;
#[path = "namespaces/joiners.rs"]
mod joiners;
#[path = "namespaces/net.rs"]
mod net;
#[path = "namespaces/outages.rs"]
mod outages;
#[path = "namespaces/player.rs"]
mod player;
#[path = "namespaces/status.rs"]
mod status;

use std::{thread::sleep, time::Duration};

use game::Game;
use net::{BadWire, Machine, Net};
use status::Status;

const PATIENCE: Duration = Duration::from_secs(30);
/// The limit for giving up a silent path with the default settings, on a busy machine.
const NOTICED: Duration = Duration::from_secs(8);
/// A gap between messages that players do not notice. Without an outage, gaps are a few milliseconds on an idle
/// machine.
const A_MOMENT: Duration = Duration::from_millis(700);

#[test]
#[ignore = "needs root and network namespaces"]
fn a_game_outlives_its_direct_path_and_becomes_direct_again() {
    let net = Net::with_direct();
    let mut game = Game::talking(&net);
    net.cut("direct");
    sleep(Duration::from_millis(100));
    game.goes_on(NOTICED);
    game.both("still direct", NOTICED, |status| !status.direct);
    eprintln!("without the direct path: {:?}", [game.host.status().gap, game.client.status().gap]);
    net.mend("direct");
    let back = game.both("not direct again", PATIENCE, |status| status.direct);
    eprintln!("direct again {back:?} after it was mended");
    game.goes_on(PATIENCE);
    game.nothing_is_lost();
}

#[test]
#[ignore = "needs root and network namespaces"]
fn nobody_notices_that_the_relay_is_gone_and_comes_back() {
    let net = Net::with_direct();
    let mut game = Game::talking(&net);
    sleep(Duration::from_secs(5));
    let before = [game.host.status().gap, game.client.status().gap];
    // The relay is first silent, then gone. Later another relay starts, which knows no session.
    net.cut("relay");
    sleep(Duration::from_secs(5));
    game.relay.take().unwrap().kill();
    sleep(Duration::from_secs(2));
    net.mend("relay");
    sleep(Duration::from_secs(3));
    let after = [game.host.status().gap, game.client.status().gap];
    eprintln!("longest silence: {before:?} with the relay, {after:?} without");
    assert!(after.into_iter().all(|gap| gap < A_MOMENT));
    let relay = net.start(Machine::Relay, "relay", &[]);
    relay.wait_for("no relay", PATIENCE, |status| status.ready);
    // The host gets its id again, so another client finds it.
    let relay = [("BEVY_UHST_TEST_RELAY", "http://10.77.3.3:8080/"), ("BEVY_UHST_TEST_PATIENT", "1")];
    let late = net.start(Machine::Client, "client", &relay);
    let found = late.wait_for("still not connected", 3 * PATIENCE, |status| status.connected == 1);
    eprintln!("found again {found:?} after the relay was there");
    assert!([game.host.status().gap, game.client.status().gap].into_iter().all(|gap| gap < A_MOMENT));
    assert_eq!((game.client.status().disconnected, game.client.status().ended), (0, 0));
    assert_eq!(game.host.status().disconnected, 0);
    assert!(game.client.status().direct);
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_long_and_lossy_wire_keeps_every_promise() {
    const DELAY: Duration = Duration::from_millis(200);
    let net = Net::new();
    let mut wire = BadWire::between_players(&net);
    wire.set(DELAY, 5, 0);
    let mut game = Game::direct(&net);
    game.say("reset");
    // Losses reduce SCTP's window to one packet in flight here. All channels share it, so this rate stays below it.
    game.say("rate 10");
    game.say("talk");
    sleep(Duration::from_secs(20));
    game.nothing_is_lost();
    // These reliable messages arrive after all earlier unreliable messages that are not lost.
    game.say("talk reliable");
    game.goes_on(PATIENCE);
    for (player, other) in [(&game.host, &game.client), (&game.client, &game.host)] {
        let Status { rtt, received, reliable, unreliable, .. } = player.status();
        let sent = other.status().sent;
        eprintln!("round trip {rtt:?}; unreliable {unreliable:?}, reliable {reliable:?}; {received:?} of {sent:?}");
        assert!((2 * DELAY..3 * DELAY).contains(&rtt), "round trip {rtt:?}");
        // Lost unreliable messages are not sent again and delay nothing.
        let arrived = f64::from(received.unreliable) / f64::from(sent.unreliable);
        assert!((0.85..0.99).contains(&arrived), "{arrived}");
        // The slowest unreliable message has no fixed limit: while SCTP waits for its retransmission timer, at least a
        // second, its window is one packet for all channels, so 1 of 100 unreliable messages may wait as long.
        assert!(unreliable.median >= DELAY && unreliable.median < 2 * DELAY && unreliable.worst < reliable.worst);
        // A retransmitted message arrives at least one round trip later.
        assert!(reliable.worst > 2 * DELAY);
    }
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_game_outlives_all_of_its_paths() {
    let net = Net::with_direct();
    let mut game = Game::talking(&net);
    net.cut("direct");
    net.cut("relay");
    // This is longer than the timeout of a peer.
    sleep(Duration::from_secs(10));
    net.mend("relay");
    let since = game.goes_on(PATIENCE);
    eprintln!("messages again {since:?} after the relay was mended");
    net.mend("direct");
    let back = game.both("not direct again", PATIENCE, |status| status.direct);
    eprintln!("direct again {back:?} after it was mended");
    game.nothing_is_lost();
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_player_who_moves_to_another_network_goes_on() {
    moves(Machine::Client, &[("direct", "10.77.1.2", "10.77.1.22"), ("relay", "10.77.3.2", "10.77.3.22")]);
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_host_that_moves_to_another_network_goes_on() {
    moves(Machine::Host, &[("direct", "10.77.1.1", "10.77.1.11"), ("relay", "10.77.2.1", "10.77.2.11")]);
}

/// Replaces addresses of a machine, as a change of its network does.
fn moves(machine: Machine, addresses: &[(&str, &str, &str)]) {
    let net = Net::with_direct();
    let mut game = Game::talking(&net);
    for (device, old, new) in addresses {
        net.ip(machine, &format!("addr del {old}/24 dev {device}"));
        net.ip(machine, &format!("addr add {new}/24 dev {device}"));
    }
    let since = game.goes_on(NOTICED);
    eprintln!("messages again after {since:?}");
    sleep(Duration::from_secs(2));
    let direct = game.both("not direct again", NOTICED, |status| status.direct);
    eprintln!("direct {direct:?} later; longest silence {:?}", [game.host.status().gap, game.client.status().gap]);
    game.goes_on(PATIENCE);
    game.nothing_is_lost();
}

#[test]
#[ignore = "needs root and network namespaces"]
fn without_a_direct_wire_those_who_allow_nothing_else_are_told_why() {
    let net = Net::new();
    let relay = net.start(Machine::Relay, "relay", &[]);
    relay.wait_for("no relay", PATIENCE, |status| status.ready);
    let host = net.start(Machine::Host, "host", &[("BEVY_UHST_TEST_RELAY", "http://10.77.2.3:8080/")]);
    host.wait_for("does not listen", PATIENCE, |status| status.ready);
    let settings = [("BEVY_UHST_TEST_RELAY", "http://10.77.3.3:8080/"), ("BEVY_UHST_TEST_PATHS", "direct")];
    let client = net.start(Machine::Client, "client", &settings);
    let ended = client.wait_for("still trying", PATIENCE, |status| status.ended == 1);
    assert!((Duration::from_secs(14)..Duration::from_secs(20)).contains(&ended), "{ended:?}");
    assert!(client.status().no_direct_path);
    assert_eq!((client.status().connected, host.status().connected), (0, 0));
}

/// Measures the traffic of a direct connection, with all overhead. Prints it, and asserts the limit on idle traffic.
#[test]
#[ignore = "needs root and network namespaces"]
fn the_cost_of_a_direct_connection() {
    const TIME: Duration = Duration::from_secs(20);
    let net = Net::with_direct();
    let mut game = Game::direct(&net);
    // Measures the direct wire, and the wire to the relay.
    let measure = || {
        let traffic = || ["direct", "relay"].map(|wire| net.traffic(Machine::Client, wire));
        let before = traffic();
        sleep(TIME);
        let after = traffic();
        [0, 1].map(|wire| [0, 1].map(|way| (after[wire][way] - before[wire][way]) / TIME.as_secs()))
    };
    sleep(Duration::from_secs(5));
    let [idle, relay] = measure();
    eprintln!("idle: {idle:?} B/s out and in on the direct wire, with IP headers");
    eprintln!("idle: {relay:?} B/s on the wire to the relay");
    for way in idle {
        assert!(way < 400, "{way} B/s");
    }
    for channel in ["reliable", "unreliable"] {
        game.say(&format!("talk {channel}"));
        sleep(Duration::from_secs(2));
        let sent = || {
            let sent = game.client.status().sent;
            f64::from(sent.reliable + sent.unreliable)
        };
        let before = sent();
        let [cost, _] = measure();
        let rate = (sent() - before) / TIME.as_secs_f64();
        eprintln!("{channel}, {rate:.1} messages/s of 64 B each way ({:.0} B/s): {cost:?} B/s", rate * 64.0);
    }
}
