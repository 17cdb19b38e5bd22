//! Machines with many addresses of which one leads to the peer, and machines with one address family.

use std::time::{Duration, Instant};

use crate::{
    PATIENCE,
    game::Game,
    net::{Machine, Net, Player},
    status::Status,
};

/// Adds addresses to a machine, as containers do: bridges, and wires to them.
fn crowd(net: &Net, machine: Machine, addresses: usize) {
    for i in 0..addresses {
        let device = if i % 2 == 0 { format!("abr{i}") } else { format!("veth{i}") };
        let kind = if i % 2 == 0 { "bridge".to_owned() } else { format!("veth peer name inside{i}") };
        net.ip(machine, &format!("link add name {device} type {kind}"));
        net.address(machine, &device, &format!("10.{}.{i}.1", 1 + machine as u8));
        if i % 2 == 1 {
            net.ip(machine, &format!("link set inside{i} up"));
        }
    }
}

#[test]
#[ignore = "needs root and network namespaces"]
fn many_addresses_neither_hide_the_way_nor_starve_the_game() {
    let net = Net::new();
    for machine in [Machine::Host, Machine::Client] {
        crowd(&net, machine, 40);
    }
    net.direct();
    let mut game = Game::start(&net);
    let connected = Instant::now();
    game.say("talk");
    game.goes_on(PATIENCE);
    game.say("reset");
    game.both("not direct", PATIENCE, |status| status.direct);
    let direct = connected.elapsed();
    game.goes_on(PATIENCE);
    let gaps = [&game.host, &game.client].map(|player| player.status().gap);
    eprintln!("direct {direct:?} after it was connected, silent for {gaps:?} at most");
    assert!(direct < Duration::from_secs(5), "{direct:?}");
    // A peer is interrupted after 5 s of silence.
    assert!(gaps.iter().all(|gap| *gap < Duration::from_secs(4)), "{gaps:?}");
    game.nothing_is_lost();
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_machine_without_ipv4_hosts_and_one_without_ipv6_too() {
    let net = Net::new();
    for (machine, other, without) in [(Machine::Host, "127.0.0.1/8", "-4"), (Machine::Client, "::1/128", "-6")] {
        // All addresses of the family are removed, also those of the loopback device.
        for device in ["lo", "relay"] {
            net.ip(machine, &format!("{without} addr flush dev {device}"));
        }
        let host = net.start(machine, "embedded", &[]);
        let family = if without == "-4" { "127.0.0.1" } else { "[::1]" };
        host.wait_for(&format!("no host without {other}"), PATIENCE, |status| status.ready && status.connected == 1);
        assert!(host.status().links.iter().all(|link| !link.contains(family)), "{:?}", host.status().links);
    }
}

#[test]
#[ignore = "needs root and network namespaces"]
fn links_follow_when_addresses_change() {
    let net = Net::new();
    crowd(&net, Machine::Host, 4);
    let host = net.start(Machine::Host, "embedded", &[]);
    let first =
        |such: &'static str| move |status: &Status| status.links.first().is_some_and(|link| link.contains(such));
    host.wait_for("the bridges are in front", PATIENCE, first("//10.77.2.1:"));
    net.ip(Machine::Host, "addr flush dev relay");
    net.address(Machine::Host, "relay", "10.77.2.99");
    host.wait_for("the links are old", PATIENCE, first("//10.77.2.99:"));
}

const JOINERS: u32 = 32;
/// The limit until all paths are direct, on a busy machine. The handshakes alone take three seconds.
const ALL_DIRECT: Duration = Duration::from_secs(15);

/// Connects [`JOINERS`] clients at once from one machine. Both machines have many addresses.
fn many_join(crowd: impl Fn(&Net, Machine)) {
    let net = Net::new();
    for machine in [Machine::Host, Machine::Client] {
        crowd(&net, machine);
    }
    net.direct();
    let relay = net.start(Machine::Relay, "relay", &[]);
    relay.wait_for("no relay", PATIENCE, |status| status.ready);
    let mut host = net.start(Machine::Host, "host", &[("BEVY_UHST_TEST_RELAY", "http://10.77.2.3:8080/")]);
    host.wait_for("does not listen", PATIENCE, |status| status.ready);
    host.say("rate 20");
    host.say("talk reliable");
    let settings = [("BEVY_UHST_TEST_RELAY", "http://10.77.3.3:8080/")];
    let joiners = net.start(Machine::Client, &format!("joiners {JOINERS}"), &settings);
    joiners.wait_for("no start", PATIENCE, |status| status.ready);
    let connected = joiners.wait_for("not all connected", PATIENCE, |status| status.connected == JOINERS);
    let direct = joiners.wait_for("not all direct", PATIENCE, |status| status.directs == JOINERS);
    let all = |who: &Player| {
        let Status { interrupted, disconnected, ended, gap, .. } = who.status();
        assert_eq!((interrupted, disconnected, ended), (0, 0, 0));
        gap
    };
    all(&host);
    let gap = all(&joiners);
    eprintln!("all connected after {connected:?}, direct {direct:?} later, silent for {gap:?} at most");
    assert!(connected + direct < ALL_DIRECT);
    assert!(gap < Duration::from_secs(4), "{gap:?}");
}

#[test]
#[ignore = "needs root and network namespaces"]
fn many_join_from_many_addresses() {
    many_join(|net, machine| crowd(net, machine, 40));
}

/// Adds devices with the names and addresses of real ones: bridges, and wires that end on this machine. The other
/// machine has some of these addresses too, so packets to it there arrive here.
fn look_alikes(net: &Net, machine: Machine) {
    for i in 0..40 {
        let device = format!("eth{i}");
        let kind = if i % 3 == 1 { format!("veth peer name enp{i}s0") } else { "bridge".to_owned() };
        net.ip(machine, &format!("link add name {device} type {kind}"));
        let address = match i % 4 {
            0 => format!("172.17.{i}.1"),
            1 => format!("10.0.{i}.1"),
            2 => format!("192.168.{i}.{}", 1 + machine as u8),
            _ => format!("10.{}.{i}.1", 1 + machine as u8),
        };
        net.address(machine, &device, &address);
        if i % 3 == 1 {
            net.ip(machine, &format!("link set enp{i}s0 up"));
        }
    }
}

#[test]
#[ignore = "needs root and network namespaces"]
fn many_join_from_among_look_alikes() {
    many_join(look_alikes);
}
