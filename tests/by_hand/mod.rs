//! A native client without an app: its connection, and the wire of an original below it, driven step by step.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use uhst_proto::{
    connection::{Connection, ConnectionConfig, ConnectionEvent, Credentials, Lane, Path, StaticKey, Timestamp},
    protocol::{Body, GameId, NATIVE_VERSION},
};

use crate::original::{Heard, Original};

/// Wraps a packet in a body.
pub fn body(packet: Bytes) -> String {
    Body::Native { version: NATIVE_VERSION, packet }.to_json()
}

/// Returns the native packets that have arrived at an original since the last call.
pub fn packets(wire: &Original) -> Vec<Bytes> {
    let mut packets = Vec::new();
    while let Some(heard) = wire.next_within(Duration::ZERO) {
        match heard {
            Heard::Message { body, .. } => {
                if let Ok(Body::Native { packet, .. }) = Body::parse(&body.to_string()) {
                    packets.push(packet);
                }
            }
            Heard::Closed => break,
            _ => {}
        }
    }
    packets
}

/// A native client that is driven by hand.
pub struct ByHand {
    pub connection: Connection,
    pub wire: Original,
    /// Every packet that the client has sent.
    pub sent: Vec<Bytes>,
    began: Instant,
}

impl ByHand {
    /// Creates a client that has sent nothing yet. Another seed makes another client.
    pub fn new(wire: Original, seed: [u8; 32]) -> Self {
        let credentials = Credentials {
            host_id: wire.host_id.clone(),
            password: None,
            game: GameId::default(),
            key: StaticKey::from_bytes(seed),
            host_key: None,
        };
        let config = ConnectionConfig::default();
        let mut connection = Connection::connect(config, &credentials, Bytes::new(), seed, Timestamp::ZERO).unwrap();
        connection.path_up(Path::Relay, Timestamp::ZERO);
        ByHand { connection, wire, sent: Vec::new(), began: Instant::now() }
    }

    /// Continues over another wire. `lost`: the path over the former one was lost before.
    pub fn over(&mut self, wire: Original, lost: bool) {
        let now = self.began.elapsed();
        if lost {
            self.connection.path_down(Path::Relay, now);
        }
        std::mem::replace(&mut self.wire, wire).close();
        self.connection.path_up(Path::Relay, now);
    }

    /// Sends the packets that are due.
    pub fn speak(&mut self) {
        let now = self.began.elapsed();
        self.connection.handle_timeout(now);
        while let Some(packet) = self.connection.poll_transmit(Lane::Relay, 64 << 10, now) {
            assert_eq!(self.wire.send_json(&self.wire.token, &body(packet.clone())), 200);
            self.sent.push(packet);
        }
    }

    /// Receives the packets that have arrived, and returns the events of the connection.
    pub fn hear(&mut self) -> Vec<ConnectionEvent> {
        let now = self.began.elapsed();
        for packet in packets(&self.wire) {
            self.connection.receive(Lane::Relay, packet, now);
        }
        std::iter::from_fn(|| self.connection.poll_event()).collect()
    }
}
