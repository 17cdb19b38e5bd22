//! The direct path on the `webrtc` crate: one peer connection, driven by one task of its own beside the library's.

mod resolve;
mod runtime;

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rtc::ice::mdns::MulticastDnsMode;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit},
    error::Error,
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
        RTCIceCandidateInit, RTCIceServer, RTCIceTransportPolicy, RTCPeerConnectionIceEvent, RTCPeerConnectionState,
        RTCSessionDescription, SettingEngineBuilder,
    },
};

use self::runtime::EagerRuntime;
use super::{
    DirectConfig, DirectDialect, DirectError, DirectEvent, DirectRole, Full, MAX_MESSAGE, SEND_BUFFER, candidate,
    lane::{LaneReceiver, LaneSender, lane},
};
use crate::protocol::{Candidate, Payload, Signal};

/// The label that the originals give their channel.
const LABEL: &str = "uhst";

/// The label of the second channel, which only native peers have.
const UNRELIABLE_LABEL: &str = "uhst-unreliable";

/// How many signals may wait to be looked at; a peer that sends more at once loses some.
const MAX_SIGNALS: usize = 2 * candidate::MAX_CANDIDATES;

/// How many local addresses are offered. Each costs a socket.
const MAX_ADDRESSES: usize = 16;

/// How often unanswered pairs of addresses are checked, as RFC 8445 has it. The library waits for the next check
/// before it uses a pair that has answered, so this is also most of the time to direct on a LAN.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// For how many checks a pair is tried: 5 s, so that both sides of two routers overlap. (The default is 1.4 s.)
const MAX_CHECKS: u16 = 100;

/// How long better pairs are waited for when an address answers that the peer has not told yet. The default of 1 s
/// would be spent whenever a check overtakes the signal, because the library never learns that the two are one.
const UNTOLD_WAIT: Duration = CHECK_INTERVAL;

/// Silence after which a path is doubted, and after how much more it is given up.
const DISCONNECTED: Duration = Duration::from_secs(5);
const FAILED: Duration = Duration::from_secs(10);

/// Consent to send is asked for this often, as browsers do.
const CONSENT_INTERVAL: Duration = Duration::from_secs(2);

/// How long a link that is let go of may take to hand over what was sent before.
const FLUSH: Duration = Duration::from_millis(250);

/// How often it is looked whether that has arrived.
const ACKNOWLEDGED_CHECK: Duration = Duration::from_millis(2);

/// A direct path to one peer. Dropping it closes it, after what was sent before.
#[derive(Debug)]
pub(crate) struct DirectLink {
    signals: mpsc::Sender<Signal>,
    reliable: LaneSender,
    /// None in the plain dialect, which has one channel.
    unreliable: Option<LaneSender>,
    task: JoinHandle<()>,
    _dropped: oneshot::Sender<()>,
}

impl DirectLink {
    /// Begins to look for a path, on the current tokio runtime. All that follows is told to `events`.
    ///
    /// A reader of `events` that falls behind slows the peer down.
    pub fn start(
        role: DirectRole,
        dialect: DirectDialect,
        config: DirectConfig,
        events: mpsc::Sender<DirectEvent>,
    ) -> Self {
        let (signals, signals_in) = mpsc::channel(MAX_SIGNALS);
        let (reliable, reliable_out) = lane();
        let (unreliable, unreliable_out) = match dialect {
            DirectDialect::Native => Some(lane()).unzip(),
            DirectDialect::Plain => (None, None),
        };
        let (dropped, mut gone) = oneshot::channel();
        let task = tokio::spawn(async move {
            let (internal, internal_in) = mpsc::unbounded_channel();
            // Never given up half-way: the library would leave its own task behind.
            let connection = connect(&config, role, dialect, internal).await;
            let connection = match connection {
                Ok(connection) => connection,
                Err(error) => {
                    tokio::select! {
                        () = last_word(&events, DirectEvent::Failed(error)) => {}
                        _ = gone => {}
                    }
                    return;
                }
            };
            let link = Link {
                connection: &*connection,
                role,
                events: &events,
                described: false,
                section: None,
                candidates: Vec::new(),
                candidates_seen: 0,
                complained: HashSet::new(),
                unopened: Arc::new(dialect.channels().into()),
                opened: watch::channel(false).0,
            };
            // Boxed, so that nothing of it is left, least of all a lock of the library, when it is cut short.
            let mut running = Box::pin(link.run(&config, signals_in, internal_in, reliable_out, unreliable_out));
            let end = tokio::select! {
                end = &mut running => end,
                _ = &mut gone => {
                    let _ = timeout(FLUSH, running).await;
                    None
                }
            };
            // Tells the peer, and ends the library's task.
            if let Err(error) = connection.close().await {
                tracing::debug!("closing a direct path: {error}");
            }
            if let Some(end) = end {
                // Whoever let go of the link has stopped listening.
                tokio::select! {
                    () = last_word(&events, end) => {}
                    _ = gone => {}
                }
            }
        });
        DirectLink { signals, reliable, unreliable, task, _dropped: dropped }
    }

