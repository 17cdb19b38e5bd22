//! Two connections over a hostile network.
use std::time::Duration;

use bevy_uhst::connection::*;
use bevy_uhst::protocol::*;
use bytes::Bytes;

fn flush(from: &mut Connection, to: &mut Connection, now: Time) -> usize {
    let mut count = 0;
    for lane in Lane::ALL {
        while let Some(packet) = from.poll_transmit(lane, 16 << 10, now) {
            count += 1;
            assert!(count < 10_000);
            to.receive(lane, packet, now);
        }
    }
    count
}

#[test]
fn handshake_and_messages() {
    let config = ConnectionConfig::default();
    let credentials = Credentials { host_id: "1234".into(), password: Some("pw".into()) };
    let mut now = Duration::from_secs(1);
    let mut client = Connection::connect(config.clone(), &credentials, "me".into(), [1; 32], now).unwrap();
    let mut host = Connection::accept(config, &credentials, "you".into(), [2; 32], now).unwrap();
    client.path_up(Path::Relay, now);
    for _ in 0..4 {
        flush(&mut client, &mut host, now);
        flush(&mut host, &mut client, now);
    }
    assert_eq!(host.poll_event(), Some(ConnectionEvent::JoinRequest { metadata: "me".into() }));
    host.admit(now);
    assert_eq!(host.poll_event(), Some(ConnectionEvent::Connected { metadata: "me".into() }));
    flush(&mut host, &mut client, now);
    assert_eq!(client.poll_event(), Some(ConnectionEvent::Connected { metadata: "you".into() }));
    for channel in Channel::ALL {
        for size in [0, 5, 100_000] {
            client.send(channel, Payload::Binary(Bytes::from(vec![7; size]))).unwrap();
        }
    }
    for _ in 0..40 {
        now += Duration::from_millis(20);
        client.handle_timeout(now);
        host.handle_timeout(now);
        flush(&mut client, &mut host, now);
        flush(&mut host, &mut client, now);
    }
    let mut sizes = Vec::new();
    while let Some(event) = host.poll_event() {
        let ConnectionEvent::Message { channel, payload } = event else { panic!("{event:?}") };
        host.consumed(payload.len() + bevy_uhst::connection::MESSAGE_OVERHEAD);
        sizes.push((channel, payload.len()));
    }
    assert_eq!(sizes.len(), 12, "{sizes:?}");
    client.close(EndReason::Left, now);
    flush(&mut client, &mut host, now);
    flush(&mut host, &mut client, now);
    assert_eq!(host.poll_event(), Some(ConnectionEvent::Closed(EndReason::Left)));
    assert_eq!(client.poll_event(), Some(ConnectionEvent::Closed(EndReason::Left)));
}
