//! Two correct connections, and a network controlled by the input. Every channel keeps its guarantee, packets of an
//! unknown peer do no harm, and the connection ends when it is closed.

use std::time::Duration;

use bytes::Bytes;
use uhst_proto::{
    connection::{Connection, ConnectionConfig, Credentials, Path, StaticKey},
    protocol::{EndReason, GameId},
};

use super::{
    network::{Conditions, Network, Step},
    source::Source,
};

pub const START: Duration = Duration::from_secs(1000);

/// More steps are not worth the time.
const MAX_STEPS: usize = 48;

/// Small, so that every bound is met.
pub fn small() -> ConnectionConfig {
    ConnectionConfig { max_message: 48 << 10, send_buffer: 120 << 10, receive_buffer: 80 << 10, ..Default::default() }
}

/// A client and a host before the handshake.
pub fn unconnected() -> (Connection, Connection) {
    let credentials = Credentials {
        host_id: "483920".into(),
        password: Some("swordfish".into()),
        game: GameId::default(),
        key: StaticKey::from_bytes([3; 32]),
        host_key: None,
    };
    let client = Connection::connect(small(), &credentials, "Ada".into(), [1; 32], START);
    let host = Connection::accept(small(), &credentials, "Arena".into(), [2; 32], START);
    let (mut client, host) = (client.expect("little metadata"), host.expect("little metadata"));
    client.path_up(Path::Relay, START);
    (client, host)
}

pub fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let how = source.u8();
    let mut network = if how & 1 == 0 {
        let (client, host) = Connection::pair(small(), small(), START);
        Network::new(&small(), client, host, 1, START)
    } else {
        let Some(network) = join(&mut source) else { return };
        network
    };
    for _ in 0..MAX_STEPS {
        if source.is_empty() {
            break;
        }
        let (code, chances) = (source.u8(), source.u8() % 16);
        network.fate.extend(source.bytes(chances.into()));
        let step = step(code, &mut source);
        network.step(&step);
    }
    network.settle();
    network.may_close = true;
    let (closer, now) = (usize::from(how & 2 == 0), network.now);
    network.sides[closer].connection.close(EndReason::Kicked("enough".into()), now);
    network.run(Duration::from_secs(3));
    for side in &network.sides {
        assert_eq!(side.closed, [EndReason::Kicked("enough".into())]);
    }
}

/// Joins from the start. `None` if the network was too bad for it.
fn join(source: &mut Source<'_>) -> Option<Network> {
    let (client, host) = unconnected();
    let mut network = Network::new(&small(), client, host, 1, START);
    network.may_close = true;
    network.step(&Step::Conditions(conditions(source)));
    let chances = source.u8();
    network.fate.extend(source.bytes(chances.into()));
    for _ in 0..100 {
        network.run(Duration::from_millis(100));
        if network.sides[1].asked {
            break;
        }
    }
    network.run(Duration::from_millis(u64::from(source.u16() % 8000)));
    let now = network.now;
    network.sides[1].connection.admit(now);
    for _ in 0..100 {
        network.run(Duration::from_millis(100));
        if network.sides[0].connected {
            break;
        }
    }
    network.may_close = false;
    for end in network.sides.iter().flat_map(|side| &side.closed) {
        assert_eq!(*end, EndReason::TimedOut);
    }
    network.sides.iter().all(|side| side.connected && side.closed.is_empty()).then_some(network)
}

fn conditions(source: &mut Source<'_>) -> Conditions {
    Conditions {
        loss: source.u8() % 40,
        double: source.u8() % 40,
        jitter: source.u16() % 200,
        delay: source.u16() % 150,
        reported: source.bool(),
        unanswered: source.u8() % 25,
    }
}

fn size(source: &mut Source<'_>) -> u32 {
    let size = source.u16();
    match size % 7 {
        0..4 => u32::from(size) % 100,
        // Around the size of one fragment.
        4 => 15_300 + u32::from(size) % 120,
        _ => u32::from(size) % (49 << 10),
    }
}

fn step(code: u8, source: &mut Source<'_>) -> Step {
    match code % 16 {
        0..5 => Step::Send {
            client: source.bool(),
            channel: source.u8().into(),
            size: size(source),
            count: 1 + source.u8() % 5,
        },
        5 => Step::Signal { client: source.bool() },
        6 | 7 => Step::Wait(source.u16() % 400),
        8 => Step::Wait(400 + source.u16() % 8600),
        9 => Step::Conditions(conditions(source)),
        10 => Step::RestartRelay { outage: source.u16() % 20_000 },
        11 => match source.u8() % 3 {
            0 => Step::HostStream { outage: source.u16() % 1500 },
            1 => Step::Suspect { client: source.bool(), time: source.u16() % 1500 },
            _ => Step::Reroute,
        },
        12 => Step::DirectUp { skew: source.u16() % 1500 },
        13 if source.bool() => Step::DirectSilent,
        13 => Step::DirectDown,
        14 if source.bool() => Step::Stall { client: source.bool(), time: u32::from(source.u16() % 1500) },
        14 => Step::Lazy { client: source.bool(), time: source.u16() % 3000 },
        _ => {
            let (client, length) = (source.bool(), source.u8());
            // Handshake and resumption packets: all that an unknown peer can send.
            Step::UnknownPeer { client, packet: Bytes::from([&[0], source.bytes(length.into())].concat()) }
        }
    }
}
