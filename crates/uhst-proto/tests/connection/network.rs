//! A simulated network between two connections, with a virtual clock.

#[path = "network/delivery.rs"]
mod delivery;
#[path = "network/side.rs"]
mod side;
#[path = "network/steps.rs"]
mod steps;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use uhst_proto::connection::{
    Connection, ConnectionConfig, ConnectionEvent, Lane, MESSAGE_OVERHEAD, Path, Received, ResumeError, Timestamp,
};
use uhst_proto::protocol::{
    Channel, EndReason, Payload, Tag,
    frame::{Data, Frame, Frames, HandshakeKind, Stream},
};

use side::{Input, Side};
pub use steps::{Conditions, Step};

const CLIENT: usize = 0;
const HOST: usize = 1;

struct Parcel {
    to: usize,
    lane: Lane,
    route: u32,
    direct: u32,
    packet: Bytes,
}

/// Whether the packet contains a fragment of a game's message. `receiver` opens it if it is sealed.
pub fn carries_a_message(receiver: &Connection, lane: Lane, packet: &Bytes) -> bool {
    if packet[0] == 0 {
        return false;
    }
    let opened = if lane == Lane::Relay { receiver.peek(packet) } else { Some(packet.clone()) };
    let packet = &opened.expect("the receiver can open it");
    let is_message = |frame| matches!(frame, Ok(Frame::Data(Data { stream: Stream::Channel(_), .. })));
    Frames::new(packet).is_ok_and(|mut frames| frames.any(is_message))
}

/// Both sides, and the network between them.
pub struct Network {
    pub now: Timestamp,
    pub sides: [Side; 2],
    conditions: Conditions,
    random: u64,
    /// Replaces the random numbers, byte by byte.
    pub fate: VecDeque<u8>,
    order: BinaryHeap<Reverse<(Timestamp, u64)>>,
    parcels: HashMap<u64, Parcel>,
    posted: u64,
    passed: HashMap<(usize, Lane), Timestamp>,
    ids: u32,
    /// The client's route to the host over the relay. Packets on an older route are lost.
    route: u32,
    /// The oldest route that the relay knows.
    oldest: u32,
    relay_back: Option<Timestamp>,
    host_back: Option<Timestamp>,
    suspects: [Option<Timestamp>; 2],
    direct: u32,
    direct_open: bool,
    direct_dead: bool,
    direct_skew: Option<(Timestamp, usize)>,
    silent_until: Timestamp,
    config: ConnectionConfig,
    pub may_close: bool,
    /// Both sides allow only direct paths, so the relay must carry no messages.
    pub direct_only: bool,
}

impl Network {
    pub fn new(config: &ConnectionConfig, client: Connection, host: Connection, seed: u64, now: Timestamp) -> Self {
        Self {
            now,
            sides: [Side::new(client), Side::new(host)],
            conditions: Conditions { delay: 20, ..Default::default() },
            random: seed | 1,
            fate: VecDeque::new(),
            order: BinaryHeap::new(),
            parcels: HashMap::new(),
            posted: 0,
            passed: HashMap::new(),
            ids: 0,
            route: 0,
            oldest: 0,
            relay_back: None,
            host_back: None,
            suspects: [None; 2],
            direct: 0,
            direct_open: false,
            direct_dead: false,
            direct_skew: None,
            silent_until: Timestamp::ZERO,
            config: config.clone(),
            may_close: false,
            direct_only: false,
        }
    }

    fn chance(&mut self, percent: u8) -> bool {
        self.random(100) < u64::from(percent)
    }

