//! Pages in hidden tabs: without frames, with slow timers, or frozen. Their sessions live on.

use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork},
};
use serde_json::json;

use crate::{
    browser::{Page, Tab},
    host_and_guest,
    numbers::{Numbers, has_numbers},
    pattern, settle,
    support::{StandaloneRelay, connected, disconnected, the_peer, until},
};

const MINUTE: Duration = Duration::from_secs(60);

/// A page and the native game that it plays with.
struct Play {
    app: App,
    page: Page,
    /// The longest time without a timer in the hidden page, in seconds. It is told if the page was interrupted.
    longest_stop: f64,
}

impl Play {
    /// A page that joins a native host.
    fn guest(name: &'static str, paths: PathPolicy, more: serde_json::Value) -> Self {
        let queue = ConnectionConfig { max_message: 256 << 10, send_buffer: 1 << 20, ..default() };
        let (app, page) = host_and_guest(UhstHost::new(name).connection(queue), name, paths, more);
        Play { app, page, longest_stop: 0.0 }
    }

    /// A page that hosts a native client.
    fn host(name: &'static str, relay: &StandaloneRelay) -> Self {
        let mut page = Page::host(name, relay, json!({}));
        let mut app = TestNetwork::loopback().join_with(UhstClient::join(name).relay(relay.relay()));
        settle(&mut app, &mut page, PathPolicy::Automatic);
        Play { app, page, longest_stop: 0.0 }
    }

    fn tab(&mut self, tab: Tab) {
        self.page.tab(&mut [&mut self.app], tab);
    }

    /// Shows the page again. It must have been hidden well enough to mean something.
    fn show(&mut self) {
        self.tab(Tab::Shown);
        let hidden = self.page.wait(&mut [&mut self.app], "hidden");
        let (frames, timers, seconds) = (
            hidden["frames"].as_f64().unwrap(),
            hidden["timers"].as_f64().unwrap(),
            hidden["seconds"].as_f64().unwrap(),
        );
        self.longest_stop = hidden["longest"].as_f64().unwrap();
        assert!(frames <= 2.0 && timers <= 2.0 + 1.5 * seconds, "the page was not hidden: {hidden}");
    }

    fn page_was_not_interrupted(&mut self) {
        if self.page.has_reported("interrupted") {
            let reason = self.page.wait(&mut [], "interrupted");
            panic!("{}: interrupted, {reason}; up to {} s without a timer", self.page.name(), self.longest_stop);
        }
    }

    fn interruptions(&mut self) -> usize {
        assert!(disconnected(&self.app).is_empty() && connected(&self.app) == 1);
        assert!(!self.page.has_reported("disconnected") && !self.page.has_reported("ended"));
        let interrupted = |event: &&TestEvent| matches!(event, TestEvent::Interrupted(_));
        TestLog::of(&self.app).0.iter().filter(interrupted).count()
    }
}

/// How many numbered messages go each way.
const COUNT: u32 = 20 * 70;

