//! One running link: its signals, its states and its channels.

use std::{collections::HashSet, time::Duration};

use bytestring::ByteString;
use futures_util::{StreamExt, stream::FuturesUnordered};
use n0_future::{
    boxed::BoxFuture,
    time::{Instant, sleep_until},
};
use tokio::sync::mpsc;

use super::{
    ChannelKind, DirectConfig, DirectDialect, DirectError, DirectEvent, DirectRole, SdpKind, StackEvent,
    candidate::{self, CandidateBudget},
    channel_queue::QueueReceiver,
    message_size,
    pump::{Opening, listen, pump, send_event},
    stack,
};
use crate::protocol::{Candidate, Signal};

/// How long a dropped link may take to send what was queued before.
pub(super) const FLUSH: Duration = Duration::from_millis(250);

type Pumps = FuturesUnordered<BoxFuture<()>>;

/// The channels of one link.
struct Channels {
    /// The queues that have no channel yet.
    reliable: Option<QueueReceiver>,
    unreliable: Option<QueueReceiver>,
    /// Move messages through the channels that this side sends on.
    pumps: Pumps,
    /// Receive from the channels that only the peer sends on. A link that closes does not wait for them.
    listeners: Pumps,
}

/// The state of one running link.
pub(super) struct Link<'a> {
    connection: &'a stack::Connection,
    role: DirectRole,
    dialect: DirectDialect,
    events: &'a mpsc::Sender<DirectEvent>,
    /// Whether the peer's description is set. Candidates wait for it.
    described: bool,
    /// The name of the data channels' section, from the offer.
    section: Option<ByteString>,
    candidates: Vec<Candidate>,
    budget: CandidateBudget,
    /// Whether TURN servers are configured, and none has assigned an address yet.
    without_turn: bool,
    /// The problems that were reported already.
    reported: HashSet<&'static str>,
    opening: Opening,
}

