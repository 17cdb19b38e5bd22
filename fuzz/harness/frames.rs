//! Packets of the native dialect: reading ends in frames or in one error, and a frame that was read can be written.

use bytes::Bytes;
use uhst_proto::protocol::frame::{Ack, Close, Frame, Frames, HandshakeKind, MAX_RANGES, PacketWriter};

pub fn run(bytes: &[u8]) {
    let packet = Bytes::copy_from_slice(bytes);
    let _ = HandshakeKind::peek(&packet);
    let Ok(mut frames) = Frames::new(&packet) else { return };
    assert_ne!(frames.number(), 0);
    let mut payload = 0;
    for frame in frames.by_ref() {
        match frame {
            Ok(frame) => {
                if let Frame::Data(data) = &frame {
                    payload += data.payload.len();
                }
                survives(&frame);
            }
            Err(_) => {
                assert!(frames.next().is_none(), "something after an error");
                break;
            }
        }
    }
    assert!(payload <= packet.len());
}

fn survives(frame: &Frame<'_>) {
    let packet = write(frame);
    let read = only(&packet);
    match (frame, &read) {
        // Words are read leniently and cut: they are what they are from the second time on.
        (Frame::Close(_), Frame::Close(_)) => assert_eq!(only(&write(&read)), read),
        (Frame::Ack(before), Frame::Ack(after)) => same_ack(before, after),
        _ => assert_eq!(&read, frame),
    }
}

fn same_ack(before: &Ack<'_>, after: &Ack<'_>) {
    assert_eq!((after.grant, after.largest), (before.grant, before.largest));
    for (before, after) in before.streams.iter().zip(&after.streams) {
        let ranges: Vec<_> = before.ranges().collect();
        assert!(ranges.len() <= MAX_RANGES);
        let mut end = before.next;
        for (start, stop) in &ranges {
            assert!(end < *start && start < stop, "{before:?}");
            end = *stop;
        }
        assert_eq!((after.next, after.ranges().collect()), (before.next, ranges));
    }
}

fn write(frame: &Frame<'_>) -> Bytes {
    let mut writer = PacketWriter::new(1, usize::MAX, 0);
    assert!(match frame {
        Frame::Data(data) => writer.data(data),
        Frame::Ack(ack) => {
            let ranges = ack.streams.map(|stream| stream.ranges().collect::<Vec<_>>());
            let [a, b, c] = ack.streams.map(|stream| stream.next);
            writer.ack(ack.grant, ack.largest, [(a, &ranges[0]), (b, &ranges[1]), (c, &ranges[2])])
        }
        Frame::Ping(token) => writer.ping(*token),
        Frame::Pong(token) => writer.pong(*token),
        Frame::Close(Close { ends, reason }) => writer.close(&Close { ends: *ends, reason: reason.clone() }),
        Frame::CloseAck => writer.close_ack(),
        Frame::Blocked => writer.blocked(),
    });
    writer.finish().expect("one frame")
}

fn only(packet: &Bytes) -> Frame<'_> {
    let mut frames = Frames::new(packet).expect("a number");
    let frame = frames.next().expect("one frame").expect("as it was written");
    assert!(frames.next().is_none(), "more than was written");
    frame
}
