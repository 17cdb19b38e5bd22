//! Attacks against a game that hosts, through its embedded relay.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, link, update_until},
};
use tokio::runtime::Runtime;

use crate::{
    forward,
    report::{LENGTH, Stop, memory, row},
    stranger::{ELSEWHERE, Introduction, Stranger},
};

/// The limit for every wait.
const PATIENCE: Duration = Duration::from_secs(20);
/// The duration of some frames of a game.
const FRAMES: Duration = Duration::from_millis(100);
/// The number of honest players who join during an attack, one after the other.
const BESIDE: usize = 3;

/// Runs every row of attacks on a host.
pub fn rows(runtime: &Runtime) {
    let introduction = Arc::new(Introduction::learn(runtime));
    hellos(runtime, &introduction);
    places(runtime);
    signals_unasked(runtime, &introduction);
    candidates(runtime, &introduction);
    guesses(runtime);
}

fn count(app: &App, such: impl Fn(&TestEvent) -> bool) -> usize {
    TestLog::of(app).count(such)
}

fn connected(app: &App) -> usize {
    count(app, |event| matches!(event, TestEvent::Connected(_)))
}

/// Asserts that the host could read every packet. Otherwise the attack does not reach the code that it tests.
fn everything_was_read(host: &App) {
    let unread =
        |event: &TestEvent| matches!(event, TestEvent::Diagnostic(said) if said.text.contains("cannot be read"));
    assert_eq!(count(host, unread), 0, "{:?}", TestLog::of(host));
}

fn relay_of(host: &App) -> SocketAddr {
    let url = link(host).relay.unwrap();
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap()).parse().unwrap()
}

/// Returns the longest of [`BESIDE`] honest joins with this client during the attack.
fn honest(network: &TestNetwork, host: &mut App, client: impl Fn() -> UhstClient) -> Duration {
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    for _ in 0..BESIDE {
        let since = Instant::now();
        let mut player = network.join_with(client());
        let joins = update_until(&mut [host, &mut player], PATIENCE, |apps| connected(apps[1]) == 1);
        assert!(joins, "{:?}", TestLog::of(&player));
        longest = longest.max(since.elapsed());
    }
    update_until(&mut [host], LENGTH.saturating_sub(began.elapsed()), |_| false);
    longest
}