impl<'a> Link<'a> {
    pub fn new(
        connection: &'a stack::Connection,
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
            budget: CandidateBudget::new(dialect.is_authenticated(role)),
            without_turn: false,
            reported: HashSet::new(),
            opening: Opening::of(dialect.channels()),
        }
    }

    /// Runs the link to its end, and returns its last event; `None` if the link was dropped.
    pub async fn run(
        mut self,
        config: &DirectConfig,
        mut signals: mpsc::Receiver<Signal>,
        mut stack_events: mpsc::UnboundedReceiver<StackEvent>,
        reliable: QueueReceiver,
        unreliable: Option<QueueReceiver>,
    ) -> Option<DirectEvent> {
        let deadline = Instant::now() + config.open_timeout;
        self.without_turn =
            config.ice_servers.iter().flat_map(|server| &server.urls).any(|url| url.starts_with("turn"));
        let (pumps, listeners) = (FuturesUnordered::new(), FuturesUnordered::new());
        let mut channels = Channels { reliable: Some(reliable), unreliable, pumps, listeners };
        if let Err(error) = self.begin(&mut channels).await {
            return Some(DirectEvent::Failed(DirectError::Unavailable(error)));
        }
        let mut opened = self.opening.watch();
        let mut leaving = false;
        let mut give_up = None;
        loop {
            let is_open = self.opening.is_open();
            if leaving && (channels.pumps.is_empty() || !is_open) {
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
                Some(event) = stack_events.recv() => {
                    if let Some(end) = self.stack_event(event, &mut channels).await {
                        return Some(end);
                    }
                }
                Some(()) = channels.listeners.next(), if !channels.listeners.is_empty() => {
                    give_up.get_or_insert_with(|| Instant::now() + FLUSH);
                }
                Some(()) = channels.pumps.next(), if !channels.pumps.is_empty() => {
                    if channels.pumps.is_empty() && !leaving {
                        return Some(DirectEvent::Closed);
                    }
                    // The other channel closes after its last message.
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

    /// Handles an event of the stack. Returns the last event of a link that it ends.
    async fn stack_event(&mut self, event: StackEvent, channels: &mut Channels) -> Option<DirectEvent> {
        match event {
            StackEvent::Candidate(line) => {
                self.without_turn &= !line.contains(" typ relay");
                let candidate = candidate::ours(line, self.section.clone());
                self.emit(DirectEvent::Signal(Signal::Candidate(candidate.into()))).await;
            }
            // Stacks only log this, without a hint at the cause.
            StackEvent::Gathered if self.without_turn => {
                let text = "no TURN server gave us an address: is its URL right, with user and credential?";
                self.emit(DirectEvent::Diagnostic(text.to_owned())).await;
            }
            StackEvent::Gathered => {}
            StackEvent::Channel(channel) => {
                let label = ChannelKind::Unreliable.label();
                if self.dialect == DirectDialect::Native && channel.has_label(label).await {
                    channels.listeners.push(listen(channel, self.events.clone(), self.opening.clone()));
                } else if let Some(queue) = channels.reliable.take() {
                    channels.pumps.push(self.pump(channel, ChannelKind::Reliable, queue));
                }
            }
            StackEvent::Failed => {
                let error = if self.opening.is_open() { DirectError::Broken } else { DirectError::Unreachable };
                return Some(DirectEvent::Failed(error));
            }
            // An open channel reports its end itself, after its last message.
            StackEvent::Closed => return (!self.opening.is_open()).then_some(DirectEvent::Closed),
        }
        None
    }

    async fn begin(&mut self, channels: &mut Channels) -> Result<(), String> {
        self.announce(channels).await?;
        if self.role == DirectRole::Offer { self.offer().await } else { Ok(()) }
    }

    /// Creates the channels of this side: the reliable one if it offers, and an unreliable one to send on.
    ///
    /// All are announced in the association, and none is negotiated beforehand: on a stream that is known beforehand, the
    /// library loses what arrives between the handshake and its next look at the stream.
    async fn announce(&self, channels: &mut Channels) -> Result<(), String> {
        if self.role == DirectRole::Offer
            && let Some(queue) = channels.reliable.take()
        {
            self.create(ChannelKind::Reliable, queue, channels).await?;
        }
        match channels.unreliable.take() {
            Some(queue) => self.create(ChannelKind::Unreliable, queue, channels).await,
            None => Ok(()),
        }
    }

    async fn create(&self, kind: ChannelKind, queue: QueueReceiver, channels: &mut Channels) -> Result<(), String> {
        let channel = self.connection.create_channel(kind).await?;
        channels.pumps.push(self.pump(channel, kind, queue));
        Ok(())
    }

    async fn offer(&mut self) -> Result<(), String> {
        let offer = self.connection.describe(SdpKind::Offer).await?;
        self.section = candidate::section(&offer);
        // The offer must precede the candidates, which come once it is applied.
        self.emit(DirectEvent::Signal(Signal::Offer(offer.clone().into()))).await;
        self.connection.set_local(SdpKind::Offer, offer).await
    }

    async fn answer(&self) -> Result<(), String> {
        let answer = self.connection.describe(SdpKind::Answer).await?;
        self.emit(DirectEvent::Signal(Signal::Answer(answer.clone().into()))).await;
        self.connection.set_local(SdpKind::Answer, answer).await
    }

    /// Handles a signal. Malformed ones are reported and ignored.
    ///
    /// # Errors
    ///
    /// [`DirectError::Signals`] if a valid offer cannot be answered.
    async fn signal(&mut self, signal: Signal) -> Result<(), DirectError> {
        let (kind, sdp) = match (signal, self.role) {
            (Signal::Candidate(candidate), _) => {
                self.candidate(*candidate).await;
                return Ok(());
            }
            (Signal::Offer(sdp), DirectRole::Answer) => {
                if !self.described {
                    self.section = candidate::section(&sdp);
                }
                (SdpKind::Offer, self.adapt(&sdp))
            }
            (Signal::Answer(sdp), DirectRole::Offer) => (SdpKind::Answer, self.adapt(&sdp)),
            _ => {
                self.report_once("an offer or answer from the wrong side", "").await;
                return Ok(());
            }
        };
        if self.described {
            tracing::debug!("a second description is ignored");
            return Ok(());
        }
        if let Err(error) = self.connection.set_remote(kind, sdp).await {
            self.report_once("a description that makes no sense", &error).await;
            return Ok(());
        }
        self.described = true;
        if self.role == DirectRole::Answer {
            self.answer().await.map_err(DirectError::Signals)?;
        }
        for candidate in std::mem::take(&mut self.candidates) {
            self.add_candidate(candidate).await;
        }
        Ok(())
    }

    /// The peer's description for the stack. The limit of an original is enforced here.
    fn adapt(&self, sdp: &str) -> String {
        match self.dialect {
            DirectDialect::Native => sdp.to_owned(),
            DirectDialect::Plain => {
                if !self.described {
                    self.opening.set_max_message(message_size::announced(sdp));
                }
                message_size::with_ours(sdp)
            }
        }
    }

    async fn candidate(&mut self, candidate: Candidate) {
        let Some(line) = candidate::usable(&candidate) else { return };
        if !self.budget.admits(line) {
            if self.budget.is_flooded() {
                self.report_once("more candidates than anyone has", "").await;
            }
        } else if self.described {
            self.add_candidate(candidate).await;
        } else {
            self.candidates.push(candidate);
        }
    }

    async fn add_candidate(&mut self, candidate: Candidate) {
        let Some(line) = candidate::usable(&candidate) else { return };
        if let Err(error) = self.connection.add_candidate(line).await {
            self.report_once("a candidate that makes no sense", &error).await;
        }
    }

    /// Reports a problem, once for each kind.
    async fn report_once(&mut self, what: &'static str, error: &str) {
        if self.reported.insert(what) {
            self.emit(DirectEvent::Diagnostic(format!("signalling: {what} {error}").trim_end().to_owned())).await;
        }
    }

    async fn emit(&self, event: DirectEvent) {
        send_event(self.events, event).await;
    }

    fn pump(&self, channel: stack::Channel, kind: ChannelKind, queue: QueueReceiver) -> BoxFuture<()> {
        pump(channel, kind, queue, self.events.clone(), self.opening.clone())
    }
}
