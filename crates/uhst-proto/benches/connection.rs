//! The cost of a message between two connections without I/O, from `send` to its event, with acknowledgements. One
//! iteration is 1000 messages. Run with `cargo bench -p uhst-proto --bench connection`.

use std::time::Duration;

use bytes::Bytes;
use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
use uhst_proto::{
    connection::{Connection, ConnectionConfig, ConnectionEvent, Lane, MESSAGE_OVERHEAD, Path, Received},
    protocol::{Channel, Payload},
};

#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

const MESSAGES: usize = 1000;
const SIZES: [usize; 4] = [16, 64, 256, 1000];
const START: Duration = Duration::from_secs(1000);

fn main() {
    divan::main();
}

/// The packet limit of a lane.
fn limit(lane: Lane) -> usize {
    if lane == Lane::Relay { 64 << 10 } else { 16 << 10 }
}

fn carry(from: &mut Connection, to: &mut Connection, now: Duration) -> usize {
    let mut packets = 0;
    for lane in Lane::ALL {
        while let Some(packet) = from.poll_transmit(lane, limit(lane), now) {
            to.receive(lane, packet, now);
            packets += 1;
        }
    }
    packets
}

/// Reads the messages that have arrived, and returns their number.
fn read(connection: &mut Connection) -> usize {
    let (mut count, mut bytes) = (0, 0);
    while let Some(event) = connection.poll_event() {
        if let ConnectionEvent::Message(Received { payload, .. }) = event {
            count += 1;
            bytes += payload.len() + MESSAGE_OVERHEAD;
        }
    }
    connection.consumed(bytes);
    count
}

fn run(bencher: Bencher<'_, '_>, size: usize, channel: Channel, direct: bool) {
    let (mut client, mut host) = Connection::pair(ConnectionConfig::default(), ConnectionConfig::default(), START);
    if direct {
        client.path_up(Path::Direct, START);
        host.path_up(Path::Direct, START);
    }
    let payload = Payload::Binary(Bytes::from(vec![7; size]));
    let mut now = START;
    let bencher = bencher.counter(ItemsCount::new(MESSAGES)).counter(BytesCount::new(MESSAGES * size));
    bencher.bench_local(|| {
        let mut arrived = 0;
        for _ in 0..MESSAGES / 100 {
            // One frame of a game.
            now += Duration::from_millis(16);
            client.handle_timeout(now);
            host.handle_timeout(now);
            for _ in 0..100 {
                client.send(channel, payload.clone()).expect("room for it");
            }
            while carry(&mut client, &mut host, now) + carry(&mut host, &mut client, now) > 0 {}
            arrived += read(&mut host);
        }
        assert_eq!(arrived, MESSAGES);
    });
}

#[divan::bench(args = SIZES)]
fn reliable_direct(bencher: Bencher<'_, '_>, size: usize) {
    run(bencher, size, Channel::Reliable, true);
}

#[divan::bench(args = SIZES)]
fn reliable_relay(bencher: Bencher<'_, '_>, size: usize) {
    run(bencher, size, Channel::Reliable, false);
}

#[divan::bench(args = SIZES)]
fn sequenced_direct(bencher: Bencher<'_, '_>, size: usize) {
    run(bencher, size, Channel::UnreliableSequenced, true);
}

/// A message of many fragments.
#[divan::bench(args = [1 << 20])]
fn large_direct(bencher: Bencher<'_, '_>, size: usize) {
    let (mut client, mut host) = Connection::pair(ConnectionConfig::default(), ConnectionConfig::default(), START);
    client.path_up(Path::Direct, START);
    host.path_up(Path::Direct, START);
    let payload = Payload::Binary(Bytes::from(vec![7; size]));
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        client.send(Channel::Reliable, payload.clone()).expect("room for it");
        let mut arrived = 0;
        while arrived == 0 {
            carry(&mut client, &mut host, START);
            arrived = read(&mut host);
            carry(&mut host, &mut client, START);
        }
    });
}
