mod costs;
mod signals;
mod turn;

use std::time::Instant;

use bytes::Bytes;
use bytestring::ByteString;
use tokio::{runtime::Handle, sync::mpsc, time::timeout};

use super::{
    DirectDialect::{Native, Plain},
    *,
};
use crate::{connection::MIN_PACKET_LIMIT, protocol::Candidate};

/// No test waits this long unless it fails.
const PATIENCE: Duration = Duration::from_secs(30);

struct Peer {
    link: DirectLink,
    events: mpsc::Receiver<DirectEvent>,
    /// The largest message that the other side takes, once open.
    max_message: usize,
}

impl Peer {
    fn new(role: DirectRole, dialect: DirectDialect) -> Self {
        let config = DirectConfig { ice_servers: Vec::new(), ..Default::default() };
        Peer::with(role, dialect, config)
    }

    fn with(role: DirectRole, dialect: DirectDialect, config: DirectConfig) -> Self {
        let (link, events) = DirectLink::start(role, dialect, config);
        Peer { link, events, max_message: 0 }
    }

    async fn event(&mut self) -> Option<DirectEvent> {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time")
    }

    /// The next event that is no signal.
    async fn next_event(&mut self) -> DirectEvent {
        loop {
            match self.event().await.expect("an event") {
                DirectEvent::Signal(_) => {}
                event => return event,
            }
        }
    }

    async fn packet(&mut self) -> (bool, Payload) {
        match self.next_event().await {
            DirectEvent::Packet { reliable, payload } => (reliable, payload),
            event => panic!("{event:?} instead of a packet"),
        }
    }

    async fn signal(&mut self) -> Signal {
        match self.event().await.expect("an event") {
            DirectEvent::Signal(signal) => signal,
            event => panic!("{event:?} instead of a signal"),
        }
    }

    /// Sends, waiting for room.
    async fn send(&mut self, reliable: bool, payload: Payload) {
        let mut payload = payload;
        while let Err(Full(back)) = self.link.try_send(reliable, payload) {
            payload = back;
            while !matches!(self.next_event().await, DirectEvent::Writable) {}
        }
    }
}

fn pair(dialect: DirectDialect) -> (Peer, Peer) {
    (Peer::new(DirectRole::Offer, dialect), Peer::new(DirectRole::Answer, dialect))
}

/// Exchanges signals until both sides are open, and returns the exchanged candidates.
async fn connect(client: &mut Peer, host: &mut Peer) -> Vec<ByteString> {
    connect_with(client, host, |signal| signal).await
}

/// Does the same, and changes the host's signals on their way.
async fn connect_with(client: &mut Peer, host: &mut Peer, changed: impl Fn(Signal) -> Signal) -> Vec<ByteString> {
    let mut candidates = Vec::new();
    while client.max_message == 0 || host.max_message == 0 {
        let (from, to, limit, event) = tokio::select! {
            event = client.event() => ("client", &host.link, &mut client.max_message, event),
            event = host.event() => ("host", &client.link, &mut host.max_message, event),
        };
        match event.expect("an event") {
            DirectEvent::Signal(signal) => {
                if let Signal::Candidate(candidate) = &signal {
                    candidates.push(candidate.candidate.clone());
                }
                to.signal(if from == "host" { changed(signal) } else { signal });
            }
            DirectEvent::Open { max_message } => *limit = max_message,
            event => panic!("{from}: {event:?} before both were open"),
        }
    }
    candidates
}

async fn connected(dialect: DirectDialect) -> (Peer, Peer) {
    let (mut client, mut host) = pair(dialect);
    connect(&mut client, &mut host).await;
    (client, host)
}

fn number(n: u32) -> Payload {
    Payload::Binary(Bytes::copy_from_slice(&n.to_be_bytes()))
}

fn sized(bytes: usize) -> Payload {
    Payload::Binary(Bytes::from(vec![7; bytes]))
}

fn text(text: &'static str) -> Payload {
    Payload::Text(ByteString::from_static(text))
}