    /// Takes a signal of the peer: in any order, any number of times, in any state.
    pub fn signal(&self, signal: Signal) {
        if self.signals.try_send(signal).is_err() {
            tracing::debug!("a signal came too late or with too many others, and is ignored");
        }
    }

    /// Sends one message, or queues it until the path is open.
    ///
    /// The unreliable channel promises at most once, in any order. The plain dialect has the reliable one only.
    pub fn try_send(&self, reliable: bool, payload: Payload) -> Result<(), Full> {
        match &self.unreliable {
            Some(unreliable) if !reliable => unreliable.try_send(payload),
            _ => self.reliable.try_send(payload),
        }
    }

    /// Sends what was sent before, tells the peer, and returns when nothing of the path is left.
    pub async fn close(self) {
        let DirectLink { task, signals, reliable, unreliable, _dropped } = self;
        drop((signals, reliable, unreliable, _dropped));
        // A panic in there has been reported by its own thread.
        let _ = task.await;
    }
}

/// The last event, for whoever still listens.
async fn last_word(events: &mpsc::Sender<DirectEvent>, event: DirectEvent) {
    let _ = events.send(event).await;
}

/// What the library tells, on its own task.
enum Internal {
    Candidate(String),
    State(RTCPeerConnectionState),
    Channel(Arc<dyn DataChannel>),
}

struct Handler {
    internal: mpsc::UnboundedSender<Internal>,
    /// How many channels announced by the peer are still welcome.
    expected_channels: AtomicUsize,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        let unreachable = event.candidate.address.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        if let Ok(candidate) = event.candidate.to_json()
            && !unreachable
        {
            let _ = self.internal.send(Internal::Candidate(candidate.candidate));
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let _ = self.internal.send(Internal::State(state));
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let take = |expected: usize| expected.checked_sub(1);
        if self.expected_channels.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            let _ = self.internal.send(Internal::Channel(channel));
        }
    }
}

/// Builds the peer connection.
async fn connect(
    config: &DirectConfig,
    role: DirectRole,
    dialect: DirectDialect,
    internal: mpsc::UnboundedSender<Internal>,
) -> Result<Arc<dyn PeerConnection>, DirectError> {
    config.ice_servers.iter().flat_map(|server| &server.urls).for_each(|url| resolve::prefetch(url));
    let expected_channels = if role == DirectRole::Answer { dialect.channels() } else { 0 };
    let handler = Arc::new(Handler { internal, expected_channels: expected_channels.into() });
    // Browsers hide their addresses behind mDNS names. Asking for them needs multicast, which not every network has.
    match build(config, handler.clone(), MulticastDnsMode::QueryOnly).await {
        Ok(connection) => Ok(connection),
        Err(error) => {
            tracing::debug!("no multicast here: {error}");
            let unavailable = |error: Error| DirectError::Unavailable(error.to_string());
            build(config, handler, MulticastDnsMode::Disabled).await.map_err(unavailable)
        }
    }
}