    fn random(&mut self, below: u64) -> u64 {
        if let Some(byte) = self.fate.pop_front() {
            return u64::from(byte) * below / 256;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % below.max(1)
    }

    fn side(client: bool) -> usize {
        if client { CLIENT } else { HOST }
    }

    pub fn step(&mut self, step: &Step) {
        match *step {
            Step::Send { client, channel, size, count } => {
                for _ in 0..count {
                    self.send(Self::side(client), Channel::ALL[channel % 4], size as usize);
                }
            }
            Step::Signal { client } => {
                self.ids += 1;
                let signal = Bytes::from(self.ids.to_le_bytes().to_vec());
                let side = Self::side(client);
                if self.sides[side].connection.send_signal(signal.clone()).is_ok() {
                    self.sides[1 - side].signals.push_back(signal);
                }
            }
            Step::Wait(time) => self.run(Duration::from_millis(time.into())),
            Step::Conditions(conditions) => self.conditions = conditions,
            // Consecutive outages could exceed the timeout of one.
            Step::RestartRelay { outage } if self.has_paths() => {
                self.relay_down();
                self.relay_back = Some(self.now + Duration::from_millis(outage.into()));
            }
            Step::Reroute if self.relay_back.is_none() => {
                self.reroute();
            }
            Step::HostStream { outage } if self.relay_back.is_none() && self.has_paths() => {
                self.notify(HOST, Input::Down(Path::Relay));
                self.host_back = Some(self.now + Duration::from_millis(outage.into()));
            }
            Step::Suspect { client, time } if self.relay_back.is_none() && self.has_paths() => {
                let side = Self::side(client);
                self.notify(side, Input::Down(Path::Relay));
                self.suspects[side] = Some(self.now + Duration::from_millis(time.into()));
            }
            Step::DirectUp { skew } if !self.direct_open => {
                self.direct += 1;
                (self.direct_open, self.direct_dead) = (true, false);
                let first = self.random(2) as usize;
                self.notify(first, Input::Up(Path::Direct));
                self.direct_skew = Some((self.now + Duration::from_millis(skew.into()), 1 - first));
            }
            Step::DirectDown => self.direct_down(),
            Step::DirectSilent => self.direct_dead = true,
            // As with outages, the end of connections is covered by other tests.
            Step::Stall { client, time } if self.has_paths() && self.are_awake() => {
                self.sides[Self::side(client)].asleep_until = self.now + Duration::from_millis(time.into());
            }
            Step::Suspend { time } if self.has_paths() && self.are_awake() => {
                for side in &mut self.sides {
                    side.asleep_until = self.now + Duration::from_millis(time.into());
                }
            }
            Step::Silence { time } if self.has_paths() && self.are_awake() => {
                self.silent_until = self.now + Duration::from_millis(time.into());
            }
            Step::Lazy { client, time } => {
                self.sides[Self::side(client)].lazy_until = self.now + Duration::from_millis(time.into());
            }
            Step::UnknownPeer { client, ref packet } => self.unknown_peer(client, packet.clone()),
            _ => {}
        }
        self.pump();
    }

    /// The host passes a packet of an unknown route only to a connection that it resumes.
    fn unknown_peer(&mut self, client: bool, packet: Bytes) {
        let now = self.now;
        if client {
            self.sides[CLIENT].connection.receive(Lane::Relay, packet, now);
        } else {
            let resumed = self.sides[HOST].connection.resume(packet, now);
            assert!(!matches!(resumed, Ok(()) | Err(ResumeError::Challenge(_))), "an unknown peer resumed it");
        }
    }

    fn has_paths(&self) -> bool {
        self.sides.iter().all(|side| side.connection.stats().path.is_some())
    }

    fn are_awake(&self) -> bool {
        self.sides.iter().all(|side| side.asleep_until <= self.now)
    }

    /// The client reconnects to the relay on a new route.
    fn reroute(&mut self) {
        self.route += 1;
        self.notify(CLIENT, Input::Down(Path::Relay));
        self.notify(CLIENT, Input::Up(Path::Relay));
    }

    fn relay_down(&mut self) {
        self.route += 1;
        self.oldest = self.route;
        self.suspects = [None; 2];
        if self.host_back.take().is_some() {
            self.notify(HOST, Input::Up(Path::Relay));
        }
        for side in [CLIENT, HOST] {
            self.notify(side, Input::Down(Path::Relay));
        }
    }

    fn direct_down(&mut self) {
        (self.direct_open, self.direct_dead, self.direct_skew) = (false, false, None);
        self.direct += 1;
        for side in [CLIENT, HOST] {
            self.notify(side, Input::Down(Path::Direct));
        }
    }

    /// Restores all paths, and waits until everything guaranteed has arrived.
    pub fn settle(&mut self) {
        self.conditions = Conditions { delay: 20, ..Default::default() };
        self.silent_until = self.now;
        if self.direct_dead {
            self.direct_down();
        }
        if self.direct_only {
            self.step(&Step::DirectUp { skew: 100 });
        }
        for _ in 0..600 {
            self.run(Duration::from_millis(200));
            // A close on a route that the client has left would be answered by the host's tombstone.
            let is_back = self.relay_back.is_none()
                && self.host_back.is_none()
                && self.suspects == [None; 2]
                && self.route == self.sides[HOST].route;
            // A suspended side has yet to learn which paths are up.
            if is_back && self.are_awake() && self.sides.iter().all(Self::is_settled) {
                break;
            }
        }
        for side in &self.sides {
            assert!(Self::is_settled(side), "never arrived: {:?}", side.connection.stats());
        }
    }

    /// One side leaves, whatever the paths do. Soon after, the network recovers. Everything sent before arrives, and
    /// both sides end with its reason.
    pub fn leave(&mut self, client: bool) {
        let leaver = Self::side(client);
        // A suspended side cannot leave.
        self.run(self.sides[leaver].asleep_until.saturating_sub(self.now));
        let now = self.now;
        self.may_close = true;
        let reason = EndReason::Kicked("enough".into());
        self.sides[leaver].connection.close(reason.clone(), now);
        self.run(Duration::from_millis(500));
        self.conditions = Conditions { delay: 20, ..Default::default() };
        for _ in 0..800 {
            if self.sides.iter().all(|side| !side.closed.is_empty()) {
                break;
            }
            self.run(Duration::from_millis(200));
        }
        for (number, side) in self.sides.iter().enumerate() {
            assert_eq!(side.closed, std::slice::from_ref(&reason), "side {number} at {:?}", self.now);
        }
        let other = &self.sides[1 - leaver];
        assert!(other.reliable.is_empty() && other.unordered.values().all(|left| *left == 0), "cut");
        assert!(!self.sides[leaver].cut, "reported what was not cut");
    }

    fn is_settled(side: &Side) -> bool {
        side.connection.stats().path.is_some()
            && side.reliable.is_empty()
            && side.signals.is_empty()
            && side.unordered.values().all(|left| *left == 0)
    }

    fn send(&mut self, from: usize, channel: Channel, size: usize) {
        self.ids += 1;
        let mut bytes = vec![self.ids as u8; size];
        for (byte, id) in bytes.iter_mut().zip(self.ids.to_le_bytes()) {
            *byte = id;
        }
        let tag = match self.ids % 3 {
            0 => Tag::Untyped,
            1 => Tag::Typed(self.ids as u16),
            _ => Tag::Replication(self.ids as u16),
        };
        let bytes = Bytes::from(bytes);
        if self.sides[from].connection.send_tagged(channel, tag, Payload::Binary(bytes.clone())).is_err() {
            return;
        }
        let message = (tag, bytes);
        let to = &mut self.sides[1 - from];
        match channel {
            Channel::Reliable => to.reliable.push_back(message),
            Channel::ReliableUnordered => *to.unordered.entry(message).or_default() += 1,
            Channel::Unreliable => *to.unreliable.entry(message).or_default() += 1,
            Channel::UnreliableSequenced => *to.sequenced.entry(message).or_default() += 1,
        }
        assert!(self.sides[from].connection.stats().queued <= self.config.send_buffer + (300 << 10));
    }

    /// Advances the clock from event to event.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.pump();
        loop {
            let mut next = end;
            if let Some(Reverse((at, _))) = self.order.peek() {
                next = next.min(*at);
            }
            for side in &self.sides {
                let wake = side.connection.next_timeout().unwrap_or(end).max(side.asleep_until);
                next = next.min(wake);
                for at in [side.asleep_until, side.lazy_until] {
                    if at > self.now {
                        next = next.min(at);
                    }
                }
            }
            let skew = self.direct_skew.map(|(at, _)| at);
            let [client, host] = self.suspects;
            for at in [self.relay_back, self.host_back, client, host, skew].into_iter().flatten() {
                next = next.min(at);
            }
            self.now = next.max(self.now);
            self.advance();
            self.pump();
            if self.now >= end {
                return;
            }
        }
    }

