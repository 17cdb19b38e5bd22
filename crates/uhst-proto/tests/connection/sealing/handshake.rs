//! Attacks on the handshake: the relay answers in the host's name, and changes, repeats and drops its packets.

use super::*;

/// The relay answers in the host's name, with a key of its own.
#[test]
fn a_host_with_another_key_is_told_nothing() {
    for password in [None, Some("swordfish")] {
        let (mut client, mut relay) = (client(1, password, pinned()), host(1, password, HOST + 1));
        let hello = tap(&mut client, &mut relay);
        tap(&mut relay, &mut client);
        assert_eq!(ended(&mut client), Some(EndReason::WrongHostKey));
        assert_eq!((hello.len(), packets(&mut client, START)), (1, vec![]), "the hello alone");
        assert_eq!(events(&mut relay), []);
    }
}

/// The relay is a host to the client, and a client to the host. It does not know the password.
#[test]
fn a_relay_in_between_does_not_pass_a_password() {
    for guess in [None, Some("a guess")] {
        let (mut client, mut to_client) = (client(1, Some("swordfish"), None), host(1, guess, 2));
        let (mut to_host, mut host) = (self::client(2, guess, None), host(2, Some("swordfish"), HOST));
        exchange(&mut client, &mut to_client, START);
        exchange(&mut to_host, &mut host, START);
        // To the relay, too, both have a wrong password.
        assert_eq!(ended(&mut client), Some(EndReason::WrongPassword));
        assert_eq!(ended(&mut to_host), Some(EndReason::WrongPassword));
        host.handle_timeout(START + Duration::from_secs(3));
        assert_eq!(ended(&mut host), Some(EndReason::WrongPassword));
        // Each gave it one guess.
        assert_eq!(packets(&mut client, START), [] as [Bytes; 0]);
        exchange(&mut to_host, &mut host, START);
        assert_eq!((ended(&mut to_host), ended(&mut host)), (None, None));
    }
}

/// What `Sealed` does not protect from, and says so.
#[test]
fn a_relay_in_between_of_a_bare_code_is_not_noticed() {
    let (mut client, mut relay) = (client(1, None, None), host(1, None, 2));
    exchange(&mut client, &mut relay, START);
    relay.admit(START);
    exchange(&mut client, &mut relay, START);
    assert!(client.is_open());
    assert_eq!(client.security(), Security::Sealed);
}

/// Each packet of the handshake arrives changed in one byte first, then as it was sent.
#[test]
fn a_changed_byte_of_the_handshake_changes_nothing() {
    for password in [None, Some("swordfish")] {
        let (mut client, mut host) = (client(1, password, pinned()), host(1, password, HOST));
        tap(&mut client, &mut host);
        changed_then(&packets(&mut host, START), &mut client);
        assert_eq!(packets(&mut host, START), [] as [Bytes; 0]);
        let proof = packets(&mut client, START);
        changed_then(&proof, &mut host);
        assert_eq!(events(&mut host), [ConnectionEvent::JoinRequest { metadata: SECRETS[0].into() }]);
        changed_then(&packets(&mut host, START), &mut client);
        host.admit(START);
        changed_then(&packets(&mut host, START)[..1], &mut client);
        assert_eq!(events(&mut client), [ConnectionEvent::Connected { metadata: SECRETS[1].into() }]);
    }
}

/// Proofs are repeated as heartbeats, so the relay can repeat them too. It does not keep a client alive thereby.
#[test]
fn a_repeated_proof_hides_no_crash() {
    let (mut client, mut host) = (client(1, None, pinned()), host(1, None, HOST));
    tap(&mut client, &mut host);
    tap(&mut host, &mut client);
    let proof = tap(&mut client, &mut host).remove(0);
    host.admit(START);
    let timeout = ConnectionConfig::default().timeout;
    let mut now = START;
    let mut reported = Vec::new();
    while now < START + 2 * timeout {
        now += Duration::from_millis(500);
        host.receive(Lane::Relay, proof.clone(), now);
        assert_eq!(frame::HandshakeKind::peek(&packets(&mut host, now)[0]), HandshakeKind::Other, "the welcome");
        reported.extend(alone(&mut host, now, now + Duration::from_millis(499)).into_iter().map(|(_, event)| event));
    }
    let is_interruption = |event: &&ConnectionEvent| matches!(event, ConnectionEvent::Interrupted(_));
    assert_eq!(reported.iter().filter(is_interruption).count(), 1, "{reported:?}");
    assert!(host.is_interrupted());
}

/// A changed hello makes its host wait for another client. The relay could as well have dropped it.
#[test]
fn a_changed_hello_is_a_lost_one() {
    let hello = packets(&mut client(1, None, pinned()), START).remove(0);
    for byte in 0..hello.len() {
        let (mut client, mut host) = (client(1, None, pinned()), host(1, None, HOST));
        let mut changed = packets(&mut client, START).remove(0).to_vec();
        changed[byte] ^= 1;
        host.receive(Lane::Relay, changed.into(), START);
        exchange(&mut client, &mut host, START);
        assert_eq!(events(&mut host), [], "byte {byte}");
        // Another version is refused.
        let end = ended(&mut client);
        assert!(end.is_none() || byte == 2 && matches!(end, Some(EndReason::ProtocolError(_))), "byte {byte}: {end:?}");
    }
}

#[test]
fn without_the_third_message_nobody_joins() {
    let (mut client, mut host) = (client(1, None, pinned()), host(1, None, HOST));
    carry(&mut client, &mut host, START);
    carry(&mut host, &mut client, START);
    let (mut now, mut sent) = (START, 0);
    for _ in 0..400 {
        now += Duration::from_millis(100);
        sent += packets(&mut client, now).len();
        client.handle_timeout(now);
        host.handle_timeout(now);
        carry(&mut host, &mut client, now);
    }
    assert!(sent > 3, "it was repeated");
    assert_eq!((ended(&mut client), ended(&mut host)), (Some(EndReason::TimedOut), Some(EndReason::TimedOut)));
}

/// Once the host has answered, only it can refuse.
#[test]
fn a_refusal_that_is_not_sealed_counts_only_before_the_answer() {
    let refusal = frame::refusal(&EndReason::Full);
    let (mut client, mut host) = (client(1, None, pinned()), host(1, None, HOST));
    carry(&mut client, &mut host, START);
    carry(&mut host, &mut client, START);
    client.receive(Lane::Relay, refusal.clone(), START);
    assert_eq!(events(&mut client), []);
    let mut early = self::client(2, None, pinned());
    early.receive(Lane::Relay, refusal, START);
    assert_eq!(ended(&mut early), Some(EndReason::Full), "a relay can also drop the hello");
    // A host that refuses after the proof seals it, and a changed one counts for nothing.
    carry(&mut client, &mut host, START);
    host.refuse(EndReason::Refused("a-reason".into()), START);
    changed_then(&packets(&mut host, START), &mut client);
    assert_eq!(ended(&mut client), Some(EndReason::Refused("a-reason".into())));
}
