//! What a client does when its host leaves between its join and its first packet. Time is virtual.

use std::time::Duration;

use n0_future::time::{Instant, sleep};

use super::*;
use crate::{
    net::{
        MemoryRelay,
        contract::{HostOptions, SessionHandle, SessionOptions},
        events::{EventStream, StreamItem},
        host,
        start_retry::HOST_LOST,
    },
    protocol::PathPolicy,
};

const ID: &str = "demo";

/// A relay where a client has joined a host that has not read anything yet.
struct Joined {
    relay: MemoryRelay,
    /// The host's stream. The host leaves when it is dropped.
    host: Option<EventStream>,
    found: Found,
    options: ClientOptions,
}

impl Joined {
    /// A client that knows that its host is native, and one that does not. A password spares the second one an offer.
    async fn each() -> [Self; 2] {
        let (certain, mut uncertain) = (Self::new().await, Self::new().await);
        uncertain.found.joined.hint = None;
        uncertain.options.session.password = Some("swordfish".into());
        [certain, uncertain]
    }

    async fn new() -> Self {
        let relay = MemoryRelay::new();
        let (_, access) = relay.host(Some(ID)).expect("a free id");
        let host = Some(relay.listen(&access.token));
        let session = SessionOptions { paths: PathPolicy::RelayOnly, ..SessionOptions::of_a_test(relay.clone()) };
        let options = ClientOptions { target: JoinLink::new(None, ID.to_owned()), session };
        let Ok(found) = find(&options).await else { panic!("a host listens") };
        Joined { relay, host, found, options }
    }

    /// Runs the client. Returns its end with the time until then.
    async fn run(self) -> (EndReason, Duration) {
        let (events, _) = crossbeam_channel::unbounded();
        let (_handle, commands) = SessionHandle::new();
        let since = Instant::now();
        let reason = Client::start(SessionKey(2), self.options, events, self.found).run(commands).await;
        (reason, since.elapsed())
    }

    /// Runs the client until it is connected with a host that starts after `pause`.
    async fn connects_with_a_host_after(self, pause: Duration) -> bool {
        let (events, received) = crossbeam_channel::unbounded();
        let options = HostOptions::of_a_test(ID, self.relay.clone());
        let (_host, host_commands) = SessionHandle::new();
        let host = async {
            sleep(pause).await;
            host::run(SessionKey(1), options, crossbeam_channel::unbounded().0, host_commands).await;
        };
        let (_handle, commands) = SessionHandle::new();
        let client = Client::start(SessionKey(2), self.options, events, self.found);
        let connected = async {
            while !received.try_iter().any(|event| matches!(event.kind, EventKind::Connected { .. })) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            reason = client.run(commands) => panic!("{reason}"),
            () = host => panic!("the host has ended"),
            () = connected => true,
        }
    }
}

/// The client ends as one that finds no host, and not after its timeout.
async fn ends_without_a_host(joined: Joined) {
    let timeout = joined.options.session.connection.timeout;
    let (reason, time) = joined.run().await;
    assert_eq!(reason, EndReason::NoSuchHost);
    assert!(time < HOST_LOST + Duration::from_millis(100) && time < timeout, "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_leaves_before_the_first_packet_is_no_host() {
    for mut joined in Joined::each().await {
        joined.host = None;
        ends_without_a_host(joined).await;
    }
}

/// A session that other clients keep open can be joined after its host has left. The client is then sent no
/// `host_closed`.
#[tokio::test(start_paused = true)]
async fn a_host_that_left_before_the_client_listened_is_no_host() {
    for mut joined in Joined::each().await {
        joined.host = None;
        while let Ok(item) = tokio::time::timeout(Duration::ZERO, joined.found.stream.next()).await {
            item.expect("an open stream");
        }
        ends_without_a_host(joined).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_leaves_with_the_first_packet_is_no_host() {
    for mut joined in Joined::each().await {
        let mut host = joined.host.take().expect("a host");
        let leaves = async {
            while !matches!(host.next().await, Ok(StreamItem::Event(_))) {}
            drop(host);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = ends_without_a_host(joined) => {}
            () = leaves => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_ends_at_its_timeout_if_that_comes_first() {
    let mut joined = Joined::new().await;
    joined.host = None;
    joined.options.session.connection.timeout = Duration::from_secs(1);
    let (reason, time) = joined.run().await;
    assert_eq!(reason, EndReason::NoSuchHost);
    assert!(time < Duration::from_millis(1100), "{time:?}");
}

/// The report that the host has closed is older than the host that listens now.
#[tokio::test(start_paused = true)]
async fn a_host_that_is_back_before_the_first_packet_is_joined() {
    for pause in [0, 1, 100, 1000, 3500].map(Duration::from_millis) {
        let mut joined = Joined::new().await;
        joined.host = None;
        assert!(joined.connects_with_a_host_after(pause).await, "{pause:?}");
    }
}
