//! Tests of the exchange of signals.

use super::*;

#[tokio::test]
async fn signals_may_come_out_of_order_and_twice() {
    let (mut client, mut host) = pair(Plain);
    let offer = client.signal().await;
    let mut candidates = vec![client.signal().await];
    while let Ok(DirectEvent::Signal(signal)) = client.events.try_recv() {
        candidates.push(signal);
    }
    for signal in candidates.into_iter().rev().chain([offer.clone(), offer]) {
        host.link.signal(signal.clone());
        host.link.signal(signal);
    }
    let answer = host.signal().await;
    assert!(matches!(answer, Signal::Answer(_)));
    let candidate = host.signal().await;
    for signal in [candidate.clone(), answer.clone(), answer, candidate] {
        client.link.signal(signal);
    }
    connect(&mut client, &mut host).await;
}

#[tokio::test]
async fn malformed_signals_are_reported_once_and_end_nothing() {
    let (mut client, mut host) = pair(Plain);
    let line = |line: &'static str| {
        Signal::Candidate(Candidate { candidate: ByteString::from_static(line), ..Default::default() }.into())
    };
    let nonsense = [
        Signal::Offer(ByteString::from_static("")),
        Signal::Offer(ByteString::from_static("v=0\r\nm=nonsense")),
        Signal::Answer(ByteString::from_static("v=0")),
        line("candidate:"),
        line("candidate:1 1 tcp 1518280447 127.0.0.1 9 typ host tcptype active"),
        line("candidate:1 1 udp 1 d9044dda-7816-4b77-bf89-e9ab7189f745.local 50846 typ host"),
        line("candidate:1 1 udp 1 fd00::dead 50846 typ host"),
        line("candidate:x"),
        line("candidate:x y z 1 2 3 4 5 6"),
        line("candidate:1 1 udp 1 no.such.name.invalid 1 typ host"),
        line("candidate:1 1 udp 1 127.0.0.1 70000 typ host"),
    ];
    for signal in nonsense {
        host.link.signal(signal);
    }
    for kind in ["makes no sense", "the wrong side"] {
        let DirectEvent::Diagnostic(text) = host.next_event().await else { panic!("no report") };
        assert!(text.contains(kind), "{text}");
    }
    let (mut diagnostics, mut open) = (0, 0);
    while open < 2 {
        let (to, event) = tokio::select! {
            event = client.event() => (&host.link, event),
            event = host.event() => (&client.link, event),
        };
        match event.expect("an event") {
            DirectEvent::Signal(signal) => to.signal(signal),
            DirectEvent::Open { .. } => open += 1,
            DirectEvent::Diagnostic(_) => diagnostics += 1,
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(diagnostics, 1, "all candidates are one kind");
}

#[tokio::test]
async fn a_flood_of_signals_is_bounded() {
    let (mut client, mut host) = pair(Plain);
    for port in 0..1_000 {
        let line = format!("candidate:1 1 udp 1 127.0.0.1 {} typ host", 1024 + port);
        host.link.signal(Signal::Candidate(candidate::ours(line, None).into()));
    }
    let DirectEvent::Diagnostic(text) = host.next_event().await else { panic!("no report") };
    assert!(text.contains("more candidates"), "{text}");
    connect(&mut client, &mut host).await;
}
