//! The cost of writing and reading frames of the native dialect. Run with `cargo bench -p uhst-proto --bench frames`.

use bytes::Bytes;
use divan::{
    Bencher, black_box,
    counter::{BytesCount, ItemsCount},
};
use uhst_proto::protocol::{
    Channel, Tag,
    frame::{Data, Frame, Frames, PacketWriter, Stream},
};

#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

/// The size of a data-channel message.
const LIMIT: usize = 16 << 10;
const SIZES: [usize; 4] = [16, 64, 256, 1000];

fn main() {
    divan::main();
}

/// Fills a packet with frames of one message each. Returns the packet and the number of frames.
fn fill(size: usize, payload: &Bytes) -> (Bytes, usize) {
    let mut writer = PacketWriter::new(1000, LIMIT, LIMIT);
    let mut count = 0;
    while writer.data(&Data {
        stream: Stream::Channel(Channel::Reliable),
        number: 1000 + count as u64,
        first: true,
        last: true,
        text: false,
        tag: Tag::Untyped,
        payload: payload.slice(..size),
    }) {
        count += 1;
    }
    (writer.finish().expect("frames"), count)
}

#[divan::bench(args = SIZES)]
fn write(bencher: Bencher<'_, '_>, size: usize) {
    let payload = Bytes::from(vec![7; size]);
    let (packet, frames) = fill(size, &payload);
    let bencher = bencher.counter(ItemsCount::new(frames)).counter(BytesCount::new(packet.len()));
    bencher.bench_local(|| fill(black_box(size), &payload));
}

#[divan::bench(args = SIZES)]
fn read(bencher: Bencher<'_, '_>, size: usize) {
    let (packet, frames) = fill(size, &Bytes::from(vec![7; size]));
    let bencher = bencher.counter(ItemsCount::new(frames)).counter(BytesCount::new(packet.len()));
    bencher.bench_local(|| {
        for frame in Frames::new(black_box(&packet)).expect("a number") {
            let Ok(Frame::Data(data)) = frame else { unreachable!("only data was written") };
            black_box(data);
        }
    });
}