    fn advance(&mut self) {
        let now = self.now;
        if self.relay_back.is_some_and(|at| now >= at) {
            self.relay_back = None;
            self.notify(CLIENT, Input::Up(Path::Relay));
        }
        if self.host_back.is_some_and(|at| now >= at) {
            self.host_back = None;
            self.notify(HOST, Input::Up(Path::Relay));
        }
        for side in [CLIENT, HOST] {
            if self.suspects[side].is_some_and(|at| now >= at) {
                self.suspects[side] = None;
                self.notify(side, Input::Up(Path::Relay));
            }
        }
        if let Some((_, side)) = self.direct_skew.filter(|(at, _)| now >= *at) {
            self.direct_skew = None;
            self.notify(side, Input::Up(Path::Direct));
        }
        while let Some(Reverse((at, id))) = self.order.peek().copied() {
            if at > now {
                break;
            }
            self.order.pop();
            let Some(parcel) = self.parcels.remove(&id) else { continue };
            let here = match parcel.lane {
                Lane::Relay if parcel.to == HOST => {
                    self.relay_back.is_none() && self.host_back.is_none() && parcel.route >= self.oldest
                }
                Lane::Relay => self.relay_back.is_none() && parcel.route == self.route,
                _ => self.direct_open && !self.direct_dead && parcel.direct == self.direct,
            };
            if here {
                self.sides[parcel.to].inbox.push_back(Input::Packet(parcel.lane, parcel.route, parcel.packet));
            }
        }
        for to in [CLIENT, HOST] {
            if self.sides[to].asleep_until > now {
                continue;
            }
            self.process_inbox(to);
            let side = &mut self.sides[to];
            side.connection.handle_timeout(now);
            let next = side.connection.next_timeout();
            assert!(next.is_none_or(|next| next > now), "a timeout that does not pass: {next:?} at {now:?}");
        }
    }
}
