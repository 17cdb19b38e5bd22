//! Row 16: endless bodies, and messages that consist mostly of overhead.

use std::time::{Duration, Instant};

use tokio::{io::AsyncWriteExt, task::JoinSet, time::timeout};
use uhst_relay::{RelayConfig, RelayLimits, RelayServer};

use super::{
    report::{LENGTH, memory, row},
    rows::{honest, honest_for},
};
use crate::support::*;

pub async fn rows() {
    endless_bodies().await;
    tiny_messages().await;
}

/// Sends bodies with requests for streams, before and after the stream has begun.
async fn endless_bodies() {
    const BODIES: usize = 40;
    let relay = start().await;
    let (_demo, _) = host(&relay, "demo").await;
    let mut bodies = JoinSet::new();
    for n in 0..BODIES {
        let token = client_token(&relay, "demo").await;
        let head = match n % 2 {
            0 => format!("GET /?token={token} HTTP/1.1\r\nHost: relay\r\nTransfer-Encoding: chunked\r\n\r\n"),
            _ => format!("GET /?token={token} HTTP/1.1\r\nHost: relay\r\n\r\n"),
        };
        let addr = relay.local_addr();
        bodies.spawn(async move {
            let mut wire = Wire::open_from(addr, [127, 0, 0, 2]).await;
            wire.write(head).await;
            let (chunk, mut taken) = ([b"1000\r\n", &[b'x'; 0x1000][..], b"\r\n"].concat(), 0);
            // The loop ends when the relay closes the connection.
            while wire.stream.write_all(&chunk).await.is_ok() {
                taken += chunk.len();
            }
            taken
        });
    }
    let longest = honest_for(&relay, LENGTH).await;
    let taken = timeout(Duration::from_secs(20), bodies.join_all()).await.expect("the relay closes every connection");
    let (most, sum) = (taken.iter().max().unwrap() / 1024, taken.iter().sum::<usize>() / 1024);
    let now = format!("{BODIES} are cut off, after {most} kB at most, {sum} kB in all");
    row("16 endless bodies of stream requests", "read for ever", now, longest);
    // The relay reads no more than what the system buffers.
    assert!(most < 16 * 1024, "{most} kB");
}

/// Lets a host answer clients that never read with one tiny message after the other.
async fn tiny_messages() {
    const SLEEPERS: usize = 4;
    const ROOM: usize = 2 << 20;
    let limits = RelayLimits { memory_bytes: 2 * ROOM, ..RelayLimits::default() };
    let relay =
        RelayServer::start(RelayConfig { limits, patience: Duration::from_secs(60), ..config() }).await.unwrap();
    let (mut demo, _) = host(&relay, "demo").await;
    let (mut stalled_clients, mut answers) = (Vec::new(), Vec::new());
    for n in 1..=SLEEPERS {
        let (stream, response) = stalled_client(&relay, &mut demo, n * 50_000).await;
        stalled_clients.push(stream);
        answers.push(request("POST", &format!("/?token={response}"), &[JSON], "[]").repeat(100));
    }
    let before = memory();
    let (mut wire, mut taken, since) = (Wire::open(relay.local_addr()).await, 0, Instant::now());
    let mut longest = Duration::ZERO;
    'full: loop {
        for hundred in &answers {
            wire.write(hundred).await;
            for _ in 0..100 {
                match timeout(Duration::from_secs(1), wire.head()).await {
                    Ok(answer) if answer.status == 200 => taken += 1,
                    _ => break 'full,
                }
                wire.exactly(2).await;
            }
        }
        longest = longest.max(honest(&relay).await);
        assert!(since.elapsed() < Duration::from_secs(60), "the relay still accepts after {taken} messages");
    }
    let grown = memory().saturating_sub(before);
    let kept = metric(&relay, "uhst_relay_kept_bytes").await as usize;
    let now = format!("{taken} are taken, {} kB in memory, of which {} kB count", grown / 1024, kept / 1024);
    row("16 tiny messages for 4 who never read", "the overhead of each is forgotten", now, longest);
    // All messages come from one address, whose share is half of the memory.
    assert!(kept <= ROOM && grown < 2 * ROOM, "{grown} for {kept}");
}
