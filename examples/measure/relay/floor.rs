//! The floor of the relay path: HTTP requests and an event stream on raw sockets, between one host and one client.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    load::{Room, envelope},
    wire::{Events, Lane, field, post},
};
use crate::report::Outcome;

/// A host and a client that use only the relay.
pub struct Floor {
    relay: SocketAddr,
    host: Events,
    client: Events,
    token: String,
}

impl Floor {
    /// Connects a host and a client on this relay, which may have other sessions.
    pub async fn open(relay: SocketAddr) -> Outcome<Self> {
        let Room { host, mut clients, .. } = Room::open(relay, "floor", 1).await?;
        let client = clients.pop().ok_or("no client")?;
        Ok(Floor { relay, host, client: client.events, token: client.token })
    }

    /// Replaces the client by another one, which joins and waits for the answer to its first message.
    pub async fn join(&mut self) -> Outcome<Duration> {
        let start = Instant::now();
        let mut lane = Lane::open(self.relay).await?;
        let answer = lane.ask(&post("action=join&hostId=floor", "")).await?;
        self.token = field(answer, "clientToken")?.to_owned();
        self.client = Events::open(self.relay, &self.token).await?;
        self.echoes(64, 1).await?;
        Ok(start.elapsed())
    }

    fn request(&self, size: usize) -> Vec<u8> {
        post(&format!("token={}", self.token), &envelope(&"m".repeat(size)))
    }

    /// Posts this many messages one after the other, and waits until the host has the last one.
    pub async fn one_way(&mut self, size: usize, count: usize) -> Outcome<Duration> {
        let request = self.request(size);
        let mut lane = Lane::open(self.relay).await?;
        let start = Instant::now();
        let sending = tokio::spawn(async move {
            for _ in 0..count {
                lane.ask(&request).await?;
            }
            std::io::Result::Ok(())
        });
        let mut arrived = 0;
        while arrived < count {
            self.host.read(|_| arrived += 1).await?;
        }
        sending.await??;
        Ok(start.elapsed())
    }

    /// Sends one message there and back, this many times.
    pub async fn echoes(&mut self, size: usize, count: usize) -> Outcome<Vec<f64>> {
        let request = self.request(size);
        let (mut lane, mut back) = (Lane::open(self.relay).await?, Lane::open(self.relay).await?);
        let host = &mut self.host;
        let echoing = async {
            for _ in 0..count {
                let mut reply = None;
                while reply.is_none() {
                    // The stream also reports clients that have left.
                    host.read(|message| reply = reply_to(message).ok()).await?;
                }
                back.ask(&reply.ok_or("no message")?).await?;
            }
            Outcome::Ok(())
        };
        let client = &mut self.client;
        let asking = async {
            let mut times = Vec::with_capacity(count);
            for _ in 0..count {
                let start = Instant::now();
                lane.ask(&request).await?;
                let mut is_back = false;
                while !is_back {
                    client.read(|_| is_back = true).await?;
                }
                times.push(start.elapsed().as_secs_f64());
            }
            Outcome::Ok(times)
        };
        Ok(tokio::try_join!(echoing, asking)?.1)
    }
}

/// Returns the request that sends a message back to its sender.
fn reply_to(message: &str) -> Outcome<Vec<u8>> {
    let token = field(message, "responseToken")?;
    Ok(post(&format!("token={token}"), &envelope(field(message, "payload")?)))
}