fn hellos(runtime: &Runtime, introduction: &Arc<Introduction>) {
    let network = TestNetwork::loopback();
    let mut host = network.host_with(UhstHost::new("x"));
    let (stop, said) = (Stop::default(), Arc::new(AtomicU64::new(0)));
    for attacker in 0..8 {
        let (relay, introduction) = (relay_of(&host), introduction.clone());
        let (stop, said) = (stop.clone(), said.clone());
        runtime.spawn(async move {
            while !stop.is_set() {
                let Some(mut stranger) = Stranger::join(relay, true).await else { continue };
                // Each connection sends the hellos of many clients.
                for n in 0..200 {
                    if stop.is_set() || stranger.say(&introduction.hello((attacker << 32) + n)).await != 200 {
                        break;
                    }
                    said.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    let since = Instant::now();
    let to = link(&host);
    let longest = honest(&network, &mut host, || UhstClient::from(to.clone()));
    stop.set();
    let rate = said.load(Ordering::Relaxed) as f64 / since.elapsed().as_secs_f64();
    let now = format!("{rate:.0} a second are sent, all honest joins succeed");
    row("5 hellos from one process", "2,400 a second: no honest join succeeds", now, longest);
    assert!(rate > 50.0, "{rate}");
}

fn places(runtime: &Runtime) {
    const PLACES: usize = 8;
    const TEXT: &str = r#"{"type":"string","payload":"hello"}"#;
    let network = TestNetwork::loopback();
    let mut host = network.host_with(UhstHost::new("x").max_peers(PLACES));
    let relay = relay_of(&host);
    let strangers = runtime.block_on(async {
        let mut strangers = Vec::new();
        for n in 0..2 * PLACES {
            // Half of them have no event stream, the others close it at once.
            let mut stranger = Stranger::join(relay, n % 2 == 1).await.unwrap();
            assert_eq!(stranger.say(TEXT).await, 200);
            stranger.stops_listening();
            strangers.push(stranger);
        }
        strangers
    });
    let to = link(&host);
    // A place is free once the game has read the last messages of its former peer, which takes some frames.
    update_until(&mut [&mut host], FRAMES, |_| false);
    let longest = honest(&network, &mut host, || UhstClient::from(to.clone()));
    let there = host.world_mut().query::<&UhstPeer>().iter(host.world()).filter(|peer| !peer.is_native()).count();
    let now = format!("{there} places are taken by {} of them", strangers.len());
    row("6 POSTs without streams", "8 take all 8 places for a minute", now, longest);
    assert_eq!(there, 0);
}

fn signals_unasked(runtime: &Runtime, introduction: &Introduction) {
    const STRANGERS: usize = 3;
    const SIGNALS: usize = 300;
    let network = TestNetwork::loopback();
    let mut host = network.host_with(UhstHost::new("x").admission(Admission::Ask));
    host.add_observer(|request: On<UhstJoinRequest>| {
        if &*request.metadata == b"honest" {
            request.accept();
        }
    });
    let relay = relay_of(&host);
    let offer = serde_json::json!({ "type": "offer", "sdp": introduction.sdp }).to_string();
    let long = "x".repeat(90_000);
    let signal = serde_json::json!({ "candidate": long, "sdpMid": "0" }).to_string();
    let before = memory();
    let mut flood = Vec::new();
    for _ in 0..STRANGERS {
        let (offer, signal) = (offer.clone(), signal.clone());
        flood.push(runtime.spawn(async move {
            let mut stranger = Stranger::join(relay, true).await.unwrap();
            stranger.say(&offer).await;
            for _ in 0..SIGNALS {
                stranger.say(&signal).await;
            }
            stranger
        }));
    }
    let to = link(&host);
    let longest = honest(&network, &mut host, || UhstClient::from(to.clone()).metadata(&b"honest"[..]));
    assert!(update_until(&mut [&mut host], 3 * PATIENCE, |_| flood.iter().all(|task| task.is_finished())));
    let grown = memory().saturating_sub(before);
    let now = format!("{} kB for {STRANGERS} of them, each with {SIGNALS}", grown / 1024);
    row("7 signals of 90 KB while the game is asked", "86 MB each", now, longest);
    assert!(grown < STRANGERS * SIGNALS * 90_000 / 2, "{grown}");
    everything_was_read(&host);
}

/// Returns the address from which this machine sends to others. Connecting a UDP socket sends no datagram.
fn outward() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn candidates(runtime: &Runtime, introduction: &Introduction) {
    // Together with the candidates of the offer, this is below the number at which the host drops the peer.
    const PORTS: usize = 48;
    let network = TestNetwork::loopback();
    let mut host = network.host_with(UhstHost::new("x"));
    let relay = relay_of(&host);
    // The host can reach this address from its other addresses too. Nothing leaves this machine.
    let here = outward().unwrap_or(Ipv4Addr::LOCALHOST.into());
    let victims: Vec<_> = (0..PORTS).map(|_| UdpSocket::bind((here, 0)).unwrap()).collect();
    let mut said = vec![serde_json::json!({ "type": "offer", "sdp": introduction.sdp }).to_string()];
    for victim in &victims {
        let line = format!("candidate:1 1 udp 2122260223 {here} {} typ host", victim.local_addr().unwrap().port());
        said.push(serde_json::json!({ "candidate": line, "sdpMid": "0", "sdpMLineIndex": 0 }).to_string());
    }
    let stranger = runtime.block_on(async {
        let mut stranger = Stranger::join(relay, true).await.unwrap();
        for body in &said {
            assert_eq!(stranger.say(body).await, 200);
        }
        stranger.hears("answer").await;
        stranger
    });
    let to = link(&host);
    let longest = honest(&network, &mut host, || UhstClient::from(to.clone()));
    update_until(&mut [&mut host], 3 * LENGTH, |_| false);
    drop(stranger);
    let received = |victim: &UdpSocket| {
        victim.set_nonblocking(true).unwrap();
        let mut count = 0;
        while victim.recv(&mut [0; 2048]).is_ok() {
            count += 1;
        }
        count
    };
    let counts: Vec<usize> = victims.iter().map(received).collect();
    let (sum, ports) = (counts.iter().sum::<usize>(), counts.iter().filter(|count| **count > 0).count());
    let now = format!("{sum} to {ports} ports in {:?}", 4 * LENGTH);
    row("11 an unproven offer with 48 candidates", "6,464 datagrams, of 64", now, longest);
    // The host checks some candidates, otherwise the test would see no datagram. It checks each a few times from each
    // of // its few addresses.
    assert!((1..=8).contains(&ports), "{counts:?}");
    assert!(counts.iter().all(|count| *count <= 6 * 11), "{counts:?}");
    assert!(sum < 6 * said.len(), "{counts:?}");
    everything_was_read(&host);
}

fn guesses(runtime: &Runtime) {
    let network = TestNetwork::loopback();
    let mut host = network.host_with(UhstHost::new("x").password("swordfish"));
    let elsewhere = forward::from(runtime, ELSEWHERE, relay_of(&host));
    let (since, mut tried, mut heard) = (Instant::now(), 0, 0);
    let to = link(&host);
    let mut longest = Duration::ZERO;
    while since.elapsed() < 2 * LENGTH {
        for _ in 0..5 {
            let url = Relay::Url(format!("http://{elsewhere}/"));
            let mut guesser = network.app();
            guesser.world_mut().spawn(UhstClient::join("x").relay(url).password(format!("guess {tried}")));
            let is_over = |app: &App| count(app, |event| matches!(event, TestEvent::Ended(_))) == 1;
            assert!(update_until(&mut [&mut host, &mut guesser], PATIENCE, |apps| is_over(apps[1])));
            let wrong =
                |event: &TestEvent| matches!(event, TestEvent::Ended(end) if end.reason == EndReason::WrongPassword);
            (tried, heard) = (tried + 1, heard + count(&guesser, wrong));
        }
        let mut player = network.app();
        let joining = Instant::now();
        player.world_mut().spawn(UhstClient::from(to.clone()).password("swordfish"));
        assert!(update_until(&mut [&mut host, &mut player], PATIENCE, |apps| connected(apps[1]) == 1));
        longest = longest.max(joining.elapsed());
    }
    let told = count(&host, |event| matches!(event, TestEvent::Diagnostic(event) if event.text.contains("password")));
    let now = format!("{heard} of {tried} are heard in {:?}, and the game is told {told} times", since.elapsed());
    row("15 guessed passwords", "7,000 a second, 64 heard, none told", now, longest);
    // Three guesses are free. The next ones wait for 1, 2 and 4 seconds.
    assert!((4..=8).contains(&heard) && tried > heard && told > 0, "{heard} of {tried}, {told}");
}
