//! Signals of a stranger: from a body to the WebRTC library, which gets no further than to what it would send.

use std::time::{Duration, Instant};

use bevy_uhst::internals::usable_candidate;
use rtc::{
    peer_connection::{
        RTCPeerConnection, RTCPeerConnectionBuilder, sdp::RTCSessionDescription, transport::RTCIceCandidateInit,
    },
    sansio::Protocol,
};
use uhst_proto::protocol::{Body, Candidate, Signal};

use super::source::Source;

/// Ours, at an address that is for documentation.
const OURS: &str = "candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host";

/// Whether we offer, then signals, each ended by a zero byte: JSON, or bare as a candidate line or a description.
pub fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let offering = source.bool();
    let now = Instant::now();
    let Ok(mut connection) = RTCPeerConnectionBuilder::new().build(now) else { return };
    if offering && offer(&mut connection, now).is_none() {
        return;
    }
    let mut described = false;
    for _ in 0..8 {
        let text = String::from_utf8_lossy(source.until(0)).into_owned();
        match read(text, offering) {
            None => {}
            Some(Signal::Candidate(candidate)) => {
                if let Some(line) = usable_candidate(&candidate) {
                    let _ = connection.add_remote_candidate(init(line));
                }
            }
            Some(_) if described => {}
            Some(Signal::Offer(sdp)) if !offering => described = answer(&mut connection, &sdp, now).is_some(),
            Some(Signal::Answer(sdp)) if offering => {
                let answer = RTCSessionDescription::answer(sdp.to_string());
                described = answer.and_then(|answer| connection.set_remote_description(now, answer)).is_ok();
            }
            Some(_) => {}
        }
        if source.is_empty() {
            break;
        }
    }
    live(&mut connection, now);
}

fn read(text: String, offering: bool) -> Option<Signal> {
    if text.starts_with('{') {
        return match Body::parse(&text) {
            Ok(Body::Signal(signal)) => Some(signal),
            _ => None,
        };
    }
    Some(match (text.starts_with("v="), offering) {
        (true, true) => Signal::Answer(text.into()),
        (true, false) => Signal::Offer(text.into()),
        _ => Signal::Candidate(Candidate { candidate: text.into(), ..Candidate::default() }.into()),
    })
}

fn init(line: &str) -> RTCIceCandidateInit {
    RTCIceCandidateInit { candidate: line.to_owned(), ..Default::default() }
}

fn offer(connection: &mut RTCPeerConnection, now: Instant) -> Option<()> {
    connection.create_data_channel("data", None).ok()?;
    let offer = connection.create_offer(None).ok()?;
    connection.set_local_description(now, offer).ok()?;
    connection.add_local_candidate(init(OURS)).ok()
}

fn answer(connection: &mut RTCPeerConnection, sdp: &str, now: Instant) -> Option<()> {
    let offer = RTCSessionDescription::offer(sdp.to_owned()).ok()?;
    connection.set_remote_description(now, offer).ok()?;
    let answer = connection.create_answer(None).ok()?;
    connection.set_local_description(now, answer).ok()?;
    connection.add_local_candidate(init(OURS)).ok()
}

/// Lets it do what it wants for a while; nothing it sends arrives.
fn live(connection: &mut RTCPeerConnection, mut now: Instant) {
    for _ in 0..20 {
        let mut packets = 0;
        while connection.poll_write().is_some() {
            packets += 1;
            assert!(packets < 10_000, "endless packets");
        }
        while connection.poll_event().is_some() {}
        while connection.poll_read().is_some() {}
        let Some(next) = connection.poll_timeout() else { break };
        now = next.max(now + Duration::from_millis(1)).min(now + Duration::from_secs(10));
        if connection.handle_timeout(now).is_err() {
            break;
        }
    }
    let _ = connection.close();
}
