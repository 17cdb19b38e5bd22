//! One link while it runs: signals, states, and what keeps its channels going.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytestring::ByteString;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use webrtc::{
    data_channel::{DataChannel, RTCDataChannelInit},
    error::Error,
    peer_connection::{PeerConnection, RTCIceCandidateInit, RTCPeerConnectionState, RTCSessionDescription},
};

use super::{
    build::Internal,
    pump::{Opening, last_word, listen, pump},
};
use crate::{
    net::webrtc::{
        DirectConfig, DirectDialect, DirectError, DirectEvent, DirectRole,
        candidate::{self, CandidateBudget},
        lane::LaneReceiver,
        message_size,
    },
    protocol::{Candidate, Signal},
};

/// The label that the originals give their channel.
const LABEL: &str = "uhst";

/// The label of the second channel, which only native peers have.
const UNRELIABLE_LABEL: &str = "uhst-unreliable";

/// How long a link that is let go of may take to hand over what was sent before.
pub(super) const FLUSH: Duration = Duration::from_millis(250);

/// What moves messages through the open channels.
type Pumps = FuturesUnordered<BoxFuture<'static, ()>>;

/// The queues that have no channel yet.
struct Lanes {
    reliable: Option<LaneReceiver>,
    unreliable: Option<LaneReceiver>,
}

/// The state of one link while it runs.
pub(super) struct Link<'a> {
    connection: &'a dyn PeerConnection,
    role: DirectRole,
    dialect: DirectDialect,
    events: &'a mpsc::Sender<DirectEvent>,
    /// Whether the peer's description is set: candidates wait for it.
    described: bool,
    /// The name of the data channels' section, which is in the offer.
    section: Option<ByteString>,
    candidates: Vec<Candidate>,
    budget: CandidateBudget,
    /// Whether TURN servers were named, and none has given us an address yet.
    without_turn: bool,
    /// Kinds of trouble that were told already.
    complained: HashSet<&'static str>,
    opening: Opening,
}

impl<'a> Link<'a> {
    pub fn new(
        connection: &'a dyn PeerConnection,
        role: DirectRole,
        dialect: DirectDialect,
        events: &'a mpsc::Sender<DirectEvent>,
    ) -> Self {
        Link {
            connection,
            role,
            dialect,
            events,
            described: false,
            section: None,
            candidates: Vec::new(),
            budget: CandidateBudget::new(dialect.is_proven(role)),
            without_turn: false,
            complained: HashSet::new(),
            opening: Opening::of(dialect.channels()),
        }
    }

    /// Runs the link to its end; `None` when that is nothing to tell.
    pub async fn run(
        mut self,
        config: &DirectConfig,
        mut signals: mpsc::Receiver<Signal>,
        mut internal: mpsc::UnboundedReceiver<Internal>,
        reliable: LaneReceiver,
        unreliable: Option<LaneReceiver>,
    ) -> Option<DirectEvent> {
        let deadline = Instant::now() + config.open_timeout;
        self.without_turn =
            config.ice_servers.iter().flat_map(|server| &server.urls).any(|url| url.starts_with("turn"));
        let mut pumps = FuturesUnordered::new();
        // They have nothing to send, and nobody who leaves waits for them.
        let mut listeners = FuturesUnordered::new();
        let mut lanes = Lanes { reliable: Some(reliable), unreliable };
        if let Err(error) = self.begin(&mut lanes, &mut pumps).await {
            return Some(DirectEvent::Failed(DirectError::Unavailable(error.to_string())));
        }
        let mut opened = self.opening.watch();
        let mut leaving = false;
        let mut give_up = None;
        loop {
            let is_open = self.opening.is_open();
            if leaving && (pumps.is_empty() || !is_open) {
                return None;
            }
            tokio::select! {
                signal = signals.recv(), if !leaving => match signal {
                    Some(signal) => {
                        if let Err(error) = self.signal(signal).await {
                            return Some(DirectEvent::Failed(error));
                        }
                    }
                    None => leaving = true,
                },
                Some(internal) = internal.recv() => match internal {
                    Internal::Candidate(line) => {
                        self.without_turn &= !line.contains(" typ relay");
                        let candidate = candidate::ours(line, self.section.clone());
                        self.tell(DirectEvent::Signal(Signal::Candidate(candidate.into()))).await;
                    }
                    // The library says so in its log, with its address and nothing of ours, and to nobody else.
                    Internal::Gathered if self.without_turn => {
                        let text = "no TURN server gave us an address: is its URL right, with user and credential?";
                        self.tell(DirectEvent::Diagnostic(text.to_owned())).await;
                    }
                    Internal::Gathered => {}
                    Internal::Channel(channel) => {
                        let unreliable = self.dialect == DirectDialect::Native
                            && channel.label().await.is_ok_and(|label| label == UNRELIABLE_LABEL);
                        if unreliable {
                            listeners.push(listen(channel, self.events.clone(), self.opening.clone()));
                        } else if let Some(lane) = lanes.reliable.take() {
                            pumps.push(self.pump(channel, true, lane));
                        }
                    }
                    Internal::State(RTCPeerConnectionState::Failed) => {
                        return Some(DirectEvent::Failed(if is_open { DirectError::Broken } else { DirectError::Unreachable }));
                    }
                    // An open channel tells of its end itself, after its last message.
                    Internal::State(RTCPeerConnectionState::Closed) if !is_open => return Some(DirectEvent::Closed),
                    Internal::State(_) => {}
                },
                Some(()) = listeners.next(), if !listeners.is_empty() => {
                    give_up.get_or_insert_with(|| Instant::now() + FLUSH);
                }
                Some(()) = pumps.next(), if !pumps.is_empty() => {
                    if pumps.is_empty() && !leaving {
                        return Some(DirectEvent::Closed);
                    }
                    // The other channel follows, after its last message.
                    give_up.get_or_insert_with(|| Instant::now() + FLUSH);
                }
                () = sleep_until(give_up.unwrap_or(deadline)), if give_up.is_some() => return Some(DirectEvent::Closed),
                Ok(()) = opened.changed(), if !is_open => {}
                () = sleep_until(deadline), if !is_open => {
                    return Some(DirectEvent::Failed(DirectError::Timeout(config.open_timeout)));
                }
            }
        }
    }

