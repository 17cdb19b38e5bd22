//! The peer connections of the browser, in the form that links use.

use std::cell::Cell;

use js_sys::{Array, Promise, Reflect};
use tokio::sync::mpsc;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    RtcConfiguration, RtcDataChannelEvent, RtcDataChannelInit, RtcIceCandidateInit, RtcIceGatheringState, RtcIceServer,
    RtcIceTransportPolicy, RtcPeerConnection, RtcPeerConnectionIceEvent, RtcPeerConnectionState, RtcSdpType,
    RtcSessionDescriptionInit,
};

use super::{channel::Channel, text};
use crate::net::webrtc::{
    ChannelKind, DirectConfig, DirectDialect, DirectError, DirectRole, IceServer, SdpKind, StackEvent,
};

/// One peer connection. Dropping it closes it.
pub(in crate::net::webrtc) struct Connection {
    connection: RtcPeerConnection,
    _candidate: Closure<dyn FnMut(RtcPeerConnectionIceEvent)>,
    _gathering: Closure<dyn FnMut()>,
    _state: Closure<dyn FnMut()>,
    _channel: Closure<dyn FnMut(RtcDataChannelEvent)>,
}

/// Creates the peer connection.
///
/// # Errors
///
/// [`DirectError::Unavailable`] if the browser cannot, for example because of a bad server URL.
pub(in crate::net::webrtc) async fn connect(
    config: &DirectConfig,
    role: DirectRole,
    dialect: DirectDialect,
    events: mpsc::UnboundedSender<StackEvent>,
) -> Result<Connection, DirectError> {
    let configuration = RtcConfiguration::new();
    configuration.set_ice_servers(&config.ice_servers.iter().map(server).collect::<Array>());
    if config.relay_only {
        configuration.set_ice_transport_policy(RtcIceTransportPolicy::Relay);
    }
    let connection = RtcPeerConnection::new_with_configuration(&configuration)
        .map_err(|exception| DirectError::Unavailable(text(exception)))?;
    Ok(Connection::listen(connection, dialect.channels() - dialect.created(role), events))
}

fn server(server: &IceServer) -> RtcIceServer {
    let ours = RtcIceServer::new();
    ours.set_urls(&server.urls.iter().map(|url| JsValue::from(url.as_str())).collect::<Array>());
    if let Some(credentials) = &server.credentials {
        ours.set_username(&credentials.username);
        ours.set_credential(&credentials.credential);
    }
    ours
}

impl Connection {
    /// Queues the events of a connection whose peer creates this many channels.
    fn listen(
        connection: RtcPeerConnection,
        expected_channels: usize,
        events: mpsc::UnboundedSender<StackEvent>,
    ) -> Self {
        let sender = events.clone();
        let candidate = Closure::new(move |event: RtcPeerConnectionIceEvent| {
            if let Some(candidate) = event.candidate()
                && !candidate.candidate().is_empty()
            {
                let _ = sender.send(StackEvent::Candidate(candidate.candidate()));
            }
        });
        connection.set_onicecandidate(Some(candidate.as_ref().unchecked_ref()));

        let (sender, of) = (events.clone(), connection.clone());
        let gathering = Closure::new(move || {
            if of.ice_gathering_state() == RtcIceGatheringState::Complete {
                let _ = sender.send(StackEvent::Gathered);
            }
        });
        connection.set_onicegatheringstatechange(Some(gathering.as_ref().unchecked_ref()));

        let (sender, of) = (events.clone(), connection.clone());
        let state = Closure::new(move || {
            let event = match of.connection_state() {
                RtcPeerConnectionState::Failed => StackEvent::Failed,
                RtcPeerConnectionState::Closed => StackEvent::Closed,
                _ => return,
            };
            let _ = sender.send(event);
        });
        connection.set_onconnectionstatechange(Some(state.as_ref().unchecked_ref()));

        let expected = Cell::new(expected_channels);
        let channel = Closure::new(move |event: RtcDataChannelEvent| {
            let channel = Channel::new(event.channel());
            if let Some(rest) = expected.get().checked_sub(1) {
                expected.set(rest);
                let _ = events.send(StackEvent::Channel(channel));
            }
        });
        connection.set_ondatachannel(Some(channel.as_ref().unchecked_ref()));
        Connection { connection, _candidate: candidate, _gathering: gathering, _state: state, _channel: channel }
    }

    /// Creates a channel, which is announced to the peer.
    pub async fn create_channel(&self, kind: ChannelKind) -> Result<Channel, String> {
        let init = RtcDataChannelInit::new();
        if kind == ChannelKind::Unreliable {
            init.set_ordered(false);
            init.set_max_retransmits(0);
        }
        Ok(Channel::new(self.connection.create_data_channel_with_data_channel_dict(kind.label(), &init)))
    }

    /// Creates an offer or an answer, which is not applied yet.
    pub async fn describe(&self, kind: SdpKind) -> Result<String, String> {
        let description = match kind {
            SdpKind::Offer => self.connection.create_offer(),
            SdpKind::Answer => self.connection.create_answer(),
        };
        let description = JsFuture::from(description).await.map_err(text)?;
        let sdp = Reflect::get(&description, &"sdp".into()).map_err(text)?;
        sdp.as_string().ok_or_else(|| "the browser gave no description".to_owned())
    }

    /// Applies a description of this side. Candidates follow.
    pub async fn set_local(&self, kind: SdpKind, sdp: String) -> Result<(), String> {
        done(self.connection.set_local_description(&description(kind, &sdp))).await
    }

    /// Applies a description of the peer.
    pub async fn set_remote(&self, kind: SdpKind, sdp: String) -> Result<(), String> {
        done(self.connection.set_remote_description(&description(kind, &sdp))).await
    }

    /// Adds an address of the peer: the attribute of its candidate.
    pub async fn add_candidate(&self, attribute: &str) -> Result<(), String> {
        let candidate = RtcIceCandidateInit::new(&format!("candidate:{attribute}"));
        candidate.set_sdp_m_line_index(Some(0));
        done(self.connection.add_ice_candidate_with_opt_rtc_ice_candidate_init(Some(&candidate))).await
    }

    /// Closes the connection. The peer learns it from its channels.
    pub async fn close(&self) {
        self.connection.close();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connection.set_onicecandidate(None);
        self.connection.set_onicegatheringstatechange(None);
        self.connection.set_onconnectionstatechange(None);
        self.connection.set_ondatachannel(None);
        self.connection.close();
    }
}

fn description(kind: SdpKind, sdp: &str) -> RtcSessionDescriptionInit {
    let description = RtcSessionDescriptionInit::new(match kind {
        SdpKind::Offer => RtcSdpType::Offer,
        SdpKind::Answer => RtcSdpType::Answer,
    });
    description.set_sdp(sdp);
    description
}

async fn done(promise: Promise) -> Result<(), String> {
    JsFuture::from(promise).await.map(|_| ()).map_err(text)
}