/// Updates all games for this long. Each sends its numbers meanwhile.
fn send_for(plays: &mut [(Play, Numbers)], time: Duration) {
    let since = Instant::now();
    while since.elapsed() < time {
        for (play, numbers) in &mut *plays {
            numbers.send(&mut play.app);
            play.app.update();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// How many texts each native game has received.
fn received_by(plays: &[(Play, Numbers); 3]) -> [usize; 3] {
    plays.each_ref().map(|(play, _)| TestLog::of(&play.app).texts().len())
}

/// Twenty numbered messages a second from a native game, and one in each frame from a page, which is hidden for a minute
/// meanwhile. Nothing is interrupted, and nothing is lost.
#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn sessions_outlast_a_minute_in_a_hidden_tab() {
    let relay = StandaloneRelay::start();
    let mut plays = [
        Play::guest("hidden-relay", PathPolicy::RelayOnly, json!({})),
        Play::guest("hidden-direct", PathPolicy::Automatic, json!({})),
        Play::host("hidden-host", &relay),
    ]
    .map(|play| (play, Numbers::every(Duration::from_millis(50), COUNT)));
    for (play, _) in &mut plays {
        play.page.command(json!({ "number": { "count": COUNT, "each_frame": 1 } }));
    }
    send_for(&mut plays, Duration::from_secs(2));
    for (play, _) in &mut plays {
        play.tab(Tab::Hidden);
    }
    // What the pages sent before arrives.
    let mut received = [0; 3];
    while received != received_by(&plays) {
        received = received_by(&plays);
        send_for(&mut plays, Duration::from_secs(1));
    }
    send_for(&mut plays, MINUTE);
    for ((play, numbers), received) in plays.iter_mut().zip(received) {
        assert!(numbers.next > 20 * 55, "the queue was full: {}", numbers.next);
        assert_eq!(TestLog::of(&play.app).texts().len(), received, "a page without frames sends nothing");
        assert_eq!(play.interruptions(), 0);
        play.show();
        play.page_was_not_interrupted();
    }
    send_for(&mut plays, Duration::from_secs(10));
    for (mut play, _) in plays {
        assert_eq!(play.page.wait(&mut [&mut play.app], "numbers"), COUNT);
        until(&mut [&mut play.app], |apps| has_numbers(apps[0], COUNT));
        assert_eq!(play.interruptions(), 0);
        play.page_was_not_interrupted();
        play.page.has_no_mistakes();
    }
}

/// Nothing in a frozen page runs. It is interrupted, and resumes as after a suspension of the machine.
fn frozen_for_a_while(name: &'static str, paths: PathPolicy) {
    const COUNT: u32 = 300;
    let mut play = Play::guest(name, paths, json!({}));
    play.tab(Tab::Frozen);
    let mut numbers = Numbers::every(Duration::from_millis(20), COUNT);
    let until_interrupted = |apps: &mut [&mut App]| {
        numbers.send(apps[0]);
        numbers.are_sent() && TestLog::of(apps[0]).has(|event| matches!(event, TestEvent::Interrupted(_)))
    };
    until(&mut [&mut play.app], until_interrupted);
    play.tab(Tab::Thawed);
    until(&mut [&mut play.app], |apps| TestLog::of(apps[0]).has(|event| matches!(event, TestEvent::Resumed(_))));
    play.show();
    assert_eq!(play.page.wait(&mut [&mut play.app], "numbers"), COUNT);
    play.page.command(json!({ "number": { "count": COUNT, "each_frame": 10 } }));
    until(&mut [&mut play.app], |apps| has_numbers(apps[0], COUNT));
    assert_eq!(play.interruptions(), 1);
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_frozen_guest_resumes_on_the_relay() {
    frozen_for_a_while("frozen-relay", PathPolicy::RelayOnly);
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_frozen_guest_resumes_on_a_direct_path() {
    frozen_for_a_while("frozen-direct", PathPolicy::Automatic);
}

/// A hidden page takes as much as its receive buffer holds. Then the sender's queue is full, and nothing is lost.
fn flooded(name: &'static str, paths: PathPolicy) {
    const BUFFER: usize = 1 << 20;
    const LEN: usize = 8 << 10;
    const COUNT: usize = 4 * BUFFER / LEN;
    let mut play = Play::guest(name, paths, json!({ "receive_buffer": BUFFER }));
    play.tab(Tab::Hidden);
    let peer = the_peer(&mut play.app);
    let mut sent = 0;
    let mut send = |app: &App| {
        while sent < COUNT && app.world().get::<UhstPeer>(peer).unwrap().send(pattern(LEN)).is_ok() {
            sent += 1;
        }
        sent
    };
    // The queue of the host is as small as the buffer of the page.
    let limit = 2 * BUFFER / LEN;
    let since = Instant::now();
    until(&mut [&mut play.app], |apps| {
        let sent = send(apps[0]);
        assert!(sent <= limit, "{sent}");
        since.elapsed() > Duration::from_secs(10)
    });
    assert!(send(&play.app) > limit / 2);
    play.show();
    until(&mut [&mut play.app], |apps| send(apps[0]) == COUNT);
    for _ in 0..COUNT {
        let message = json!({ "channel": "Reliable", "len": LEN, "is_whole": true });
        assert_eq!(play.page.wait(&mut [&mut play.app], "bytes"), message);
    }
    assert_eq!(play.interruptions(), 0);
    play.page.has_no_mistakes();
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_flooded_hidden_guest_slows_its_host_down_on_the_relay() {
    flooded("flooded-relay", PathPolicy::RelayOnly);
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_flooded_hidden_guest_slows_its_host_down_on_a_direct_path() {
    flooded("flooded-direct", PathPolicy::Automatic);
}
