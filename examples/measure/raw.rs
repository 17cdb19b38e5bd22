//! The floor of the direct path: the `webrtc` crate alone, with the settings of this crate, in one process.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rtc::ice::mdns::MulticastDnsMode;
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent},
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceCandidateInit,
        RTCPeerConnectionIceEvent, SettingEngineBuilder,
    },
};

use crate::{Settings, frames::FRAME, report::Outcome};

/// The capacity of a channel's send buffer in bytes, as in this crate.
const SEND_BUFFER: usize = 64 * 1024;

/// Two connected peers, and both ends of their channel.
pub struct Pair {
    connections: [Arc<dyn PeerConnection>; 2],
    offerer: Arc<dyn DataChannel>,
    answerer: Arc<dyn DataChannel>,
}

struct Handler {
    candidates: mpsc::UnboundedSender<String>,
    channels: mpsc::UnboundedSender<Arc<dyn DataChannel>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        if let Ok(candidate) = event.candidate.to_json() {
            let _ = self.candidates.send(candidate.candidate);
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let _ = self.channels.send(channel);
    }
}

type Candidates = mpsc::UnboundedReceiver<String>;
type Channels = mpsc::UnboundedReceiver<Arc<dyn DataChannel>>;

async fn peer() -> Outcome<(Arc<dyn PeerConnection>, Candidates, Channels)> {
    let ((candidates, found), (channels, announced)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let settings = SettingEngineBuilder::new()
        .with_include_loopback_candidate(true)
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .build();
    let connection = PeerConnectionBuilder::new()
        .with_setting_engine(settings)
        .with_handler(Arc::new(Handler { candidates, channels }))
        .with_udp_addrs(vec![SocketAddr::from(([127, 0, 0, 1], 0))])
        .with_data_channel_send_buffer_limit(SEND_BUFFER)
        .build()
        .await?;
    Ok((Arc::new(connection), found, announced))
}

/// Creates a runtime, with as many threads as the networks of two apps have, or with one for both ends.
pub fn runtime(settings: &Settings) -> Outcome<Runtime> {
    let mut builder = match settings.raw_threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    Ok(builder.worker_threads(settings.raw_threads).enable_all().build()?)
}

/// Connects two peers on loopback.
pub async fn open() -> Outcome<Pair> {
    let (one, mut one_found, _) = peer().await?;
    let (two, mut two_found, mut announced) = peer().await?;
    let offerer = one.create_data_channel("floor", None).await?;
    let offer = one.create_offer(None).await?;
    one.set_local_description(offer.clone()).await?;
    two.set_remote_description(offer).await?;
    let answer = two.create_answer(None).await?;
    two.set_local_description(answer.clone()).await?;
    one.set_remote_description(answer).await?;
    let add = |to: Arc<dyn PeerConnection>, candidate| async move {
        to.add_ice_candidate(RTCIceCandidateInit { candidate, ..Default::default() }).await
    };
    let opening = async {
        let mut open = std::pin::pin!(opened(&offerer));
        let mut channel = None;
        let mut is_open = false;
        loop {
            tokio::select! {
                Some(candidate) = one_found.recv() => add(two.clone(), candidate).await?,
                Some(candidate) = two_found.recv() => add(one.clone(), candidate).await?,
                Some(announced) = announced.recv() => channel = Some(announced),
                () = &mut open, if !is_open => is_open = true,
            }
            if is_open && let Some(channel) = channel.take() {
                opened(&channel).await;
                return Outcome::Ok(channel);
            }
        }
    };
    let answerer = tokio::time::timeout(Duration::from_secs(20), opening).await??;
    Ok(Pair { connections: [one, two], offerer, answerer })
}

async fn opened(channel: &Arc<dyn DataChannel>) {
    while let Some(event) = channel.poll().await {
        if matches!(event, DataChannelEvent::OnOpen) {
            return;
        }
    }
}

impl Pair {
    /// Sends this many messages one way without a pause, and waits until the last one has arrived.
    pub async fn one_way(&self, size: usize, count: usize) -> Outcome<Duration> {
        let start = Instant::now();
        let (from, to) = (self.offerer.clone(), self.answerer.clone());
        let sending = tokio::spawn(async move {
            for _ in 0..count {
                from.send(BytesMut::zeroed(size)).await?;
            }
            Ok::<_, webrtc::error::Error>(())
        });
        let receiving = async {
            let mut arrived = 0;
            while arrived < count {
                match to.poll().await {
                    Some(DataChannelEvent::OnMessage(_)) => arrived += 1,
                    Some(_) => {}
                    None => return Err("the channel closed".into()),
                }
            }
            Outcome::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(60), receiving).await??;
        let took = start.elapsed();
        sending.await??;
        Ok(took)
    }

    /// Sends one message in each of this many frames, and waits until the last one has arrived.
    pub async fn paced(&self, size: usize, frames: usize) -> Outcome<()> {
        let sending = async {
            let mut ticks = tokio::time::interval(FRAME);
            for _ in 0..frames {
                ticks.tick().await;
                self.offerer.send(BytesMut::zeroed(size)).await?;
            }
            Outcome::Ok(())
        };
        let receiving = async {
            let mut left = frames;
            while left > 0 {
                if let Some(DataChannelEvent::OnMessage(_)) = self.answerer.poll().await {
                    left -= 1;
                }
            }
            Outcome::Ok(())
        };
        tokio::try_join!(sending, receiving)?;
        Ok(())
    }

    /// Sends one message there and back, this many times.
    pub async fn echoes(&self, size: usize, count: usize) -> Outcome<Vec<f64>> {
        let back = self.answerer.clone();
        let echoing = tokio::spawn(async move {
            let mut left = count;
            while left > 0 {
                if let Some(DataChannelEvent::OnMessage(message)) = back.poll().await {
                    back.send(message.data).await?;
                    left -= 1;
                }
            }
            Ok::<_, webrtc::error::Error>(())
        });
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            self.offerer.send(BytesMut::zeroed(size)).await?;
            while !matches!(self.offerer.poll().await, Some(DataChannelEvent::OnMessage(_))) {}
            times.push(start.elapsed().as_secs_f64());
        }
        echoing.await??;
        Ok(times)
    }

    /// Closes both ends.
    pub async fn close(self) {
        for connection in self.connections {
            let _ = connection.close().await;
        }
    }
}