    async fn begin(&mut self, lanes: &mut Lanes, pumps: &mut Pumps) -> Result<(), Error> {
        self.announce(lanes, pumps).await?;
        if self.role == DirectRole::Offer { self.offer().await } else { Ok(()) }
    }

    /// Makes the channels that this side makes: the reliable one if it offers, and an unreliable one to send on.
    ///
    /// All are announced in the association, none agreed on beforehand: the library loses what comes in on a stream
    /// known beforehand between the handshake and its own next look at it.
    async fn announce(&self, lanes: &mut Lanes, pumps: &mut Pumps) -> Result<(), Error> {
        if self.role == DirectRole::Offer
            && let Some(lane) = lanes.reliable.take()
        {
            let channel = self.connection.create_data_channel(LABEL, None).await?;
            pumps.push(self.pump(channel, true, lane));
        }
        if let Some(lane) = lanes.unreliable.take() {
            let init = RTCDataChannelInit { ordered: false, max_retransmits: Some(0), ..Default::default() };
            let channel = self.connection.create_data_channel(UNRELIABLE_LABEL, Some(init)).await?;
            pumps.push(self.pump(channel, false, lane));
        }
        Ok(())
    }

    async fn offer(&mut self) -> Result<(), Error> {
        let offer = self.connection.create_offer(None).await?;
        self.section = candidate::section(&offer.sdp);
        // First told, then applied: candidates follow.
        self.tell(DirectEvent::Signal(Signal::Offer(offer.sdp.clone().into()))).await;
        self.connection.set_local_description(offer).await
    }

    async fn answer(&self) -> Result<(), Error> {
        let answer = self.connection.create_answer(None).await?;
        self.tell(DirectEvent::Signal(Signal::Answer(answer.sdp.clone().into()))).await;
        self.connection.set_local_description(answer).await
    }

    /// Takes a signal. Nonsense is told and ignored; an error means that a good one cannot be followed.
    async fn signal(&mut self, signal: Signal) -> Result<(), DirectError> {
        let description = match (signal, self.role) {
            (Signal::Candidate(candidate), _) => {
                self.candidate(*candidate).await;
                return Ok(());
            }
            (Signal::Offer(sdp), DirectRole::Answer) => {
                if !self.described {
                    self.section = candidate::section(&sdp);
                }
                RTCSessionDescription::offer(self.understood(&sdp))
            }
            (Signal::Answer(sdp), DirectRole::Offer) => RTCSessionDescription::answer(self.understood(&sdp)),
            _ => {
                self.complain("an offer or answer from the wrong side", "").await;
                return Ok(());
            }
        };
        if self.described {
            tracing::debug!("a second description is ignored");
            return Ok(());
        }
        let applied = match description {
            Ok(description) => self.connection.set_remote_description(description).await,
            Err(error) => Err(error),
        };
        if let Err(error) = applied {
            self.complain("a description that makes no sense", error).await;
            return Ok(());
        }
        self.described = true;
        if self.role == DirectRole::Answer {
            self.answer().await.map_err(|error| DirectError::Signals(error.to_string()))?;
        }
        for candidate in std::mem::take(&mut self.candidates) {
            self.add_candidate(candidate).await;
        }
        Ok(())
    }

    /// The peer's description for the library. An original's limit is ours to keep.
    fn understood(&self, sdp: &str) -> String {
        match self.dialect {
            DirectDialect::Native => sdp.to_owned(),
            DirectDialect::Plain => {
                if !self.described {
                    self.opening.limit(message_size::announced(sdp));
                }
                message_size::with_ours(sdp)
            }
        }
    }

    async fn candidate(&mut self, candidate: Candidate) {
        let Some(line) = candidate::usable(&candidate) else { return };
        if !self.budget.admits(line) {
            if self.budget.is_flooded() {
                self.complain("more candidates than anyone has", "").await;
            }
        } else if self.described {
            self.add_candidate(candidate).await;
        } else {
            self.candidates.push(candidate);
        }
    }

    async fn add_candidate(&mut self, candidate: Candidate) {
        let Some(line) = candidate::usable(&candidate) else { return };
        let candidate = RTCIceCandidateInit { candidate: line.to_owned(), ..Default::default() };
        if let Err(error) = self.connection.add_ice_candidate(candidate).await {
            self.complain("a candidate that makes no sense", error).await;
        }
    }

    /// Tells a developer, once for each kind.
    async fn complain(&mut self, what: &'static str, error: impl std::fmt::Display) {
        if self.complained.insert(what) {
            self.tell(DirectEvent::Diagnostic(format!("signalling: {what} {error}").trim_end().to_owned())).await;
        }
    }

    async fn tell(&self, event: DirectEvent) {
        last_word(self.events, event).await;
    }

    fn pump(&self, channel: Arc<dyn DataChannel>, reliable: bool, lane: LaneReceiver) -> BoxFuture<'static, ()> {
        pump(channel, reliable, lane, self.events.clone(), self.opening.clone())
    }
}
