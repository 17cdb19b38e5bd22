//! Links that are down, processes that are suspended or killed, and closes over a slow wire. These tests mostly wait,
//! so they run in parallel.

use std::{
    sync::Mutex,
    thread::sleep,
    time::{Duration, Instant},
};

use bevy_uhst::prelude::EndReason;

use crate::{
    PATIENCE,
    game::Game,
    net::{BadWire, Machine, Net, Player},
    status::Status,
};

const RELAY_ONLY: &[(&str, &str)] = &[("BEVY_UHST_TEST_PATHS", "relay")];
const AUTOMATIC: &[(&str, &str)] = &[];
/// The default timeout of a peer, and the delay of a busy machine.
const INTERRUPTED: Duration = Duration::from_millis(5000 + 1000);
/// The time from the beginning of a silence to the end of the connection.
const GONE: Duration = Duration::from_secs(5 + 30);

/// Starts a game, and waits until it uses the best path that the settings allow.
fn connected(net: &Net, settings: &[(&str, &str)]) -> Game {
    // A start takes a second of CPU time, so games start one after the other.
    static STARTS: Mutex<()> = Mutex::new(());
    let _turn = STARTS.lock();
    let game = Game::embedded(net, settings);
    if settings != RELAY_ONLY {
        game.both("not direct", PATIENCE, |status| status.direct);
    }
    game
}

/// Starts a game with reliable messages in both directions.
fn talking(net: &Net, settings: &[(&str, &str)]) -> Game {
    let mut game = connected(net, settings);
    game.say("rate 10");
    game.say("talk reliable");
    game.goes_on(PATIENCE);
    game
}

fn is_interrupted(status: &Status) -> bool {
    status.interrupted == status.resumed + 1
}

fn is_back(status: &Status) -> bool {
    status.interrupted == status.resumed
}

fn gone(status: &Status) -> bool {
    status.disconnected == 1
}

fn timed_out(player: &Player) {
    assert_eq!(player.status().reason, Some(EndReason::TimedOut.to_string()));
}

