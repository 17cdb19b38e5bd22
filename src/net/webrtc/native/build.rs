//! Builds peer connections.

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
    data_channel::DataChannel,
    error::Error,
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
        RTCIceGatheringState, RTCIceServer, RTCIceTransportPolicy, RTCPeerConnectionIceEvent, RTCPeerConnectionState,
        SettingEngineBuilder,
    },
};

use super::{
    addresses::local_addresses,
    resolve,
    runtime::{EagerRuntime, Progress},
};
use crate::net::webrtc::{DirectConfig, DirectDialect, DirectError, DirectRole, SEND_BUFFER};

/// How often unanswered pairs of addresses are checked, as RFC 8445 has it. The library waits for the next check
/// before it uses a pair that has answered, so this is also most of the time to direct on a LAN.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// For how many checks a pair is tried: 5 s, so that both sides of two routers overlap. (The default is 1.4 s.)
const MAX_CHECKS: u16 = 100;

/// The same for a peer of which nothing is proven: it may have named the addresses of others, who get these checks. Half
/// a second of them opens our router to the peer, whose own checks, which only it can make, are answered at any time.
const MAX_UNPROVEN_CHECKS: u16 = 10;

/// How long better pairs are waited for when an address answers that the peer has not told yet. The default of 1 s
/// would be spent whenever a check overtakes the signal, because the library never learns that the two are one.
const UNTOLD_WAIT: Duration = CHECK_INTERVAL;

/// Silence after which a path is doubted, and after how much more it is given up.
const DISCONNECTED: Duration = Duration::from_secs(5);
const FAILED: Duration = Duration::from_secs(10);

/// Consent to send is asked for this often, as browsers do.
const CONSENT_INTERVAL: Duration = Duration::from_secs(2);

/// What the library tells, on its own task.
pub(super) enum Internal {
    Candidate(String),
    /// There will be no more candidates.
    Gathered,
    State(RTCPeerConnectionState),
    Channel(Arc<dyn DataChannel>),
}

struct Handler {
    progress: Arc<Progress>,
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

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.internal.send(Internal::Gathered);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Connected {
            self.progress.connected();
        }
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
pub(super) async fn connect(
    config: &DirectConfig,
    role: DirectRole,
    dialect: DirectDialect,
    internal: mpsc::UnboundedSender<Internal>,
) -> Result<Arc<dyn PeerConnection>, DirectError> {
    config.ice_servers.iter().flat_map(|server| &server.urls).for_each(|url| resolve::prefetch(url));
    let expected_channels = dialect.channels() - dialect.announced(role);
    let expected_channels = expected_channels.into();
    let handler = Arc::new(Handler { progress: Arc::default(), internal, expected_channels });
    // Browsers hide their addresses behind mDNS names. Asking for them needs multicast, which not every network has.
    match build(config, (role, dialect), handler.clone(), MulticastDnsMode::QueryOnly).await {
        Ok(connection) => Ok(connection),
        Err(error) => {
            tracing::debug!("no multicast here: {error}");
            let unavailable = |error: Error| DirectError::Unavailable(error.to_string());
            build(config, (role, dialect), handler, MulticastDnsMode::Disabled).await.map_err(unavailable)
        }
    }
}

async fn build(
    config: &DirectConfig,
    (role, dialect): (DirectRole, DirectDialect),
    handler: Arc<Handler>,
    multicast_dns: MulticastDnsMode,
) -> Result<Arc<dyn PeerConnection>, Error> {
    let checks = if dialect.is_proven(role) { MAX_CHECKS } else { MAX_UNPROVEN_CHECKS };
    let settings = SettingEngineBuilder::new()
        .with_multicast_dns_mode(multicast_dns)
        .with_include_loopback_candidate(true)
        .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(dialect.max_message() as u32))
        .with_ice_timeouts(Some(DISCONNECTED), Some(FAILED), Some(CONSENT_INTERVAL))
        .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(checks))
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
        .with_runtime(Arc::new(EagerRuntime::new(handler.progress.clone())))
        .with_handler(handler)
        .with_udp_addrs(local_addresses())
        .with_data_channel_send_buffer_limit(SEND_BUFFER)
        .build()
        .await?;
    Ok(Arc::new(connection))
}
