//! The peer connections of the library, in the form that links use.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rtc::{ice::mdns::MulticastDnsMode, peer_connection::configuration::setting_engine::SctpMaxMessageSize};
use tokio::sync::mpsc;
use webrtc::{
    data_channel::{DataChannel, RTCDataChannelInit},
    error::Error,
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
        RTCIceCandidateInit, RTCIceGatheringState, RTCIceServer, RTCIceTransportPolicy, RTCPeerConnectionIceEvent,
        RTCPeerConnectionState, RTCSessionDescription, SettingEngineBuilder,
    },
};

use super::{addresses::local_addresses, channel::Channel, progress::Progress, resolve, runtime::EagerRuntime};
use crate::{
    connection::MIN_PACKET_LIMIT,
    net::webrtc::{
        ChannelKind, DirectConfig, DirectDialect, DirectError, DirectRole, MAX_MESSAGE, SEND_BUFFER, SdpKind,
        StackEvent,
    },
};

/// The interval of checks of unanswered address pairs, as in RFC 8445. The library uses an answered pair only at the next
/// check, so this is also most of the time to a direct path on a LAN.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The number of checks of a pair: 5 s, so that the checks of both sides overlap at two routers. (The default is 1.4 s.)
const MAX_CHECKS: u16 = 100;

/// The number of checks for an unauthenticated peer, which may name the addresses of others. Half a second of checks opens
/// our router to the peer. Its own checks are answered at any time.
const MAX_UNAUTHENTICATED_CHECKS: u16 = 10;

/// The wait for better pairs when an unsignalled address answers. The default is 1 s, which would pass whenever a check
/// overtakes its signal, because the library never learns that the two are one.
const UNSIGNALLED_WAIT: Duration = CHECK_INTERVAL;

/// The silence after which a path is suspect, and the further silence after which it fails. On a path without messages,
/// the peer is heard with each consent check. A connection notices either when it wakes.
const DISCONNECTED: Duration = Duration::from_secs(10);
const FAILED: Duration = Duration::from_secs(5);

/// The shortest interval of consent checks, that of RFC 7675. An idle connection sends one each time that it wakes, at the
/// latest after twice this time.
pub(super) const CONSENT_INTERVAL: Duration = Duration::from_secs(5);

/// One peer connection.
pub(in crate::net::webrtc) struct Connection {
    connection: Arc<dyn PeerConnection>,
    progress: Arc<Progress>,
}

struct Handler {
    progress: Arc<Progress>,
    events: mpsc::UnboundedSender<StackEvent>,
    /// How many channels the peer may still announce.
    expected_channels: AtomicUsize,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        let unreachable = event.candidate.address.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        if let Ok(candidate) = event.candidate.to_json()
            && !unreachable
        {
            let _ = self.events.send(StackEvent::Candidate(candidate.candidate));
        }
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.events.send(StackEvent::Gathered);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let event = match state {
            RTCPeerConnectionState::Connected => return self.progress.set_connected(),
            RTCPeerConnectionState::Failed => StackEvent::Failed,
            RTCPeerConnectionState::Closed => StackEvent::Closed,
            _ => return,
        };
        let _ = self.events.send(event);
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let take = |expected: usize| expected.checked_sub(1);
        if self.expected_channels.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            self.progress.add_channel(&channel);
            let _ = self.events.send(StackEvent::Channel(Channel::new(channel, self.progress.clone())));
        }
    }
}

impl Connection {
    /// Creates a channel, which is announced to the peer.
    pub async fn create_channel(&self, kind: ChannelKind) -> Result<Channel, String> {
        let init = match kind {
            ChannelKind::Reliable => None,
            ChannelKind::Unreliable => {
                Some(RTCDataChannelInit { ordered: false, max_retransmits: Some(0), ..Default::default() })
            }
        };
        let channel = self.connection.create_data_channel(kind.label(), init).await.map_err(text)?;
        self.progress.add_channel(&channel);
        Ok(Channel::new(channel, self.progress.clone()))
    }

    /// Creates an offer or an answer, which is not applied yet.
    pub async fn describe(&self, kind: SdpKind) -> Result<String, String> {
        let description = match kind {
            SdpKind::Offer => self.connection.create_offer(None).await,
            SdpKind::Answer => self.connection.create_answer(None).await,
        };
        description.map(|description| description.sdp).map_err(text)
    }

    /// Applies a description of this side. Candidates follow.
    pub async fn set_local(&self, kind: SdpKind, sdp: String) -> Result<(), String> {
        self.connection.set_local_description(description(kind, sdp)?).await.map_err(text)
    }