/// Returns once only this test's own tasks are left.
async fn only_tasks(count: usize) {
    let settle = async {
        while Handle::current().metrics().num_alive_tasks() > count {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, settle).await.expect("every task ends");
}

#[tokio::test]
async fn plain_peers_exchange_text_and_binary() {
    let (mut client, mut host) = connected(Plain).await;
    client.send(true, text("grüß dich")).await;
    client.send(false, Payload::Binary(Bytes::new())).await;
    client.send(true, text("")).await;
    for expected in [text("grüß dich"), Payload::Binary(Bytes::new()), text("")] {
        assert_eq!(host.packet().await, (true, expected));
    }
    for size in [65_536, 65_537, MAX_MESSAGE] {
        for large in [sized(size), Payload::Text("x".repeat(size).into())] {
            host.send(true, large.clone()).await;
            assert_eq!(client.packet().await, (true, large.clone()));
            client.send(true, large.clone()).await;
            assert_eq!(host.packet().await, (true, large));
        }
    }
    assert_eq!((client.max_message, host.max_message), (MAX_MESSAGE, MAX_MESSAGE));
    host.send(true, sized(MAX_MESSAGE + 1)).await;
    assert!(matches!(host.next_event().await, DirectEvent::Diagnostic(_)));
}

#[tokio::test]
async fn the_limit_of_an_original_bounds_only_messages_to_it() {
    for (announced, limit) in [("a=max-message-size:100000\r\n", 100_000), ("", 65_536)] {
        let (mut client, mut host) = pair(Plain);
        connect_with(&mut client, &mut host, |signal| match signal {
            Signal::Answer(sdp) => Signal::Answer(sdp.replace("a=max-message-size:262144\r\n", announced).into()),
            signal => signal,
        })
        .await;
        assert_eq!((client.max_message, host.max_message), (limit, MAX_MESSAGE));
        client.send(true, sized(limit)).await;
        assert_eq!(host.packet().await, (true, sized(limit)));
        client.send(true, sized(limit + 1)).await;
        let DirectEvent::Diagnostic(text) = client.next_event().await else { panic!("no report of the loss") };
        assert!(text.contains(&(limit + 1).to_string()), "{text}");
        client.send(true, sized(1)).await;
        assert_eq!(host.packet().await, (true, sized(1)), "the path lives, and the larger message was dropped");
        host.send(true, sized(MAX_MESSAGE)).await;
        assert_eq!(client.packet().await, (true, sized(MAX_MESSAGE)), "its own messages may be larger");
    }
}

#[tokio::test]
async fn reliable_packets_arrive_once_and_in_order() {
    const COUNT: u32 = 10_000;
    let (mut client, mut host) = connected(Native).await;
    let receive = async {
        for n in 0..COUNT {
            assert_eq!(host.packet().await, (true, number(n)));
        }
    };
    let send = async {
        for n in 0..COUNT {
            client.send(true, number(n)).await;
        }
    };
    tokio::join!(send, receive);
}

#[tokio::test]
async fn native_peers_have_an_unreliable_channel() {
    let (mut client, mut host) = connected(Native).await;
    client.send(false, number(1)).await;
    assert_eq!(host.packet().await, (false, number(1)));
    host.send(false, number(2)).await;
    assert_eq!(client.packet().await, (false, number(2)));
    let largest = sized(MIN_PACKET_LIMIT);
    client.send(true, largest.clone()).await;
    assert_eq!(host.packet().await, (true, largest));
}

#[tokio::test]
async fn messages_sent_before_opening_arrive() {
    for dialect in [Native, Plain] {
        let (mut client, mut host) = pair(dialect);
        client.link.try_send(true, number(1)).expect("room");
        host.link.try_send(true, number(2)).expect("room");
        let (mut client_got, mut host_got) = (None, None);
        while client_got.is_none() || host_got.is_none() {
            let (to, got, event) = tokio::select! {
                event = client.event() => (&host.link, &mut client_got, event),
                event = host.event() => (&client.link, &mut host_got, event),
            };
            match event.expect("an event") {
                DirectEvent::Signal(signal) => to.signal(signal),
                DirectEvent::Packet { payload, .. } => *got = Some(payload),
                DirectEvent::Open { .. } => {}
                event => panic!("{dialect:?}: {event:?}"),
            }
        }
        assert_eq!((client_got, host_got), (Some(number(2)), Some(number(1))));
    }
}

#[tokio::test]
async fn messages_sent_before_closing_arrive() {
    for dialect in [Native, Plain] {
        let (mut client, mut host) = connected(dialect).await;
        for n in 0..100 {
            client.send(true, number(n)).await;
        }
        let Peer { link, events: _, .. } = client;
        link.close().await;
        for n in 0..100 {
            assert_eq!(host.packet().await, (true, number(n)));
        }
        assert!(matches!(host.next_event().await, DirectEvent::Closed));
        assert!(host.event().await.is_none(), "nothing follows the last event");
    }
}

#[tokio::test]
async fn dropping_closes_the_link() {
    let tasks = Handle::current().metrics().num_alive_tasks();
    let (client, mut host) = connected(Native).await;
    drop(client);
    assert!(matches!(host.next_event().await, DirectEvent::Closed));
    drop(host);
    only_tasks(tasks).await;
}

#[tokio::test]
async fn dropping_at_any_time_leaks_no_task() {
    let tasks = Handle::current().metrics().num_alive_tasks();
    drop(pair(Native));
    only_tasks(tasks).await;
    let (mut client, host) = pair(Native);
    client.signal().await;
    drop((client, host));
    only_tasks(tasks).await;
    let (mut client, host) = pair(Plain);
    host.link.signal(client.signal().await);
    client.signal().await;
    drop((host, client));
    only_tasks(tasks).await;
}

#[tokio::test]
async fn a_reader_that_reads_nothing_does_not_block_closing() {
    let tasks = Handle::current().metrics().num_alive_tasks();
    let (mut client, host) = connected(Native).await;
    // More than all queues on the way hold.
    let send = async {
        loop {
            client.send(true, Payload::Binary(Bytes::from(vec![0; MIN_PACKET_LIMIT]))).await;
        }
    };
    timeout(Duration::from_millis(500), send).await.expect_err("the sender waits");
    let Peer { link, events, .. } = host;
    timeout(PATIENCE, link.close()).await.expect("closing ends");
    drop((client, events));
    only_tasks(tasks).await;
}

#[tokio::test]
async fn a_missing_answer_fails_the_link_in_time() {
    let config =
        DirectConfig { ice_servers: Vec::new(), open_timeout: Duration::from_millis(100), ..Default::default() };
    let mut client = Peer::with(DirectRole::Offer, Native, config);
    let event = client.next_event().await;
    assert!(matches!(event, DirectEvent::Failed(DirectError::Timeout(_))), "{event:?}");
    assert!(client.event().await.is_none());
}

#[tokio::test]
async fn a_bad_server_fails_the_link_with_a_reason() {
    let urls = vec!["turn:127.0.0.1:3478".to_owned()];
    let config = DirectConfig { ice_servers: vec![IceServer { urls, credentials: None }], ..Default::default() };
    let mut client = Peer::with(DirectRole::Offer, Native, config);
    let event = client.next_event().await;
    assert!(matches!(event, DirectEvent::Failed(DirectError::Unavailable(_))), "{event:?}");
}

#[tokio::test]
async fn a_dead_server_does_not_delay_direct_addresses() {
    let urls = vec!["stun:127.0.0.1:9".to_owned(), "stun:nowhere.invalid:3478".to_owned()];
    let config = DirectConfig { ice_servers: vec![IceServer { urls, credentials: None }], ..Default::default() };
    let mut client = Peer::with(DirectRole::Offer, Native, config.clone());
    let mut host = Peer::with(DirectRole::Answer, Native, config);
    let begun = Instant::now();
    connect(&mut client, &mut host).await;
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_links_open_and_close_at_once() {
    const PEERS: u32 = 32;
    let tasks = Handle::current().metrics().num_alive_tasks();
    let pairs = (0..PEERS).map(|n| async move {
        let (mut client, mut host) = connected(Native).await;
        client.send(true, number(n)).await;
        assert_eq!(host.packet().await, (true, number(n)));
        (client, host)
    });
    let begun = Instant::now();
    let pairs = futures_util::future::join_all(pairs).await;
    eprintln!("{PEERS} pairs were open after {:?}", begun.elapsed());
    let (clients, hosts): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    drop(clients);
    for mut host in hosts {
        let last = host.next_event().await;
        assert!(matches!(last, DirectEvent::Closed), "{last:?}");
    }
    only_tasks(tasks).await;
}
