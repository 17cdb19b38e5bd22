//! Tests with a real TURN server on this machine, which `.ci/turn` starts.

use super::*;
use crate::net::webrtc::IceCredentials;

/// The settings to use only the server, with this password.
fn config(credential: &str) -> DirectConfig {
    let urls = vec![std::env::var("BEVY_UHST_TEST_TURN").expect("`.ci/turn` starts a server and says where")];
    let credentials = IceCredentials { username: "ada".to_owned(), credential: credential.to_owned() };
    let ice_servers = vec![IceServer { urls, credentials: Some(credentials) }];
    DirectConfig { ice_servers, relay_only: true, ..DirectConfig::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a TURN server; run by `.ci/turn`"]
async fn peers_connect_through_a_turn_server() {
    let mut client = Peer::with(DirectRole::Offer, Native, config("swordfish"));
    let mut host = Peer::with(DirectRole::Answer, Native, config("swordfish"));
    let candidates = connect(&mut client, &mut host).await;
    // No other address is exchanged, so there is no other path.
    assert!(candidates.len() >= 2 && candidates.iter().all(|line| line.contains(" typ relay")), "{candidates:?}");
    for n in 0..100 {
        client.send(true, number(n)).await;
        assert_eq!(host.packet().await, (true, number(n)));
        host.send(false, number(n)).await;
        assert_eq!(client.packet().await, (false, number(n)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a TURN server; run by `.ci/turn`"]
async fn a_wrong_credential_is_reported() {
    let mut client = Peer::with(DirectRole::Offer, Native, config("sturgeon"));
    let DirectEvent::Diagnostic(text) = client.next_event().await else { panic!("no report") };
    assert!(text.contains("TURN"), "{text}");
}
