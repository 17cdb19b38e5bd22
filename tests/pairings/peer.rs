//! A peer of npm's `uhst`, in node or in Chromium.

use std::{sync::mpsc::Receiver, time::Instant};

use serde_json::{Value, json};

use crate::{Original, PATIENCE, Place, Transport, support::Driver};

/// An original peer.
pub struct Peer<'a> {
    driver: &'a Driver,
    name: String,
    heard: Receiver<Value>,
}

impl<'a> Peer<'a> {
    /// Starts a peer. `role` is `host` or `join`.
    pub fn start(driver: &'a Driver, Original(place, transport): Original, role: &str, relay: &str, id: &str) -> Self {
        Self::start_slow(driver, Original(place, transport), role, relay, id, 0)
    }

    /// Starts a peer whose messages over the relay are delayed by this many milliseconds.
    pub fn start_slow(
        driver: &'a Driver,
        Original(place, transport): Original,
        role: &str,
        relay: &str,
        id: &str,
        slow: u32,
    ) -> Self {
        let name = format!("{role} {id}");
        let heard = driver.listen(&name);
        let place = match place {
            Place::Chromium => "chromium",
            Place::ChromiumMdns => "chromium-mdns",
            Place::Node => "node",
        };
        let transport = if transport == Transport::Relay { "relay" } else { "webrtc" };
        driver.command(&json!({
            "peer": name, "start": role, "in": place, "transport": transport,
            "relay": format!("http://{relay}/"), "id": id, "slow": slow,
        }));
        Peer { driver, name, heard }
    }

    pub fn send(&self, what: Value) {
        self.driver.command(&json!({ "peer": self.name, "send": what }));
    }

    pub fn close(&self) {
        self.driver.command(&json!({ "peer": self.name, "close": true }));
    }

    /// Waits for this event, and ignores errors: through npm's relay, every send of an original reports one.
    pub fn wait(&self, event: &str) -> Value {
        let mut errors = Vec::new();
        let until = Instant::now() + PATIENCE;
        loop {
            let Ok(heard) = self.heard.recv_timeout(until.saturating_duration_since(Instant::now())) else {
                panic!("{}: no {event}, but {errors:?}", self.name);
            };
            if heard["event"] == event {
                return heard;
            }
            match heard["event"].as_str() {
                Some("error") => errors.push(heard),
                // A host on the relay receives its first messages before this event.
                Some("open") => {}
                _ => panic!("{}: {heard} instead of {event}", self.name),
            }
        }
    }

    pub fn hears(&self, what: &Value) {
        let message = self.wait("message");
        for (key, value) in what.as_object().unwrap() {
            assert!(message[key] == *value, "{}: an unexpected message", self.name);
        }
    }

    /// Whether the peer has reported the end of its connection.
    pub fn has_closed(&self) -> bool {
        self.heard.try_iter().any(|heard| heard["event"] == "close")
    }
}
