//! The cost of a JSON body for the peer that writes it, the relay that passes it on, and the peer that reads it. Run
//! with `cargo bench -p uhst-relay --bench bodies`.

use bytes::Bytes;
use divan::{Bencher, black_box, counter::BytesCount};
use uhst_proto::protocol::{Body, StreamEvent};
use uhst_relay::internals::rewrite_json;

#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

/// Packet sizes in bytes: a game message, the messages of one frame, and the most that one POST carries.
const SIZES: [usize; 3] = [64, 1 << 10, 64 << 10];

fn main() {
    divan::main();
}

fn native(size: usize) -> Body {
    Body::Native { version: 1, packet: Bytes::from(vec![0x5a; size]) }
}

#[divan::bench(args = SIZES)]
fn write(bencher: Bencher<'_, '_>, size: usize) {
    let body = native(size);
    bencher.counter(BytesCount::new(size)).bench_local(|| black_box(&body).to_json());
}

#[divan::bench(args = SIZES)]
fn pass_on(bencher: Bencher<'_, '_>, size: usize) {
    let json = native(size).to_json();
    bencher.counter(BytesCount::new(json.len())).bench_local(|| rewrite_json(black_box(&json)));
}

/// Reads a body from an event of a stream.
#[divan::bench(args = SIZES)]
fn read(bencher: Bencher<'_, '_>, size: usize) {
    let event = format!(r#"{{"body":{}}}"#, native(size).to_json());
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        let Ok(Some(StreamEvent::Message { body, .. })) = StreamEvent::parse("message", black_box(&event)) else {
            unreachable!("a message");
        };
        Body::parse(body.get()).expect("a body")
    });
}