async fn build(
    config: &DirectConfig,
    handler: Arc<Handler>,
    multicast_dns: MulticastDnsMode,
) -> Result<Arc<dyn PeerConnection>, Error> {
    let settings = SettingEngineBuilder::new()
        .with_multicast_dns_mode(multicast_dns)
        .with_include_loopback_candidate(true)
        .with_ice_timeouts(Some(DISCONNECTED), Some(FAILED), Some(CONSENT_INTERVAL))
        .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(MAX_CHECKS))
        .with_prflx_acceptance_min_wait(Some(UNTOLD_WAIT))
        .build();
    let servers = config.ice_servers.iter().map(|server| {
        let (username, credential) =
            server.credentials.clone().map(|known| (known.username, known.credential)).unwrap_or_default();
        RTCIceServer { urls: server.urls.clone(), username, credential }
    });
    let policy = if config.relay_only { RTCIceTransportPolicy::Relay } else { RTCIceTransportPolicy::All };
    let configuration =
        RTCConfigurationBuilder::new().with_ice_servers(servers.collect()).with_ice_transport_policy(policy).build();
    let connection = PeerConnectionBuilder::new()
        .with_configuration(configuration)
        .with_setting_engine(settings)
        .with_handler(handler)
        .with_runtime(Arc::new(EagerRuntime::default()))
        .with_udp_addrs(local_addresses())
        .with_data_channel_send_buffer_limit(SEND_BUFFER)
        .build()
        .await?;
    Ok(Arc::new(connection))
}

/// Every address of this machine that a peer may reach, and loopback. The library's own list leaves loopback out.
fn local_addresses() -> Vec<SocketAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let mut addresses: Vec<_> = interfaces
        .iter()
        .map(if_addrs::Interface::ip)
        .filter(|ip| match ip {
            IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_unspecified(),
            // A link-local address means nothing without its interface, which a candidate cannot name.
            IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_unspecified(),
        })
        .map(|ip| SocketAddr::new(ip, 0))
        .collect();
    addresses.push((Ipv4Addr::LOCALHOST, 0).into());
    addresses.sort();
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    addresses
}

/// What moves messages through the open channels.
type Pumps = FuturesUnordered<BoxFuture<'static, ()>>;

/// The queues that have no channel yet.
struct Lanes {
    reliable: Option<LaneReceiver>,
    unreliable: Option<LaneReceiver>,
}

/// The state of one link while it runs.
struct Link<'a> {
    connection: &'a dyn PeerConnection,
    role: DirectRole,
    events: &'a mpsc::Sender<DirectEvent>,
    /// Whether the peer's description is set: candidates wait for it.
    described: bool,
    /// The name of the data channels' section, which is in the offer.
    section: Option<ByteString>,
    candidates: Vec<Candidate>,
    candidates_seen: usize,
    /// Kinds of trouble that were told already.
    complained: HashSet<&'static str>,
    /// Channels that are not open yet.
    unopened: Arc<AtomicUsize>,
    /// Opening is told once all are, and before any message.
    opened: watch::Sender<bool>,
}

