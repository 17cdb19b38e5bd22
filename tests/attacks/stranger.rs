//! A peer that joins a session by hand, and sends what no client would send.

use std::{
    net::SocketAddr,
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bevy_uhst::{
    prelude::*,
    test_app::{TestNetwork, update_until},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    runtime::Runtime,
    time::timeout,
};
use uhst_proto::{
    connection::{Connection, Credentials, Lane, StaticKey, Timestamp},
    protocol::{Body, GameId, NATIVE_VERSION},
};

use crate::support::*;

/// The address of all strangers.
pub const ELSEWHERE: [u8; 4] = [127, 0, 0, 2];

/// A client of the session `x` without the code of this crate.
pub struct Stranger {
    wire: Wire,
    target: String,
    stream: Option<Wire>,
}

impl Stranger {
    /// Joins, with an event stream or without. Returns `None` if the relay refuses.
    pub async fn join(relay: SocketAddr, listens: bool) -> Option<Self> {
        let mut wire = Wire::open_from(relay, ELSEWHERE).await;
        let joined = wire.request("POST", "/?action=join&hostId=x", &[], "").await;
        let token = joined.json().get("clientToken")?.as_str()?.to_owned();
        let target = format!("/?token={token}");
        let stream = if listens { Some(listen(relay, &target).await?) } else { None };
        Some(Stranger { wire, target, stream })
    }

    /// Sends a message to the host. Returns the status of the relay's response.
    pub async fn say(&mut self, body: &str) -> u16 {
        self.wire.request("POST", &self.target, &[JSON], body).await.status
    }

    /// Waits until the host has sent something that contains this text.
    pub async fn hears(&mut self, what: &str) {
        let (mut heard, stream) = (Vec::new(), self.stream.as_mut().unwrap());
        while !String::from_utf8_lossy(&heard).contains(what) {
            let read = timeout(Duration::from_secs(10), stream.stream.read_buf(&mut heard)).await;
            assert_ne!(read.expect("the host answers").unwrap(), 0);
        }
    }

    /// Ends the event stream.
    pub fn stops_listening(&mut self) {
        self.stream = None;
    }
}

async fn listen(relay: SocketAddr, target: &str) -> Option<Wire> {
    let mut stream = Wire::open_from(relay, ELSEWHERE).await;
    stream.write(request("GET", target, &[], "")).await;
    (stream.head().await.status == 200).then_some(stream)
}

/// The first messages of a client of this crate.
pub struct Introduction {
    /// The description of the direct path in its offer.
    pub sdp: String,
}

impl Introduction {
    /// Records the introduction of a client at a relay that does not know this crate.
    pub fn learn(runtime: &Runtime) -> Self {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (tell, told) = channel();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(Wire::accepted(stream), tell.clone()));
            }
        });
        let mut app = TestNetwork::loopback().app();
        app.world_mut().spawn(UhstClient::join("x").relay(Relay::Url(url)));
        let body: String = wait(&mut app, &told);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        Introduction { sdp: body["sdp"].as_str().unwrap().to_owned() }
    }

    /// Returns the first message of the client with this number.
    pub fn hello(&self, number: u64) -> String {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        let credentials = Credentials {
            host_id: "x".to_owned(),
            password: None,
            game: GameId::default(),
            key: StaticKey::from_bytes(seed),
            host_key: None,
        };
        let (config, now) = (ConnectionConfig::default(), Timestamp::ZERO);
        let mut client = Connection::connect(config, &credentials, bevy_uhst::Bytes::new(), seed, now).unwrap();
        client.path_up(bevy_uhst::Path::Relay, now);
        let packet = client.poll_transmit(Lane::Relay, 64 << 10, now).unwrap();
        Body::Native { version: NATIVE_VERSION, packet }.to_json()
    }
}

fn wait(app: &mut bevy::prelude::App, told: &Receiver<String>) -> String {
    let mut body = None;
    assert!(update_until(&mut [app], Duration::from_secs(10), |_| {
        body = body.take().or_else(|| told.try_recv().ok());
        body.is_some()
    }));
    body.unwrap()
}

async fn answer(mut wire: Wire, tell: std::sync::mpsc::Sender<String>) {
    loop {
        let Some(asked) = wire.asked().await else { return };
        let reply = match &asked.head {
            head if head.contains("action=join") => {
                let claims = BASE64_STANDARD.encode(r#"{"type":"clientToken","hostId":"x","clientId":"c"}"#);
                format!(r#"{{"clientToken":"e30.{}.x"}}"#, claims.trim_end_matches('='))
            }
            head if head.starts_with("GET") => {
                wire.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: Connected.\n").await;
                let _ = wire.stream.flush().await;
                std::future::pending::<()>().await;
                return;
            }
            _ => {
                let _ = tell.send(asked.text().to_owned());
                "{}".to_owned()
            }
        };
        wire.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{reply}", reply.len())).await;
    }
}