    /// Applies a description of the peer.
    pub async fn set_remote(&self, kind: SdpKind, sdp: String) -> Result<(), String> {
        self.connection.set_remote_description(description(kind, sdp)?).await.map_err(text)
    }

    /// Adds an address of the peer: the attribute of its candidate.
    pub async fn add_candidate(&self, attribute: &str) -> Result<(), String> {
        let candidate = RTCIceCandidateInit { candidate: attribute.to_owned(), ..Default::default() };
        self.connection.add_ice_candidate(candidate).await.map_err(text)
    }

    /// Informs the peer, and ends the task of the library.
    pub async fn close(&self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!("closing a direct path: {error}");
        }
    }
}

/// The largest message to receive, in bytes. Native packets are no larger, and the library allocates a buffer of this size.
fn max_message(dialect: DirectDialect) -> usize {
    match dialect {
        DirectDialect::Native => MIN_PACKET_LIMIT,
        DirectDialect::Plain => MAX_MESSAGE,
    }
}

fn description(kind: SdpKind, sdp: String) -> Result<RTCSessionDescription, String> {
    match kind {
        SdpKind::Offer => RTCSessionDescription::offer(sdp),
        SdpKind::Answer => RTCSessionDescription::answer(sdp),
    }
    .map_err(text)
}

fn text(error: Error) -> String {
    error.to_string()
}

/// Builds the peer connection.
///
/// # Errors
///
/// [`DirectError::Unavailable`] if the library cannot start, for example because of a bad server URL.
pub(in crate::net::webrtc) async fn connect(
    config: &DirectConfig,
    role: DirectRole,
    dialect: DirectDialect,
    events: mpsc::UnboundedSender<StackEvent>,
) -> Result<Connection, DirectError> {
    config.ice_servers.iter().flat_map(|server| &server.urls).for_each(|url| resolve::prefetch(url));
    let expected_channels = dialect.channels() - dialect.created(role);
    let expected_channels = expected_channels.into();
    let handler =
        Arc::new(Handler { progress: Arc::new(Progress::new(dialect.channels())), events, expected_channels });
    // Browsers hide their addresses behind mDNS names, whose resolution needs multicast. Some networks have none.
    match build(config, (role, dialect), handler.clone(), MulticastDnsMode::QueryOnly).await {
        Ok(connection) => Ok(connection),
        Err(error) => {
            tracing::debug!("no multicast here: {error}");
            let unavailable = |error| DirectError::Unavailable(text(error));
            build(config, (role, dialect), handler, MulticastDnsMode::Disabled).await.map_err(unavailable)
        }
    }
}

async fn build(
    config: &DirectConfig,
    (role, dialect): (DirectRole, DirectDialect),
    handler: Arc<Handler>,
    multicast_dns: MulticastDnsMode,
) -> Result<Connection, Error> {
    let checks = if dialect.is_authenticated(role) { MAX_CHECKS } else { MAX_UNAUTHENTICATED_CHECKS };
    let settings = SettingEngineBuilder::new()
        .with_multicast_dns_mode(multicast_dns)
        .with_include_loopback_candidate(true)
        .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(max_message(dialect) as u32))
        .with_ice_timeouts(Some(DISCONNECTED), Some(FAILED), Some(CONSENT_INTERVAL))
        .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(checks))
        .with_prflx_acceptance_min_wait(Some(UNSIGNALLED_WAIT))
        .build();
    let servers = config.ice_servers.iter().map(|server| {
        let (username, credential) =
            server.credentials.clone().map(|known| (known.username, known.credential)).unwrap_or_default();
        RTCIceServer { urls: server.urls.clone(), username, credential }
    });
    let policy = if config.relay_only { RTCIceTransportPolicy::Relay } else { RTCIceTransportPolicy::All };
    let configuration =
        RTCConfigurationBuilder::new().with_ice_servers(servers.collect()).with_ice_transport_policy(policy).build();
    let progress = handler.progress.clone();
    let connection = PeerConnectionBuilder::new()
        .with_configuration(configuration)
        .with_setting_engine(settings)
        .with_runtime(Arc::new(EagerRuntime::new(progress.clone())))
        .with_handler(handler)
        .with_udp_addrs(local_addresses())
        .with_data_channel_send_buffer_limit(SEND_BUFFER)
        .build()
        .await?;
    Ok(Connection { connection: Arc::new(connection), progress })
}