impl Link<'_> {
    /// Runs the link to its end; `None` when that is nothing to tell.
    async fn run(
        mut self,
        config: &DirectConfig,
        mut signals: mpsc::Receiver<Signal>,
        mut internal: mpsc::UnboundedReceiver<Internal>,
        reliable: LaneReceiver,
        unreliable: Option<LaneReceiver>,
    ) -> Option<DirectEvent> {
        let deadline = Instant::now() + config.open_timeout;
        let mut pumps = FuturesUnordered::new();
        let mut lanes = Lanes { reliable: Some(reliable), unreliable };
        if self.role == DirectRole::Offer {
            let offered = match self.announce(&mut lanes, &mut pumps).await {
                Ok(()) => self.offer().await,
                Err(error) => Err(error),
            };
            if let Err(error) = offered {
                return Some(DirectEvent::Failed(DirectError::Unavailable(error.to_string())));
            }
        }
        let mut opened = self.opened.subscribe();
        let mut leaving = false;
        let mut give_up = None;
        loop {
            let is_open = *self.opened.borrow();
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
                        self.tell(DirectEvent::Signal(Signal::Candidate(candidate::ours(line, self.section.clone())))).await;
                    }
                    Internal::Channel(channel) => {
                        let is_second = lanes.reliable.is_none() || channel.label().await.is_ok_and(|l| l == UNRELIABLE_LABEL);
                        let lane = if is_second { lanes.unreliable.take() } else { lanes.reliable.take() };
                        if let Some(lane) = lane {
                            pumps.push(self.pump(channel, !is_second, lane));
                        }
                    }
                    Internal::State(RTCPeerConnectionState::Failed) => {
                        return Some(DirectEvent::Failed(if is_open { DirectError::Broken } else { DirectError::Unreachable }));
                    }
                    // An open channel tells of its end itself, after its last message.
                    Internal::State(RTCPeerConnectionState::Closed) if !is_open => return Some(DirectEvent::Closed),
                    Internal::State(_) => {}
                },
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

    /// Makes the channels, as the one who offers.
    ///
    /// Both are announced in the association, none agreed on beforehand: the library loses what comes in on a stream
    /// known beforehand between the handshake and its own next look at it.
    async fn announce(&self, lanes: &mut Lanes, pumps: &mut Pumps) -> Result<(), Error> {
        if let Some(lane) = lanes.reliable.take() {
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
                self.candidate(candidate).await;
                return Ok(());
            }
            (Signal::Offer(sdp), DirectRole::Answer) => {
                if !self.described {
                    self.section = candidate::section(&sdp);
                }
                RTCSessionDescription::offer(sdp.to_string())
            }
            (Signal::Answer(sdp), DirectRole::Offer) => RTCSessionDescription::answer(sdp.to_string()),
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

    async fn candidate(&mut self, candidate: Candidate) {
        if candidate::usable(&candidate).is_none() {
            return;
        }
        self.candidates_seen += 1;
        if self.candidates_seen > candidate::MAX_CANDIDATES {
            self.complain("more candidates than anyone has", "").await;
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

    /// Moves messages between one channel and its lane, until the channel is closed or the lane has no more.
    fn pump(&self, channel: Arc<dyn DataChannel>, reliable: bool, lane: LaneReceiver) -> BoxFuture<'static, ()> {
        let (events, unopened, opened) = (self.events.clone(), self.unopened.clone(), self.opened.clone());
        Box::pin(async move {
            if !wait_for_open(&*channel).await {
                return;
            }
            if unopened.fetch_sub(1, Ordering::AcqRel) == 1 {
                last_word(&events, DirectEvent::Open).await;
                opened.send_replace(true);
            } else if opened.subscribe().wait_for(|opened| *opened).await.is_err() {
                return;
            }
            tokio::select! {
                () = read(&*channel, reliable, &events) => {}
                () = write(&*channel, lane, &events) => {}
            }
        })
    }
}

async fn wait_for_open(channel: &dyn DataChannel) -> bool {
    while let Some(event) = channel.poll().await {
        match event {
            DataChannelEvent::OnOpen => return true,
            DataChannelEvent::OnClose => return false,
            _ => {}
        }
    }
    false
}

/// Tells the messages of the peer, until it closes the channel.
async fn read(channel: &dyn DataChannel, reliable: bool, events: &mpsc::Sender<DirectEvent>) {
    let mut complained = false;
    while let Some(event) = channel.poll().await {
        let message = match event {
            DataChannelEvent::OnMessage(message) => message,
            DataChannelEvent::OnClose => return,
            _ => continue,
        };
        let data = message.data.freeze();
        let payload = match message.is_string.then(|| ByteString::try_from(data.clone())) {
            None => Payload::Binary(data),
            Some(Ok(text)) => Payload::Text(text),
            Some(Err(_)) => {
                if !std::mem::replace(&mut complained, true) {
                    last_word(events, DirectEvent::Diagnostic("a text that is not UTF-8".to_owned())).await;
                }
                continue;
            }
        };
        last_word(events, DirectEvent::Packet { reliable, payload }).await;
    }
}

/// Sends what the lane has, until it has no more or the channel is closed.
async fn write(channel: &dyn DataChannel, mut lane: LaneReceiver, events: &mpsc::Sender<DirectEvent>) {
    while let Some(payload) = lane.recv().await {
        let len = payload.len();
        let sent = match payload {
            _ if len > MAX_MESSAGE => Err(Error::ErrOutboundPacketTooLarge),
            Payload::Text(text) => channel.send_text(&text).await,
            Payload::Binary(bytes) => channel.send(into_mut(bytes)).await,
        };
        match sent {
            Ok(()) => {}
            Err(Error::ErrDataChannelClosed) => return,
            Err(error) => {
                let text = format!("a message of {len} bytes was not sent: {error}");
                last_word(events, DirectEvent::Diagnostic(text)).await;
            }
        }
        if lane.sent(len) {
            last_word(events, DirectEvent::Writable).await;
        }
    }
    // Let go of: closing would drop what the peer has not acknowledged, and the library does not tell when it has.
    while channel.outstanding_bytes().await.is_ok_and(|bytes| bytes > 0) {
        sleep(ACKNOWLEDGED_CHECK).await;
    }
}

/// Without a copy when nobody else holds the bytes.
fn into_mut(bytes: Bytes) -> BytesMut {
    bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}

#[cfg(test)]
mod tests;