fn link_down(time: Duration, settings: &[(&str, &str)]) {
    let net = Net::with_direct();
    let mut game = talking(&net, settings);
    net.cut("direct");
    let cut = Instant::now();
    if time > INTERRUPTED {
        let after = game.both("not interrupted", INTERRUPTED, is_interrupted);
        eprintln!("link down {time:?}, {settings:?}: interrupted after {after:?}");
    }
    sleep(time.saturating_sub(cut.elapsed()));
    net.mend("direct");
    let after = game.both("not back", PATIENCE, is_back);
    let goes_on = game.goes_on(PATIENCE);
    eprintln!("link down {time:?}, {settings:?}: back {after:?} after it was up, messages after {:?}", after + goes_on);
    game.nothing_is_lost();
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_link_that_is_down_for_3_s() {
    link_down(Duration::from_secs(3), AUTOMATIC);
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_link_that_is_down_for_3_s_by_relay() {
    link_down(Duration::from_secs(3), RELAY_ONLY);
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_link_that_is_down_for_7_s() {
    link_down(Duration::from_secs(7), AUTOMATIC);
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_link_that_is_down_for_7_s_by_relay() {
    link_down(Duration::from_secs(7), RELAY_ONLY);
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_link_that_is_down_for_20_s() {
    link_down(Duration::from_secs(20), AUTOMATIC);
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_link_that_is_down_for_20_s_by_relay() {
    link_down(Duration::from_secs(20), RELAY_ONLY);
}

fn link_down_for_good(settings: &[(&str, &str)]) {
    let net = Net::with_direct();
    let game = talking(&net, settings);
    net.cut("direct");
    let cut = Instant::now();
    for player in [&game.host, &game.client] {
        player.wait_for("not gone", Duration::from_secs(43).saturating_sub(cut.elapsed()), gone);
        let after = cut.elapsed();
        eprintln!("link down 43 s, {settings:?}: gone after {after:?}");
        assert!((GONE - Duration::from_secs(3)..GONE + Duration::from_secs(3)).contains(&after), "{after:?}");
        timed_out(player);
    }
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_link_that_is_down_for_43_s_ends_both_sides_alike() {
    link_down_for_good(AUTOMATIC);
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_link_that_is_down_for_43_s_ends_both_sides_alike_by_relay() {
    link_down_for_good(RELAY_ONLY);
}

/// Kills a host with its embedded relay. A new process then hosts under the same id.
fn host_killed(settings: &[(&str, &str)]) {
    let net = Net::with_direct();
    let Game { host, client, .. } = talking(&net, settings);
    host.kill();
    let after = client.wait_for("not interrupted", INTERRUPTED, is_interrupted);
    let host = net.start(Machine::Host, "host", settings);
    host.wait_for("does not listen", PATIENCE, |status| status.ready);
    let told = client.wait_for("not told", Duration::from_secs(8), gone);
    eprintln!("host killed, {settings:?}: interrupted after {after:?}, told {told:?} after another one was there");
    assert_eq!(client.status().reason, Some(EndReason::HostRestarted.to_string()));
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_host_that_is_killed() {
    host_killed(AUTOMATIC);
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_host_that_is_killed_by_relay() {
    host_killed(RELAY_ONLY);
}

/// Suspends the host, the client, or both.
fn asleep(time: Duration, who: [bool; 2], settings: &[(&str, &str)]) {
    let net = Net::with_direct();
    let mut game = talking(&net, settings);
    let sleepers = |game: &Game, act: fn(&Player)| {
        [&game.host, &game.client]
            .into_iter()
            .zip(who)
            .filter(|(_, sleeps)| *sleeps)
            .for_each(|(player, _)| act(player));
    };
    sleepers(&game, Player::sleep);
    sleep(time);
    sleepers(&game, Player::wake);
    if time > GONE && who != [true; 2] {
        // The peer has timed it out, and reports so.
        let told = game.both("not gone", Duration::from_secs(10), gone);
        eprintln!("asleep {time:?} {who:?} {settings:?}: told after {told:?}");
        [&game.host, &game.client].into_iter().for_each(timed_out);
    } else {
        let after = game.both("not back", PATIENCE, is_back);
        let goes_on = game.goes_on(PATIENCE);
        eprintln!("asleep {time:?} {who:?} {settings:?}: messages {:?} after it woke", after + goes_on);
        game.nothing_is_lost();
    }
}

macro_rules! asleep {
    ($($name:ident: $seconds:literal, $who:expr;)*) => {
        $(
            #[test]
            #[ignore = "needs root and network namespaces"]
            fn $name() {
                let both = [AUTOMATIC, RELAY_ONLY].map(|settings| {
                    std::thread::spawn(move || asleep(Duration::from_secs($seconds), $who, settings))
                });
                for one in both {
                    one.join().unwrap();
                }
            }
        )*
    };
}

asleep! {
    a_host_asleep_for_6_s: 6, [true, false];
    a_host_asleep_for_20_s: 20, [true, false];
    a_host_asleep_for_60_s: 60, [true, false];
    a_client_asleep_for_6_s: 6, [false, true];
    a_client_asleep_for_20_s: 20, [false, true];
    a_client_asleep_for_60_s: 60, [false, true];
    both_asleep_for_6_s: 6, [true, true];
    both_asleep_for_20_s: 20, [true, true];
    both_asleep_for_60_s: 60, [true, true];
}

/// The limit over a relay: base64 adds a third, and each POST waits for its response.
const BY_RELAY: Duration = Duration::from_secs(180);

/// Sends 20 MiB over a wire of 500 kB/s, and leaves at once.
fn last_words(from: Machine, settings: &[(&str, &str)], patience: Duration) {
    const MESSAGES: u32 = 20;
    let net = Net::new();
    let mut wire = BadWire::between_players(&net);
    let mut game = connected(&net, settings);
    wire.set(Duration::from_millis(50), 0, 500_000);
    let (sender, receiver) = match from {
        Machine::Host => (&mut game.host, &game.client),
        _ => (&mut game.client, &game.host),
    };
    let begun = Instant::now();
    sender.say(&format!("flood {MESSAGES}"));
    sender.say("leave");
    receiver.wait_for("no goodbye", patience, gone);
    eprintln!("last words of the {from:?}, {settings:?}: {:?}", begun.elapsed());
    let Status { received, reason, broken, .. } = receiver.status();
    assert_eq!((received.reliable, broken), (MESSAGES, false));
    assert_eq!(reason, Some(EndReason::Left.to_string()));
}

#[test]
#[ignore = "needs root and network namespaces"]
fn last_words_of_a_client_on_a_slow_wire_arrive() {
    last_words(Machine::Client, AUTOMATIC, Duration::from_secs(120));
}

#[test]
#[ignore = "needs root and network namespaces"]
fn last_words_of_a_host_on_a_slow_wire_arrive() {
    last_words(Machine::Host, AUTOMATIC, Duration::from_secs(120));
}

#[test]
#[ignore = "needs root and network namespaces"]
fn last_words_of_a_client_on_a_slow_wire_arrive_by_relay() {
    last_words(Machine::Client, RELAY_ONLY, BY_RELAY);
}

#[test]
#[ignore = "needs root and network namespaces"]
fn last_words_of_a_host_on_a_slow_wire_arrive_by_relay() {
    last_words(Machine::Host, RELAY_ONLY, BY_RELAY);
}
