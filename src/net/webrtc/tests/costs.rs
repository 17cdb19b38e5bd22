//! Measures the costs of links: time, traffic, and resources that remain after the end.

use super::*;

/// Measures the time to open a link: `cargo test --release -- --ignored --nocapture time_to_open`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn time_to_open() {
    for dialect in [Native, Plain] {
        let mut times = Vec::new();
        for _ in 0..20 {
            let begun = Instant::now();
            let pair = connected(dialect).await;
            times.push(begun.elapsed());
            drop(pair);
        }
        times.sort();
        eprintln!("{dialect:?}: open after {:?} (median), {:?} (worst)", times[10], times[19]);
    }
}

/// Measures echo and throughput: `cargo test --release -- --ignored --nocapture direct_speed`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn direct_speed() {
    let (mut client, mut host) = connected(Native).await;
    for reliable in [true, false] {
        let mut times = Vec::new();
        for _ in 0..5_000 {
            let begun = Instant::now();
            client.send(reliable, Payload::Binary(Bytes::from(vec![0; 64]))).await;
            let (_, payload) = host.packet().await;
            host.send(reliable, payload).await;
            client.packet().await;
            times.push(begun.elapsed());
        }
        times.sort();
        eprintln!("reliable {reliable}: echo {:?} (median), {:?} (99 %)", times[2_500], times[4_950]);
    }
    for (size, count) in [(100, 200_000), (1_200, 100_000), (16 * 1024, 10_000)] {
        let begun = Instant::now();
        let send = async {
            for _ in 0..count {
                client.send(true, Payload::Binary(Bytes::from(vec![0; size]))).await;
            }
        };
        let receive = async {
            for _ in 0..count {
                host.packet().await;
            }
        };
        tokio::join!(send, receive);
        let seconds = begun.elapsed().as_secs_f64();
        let megabytes = (size * count) as f64 / 1e6;
        eprintln!("{size} B: {:.0} messages/s, {:.1} MB/s", count as f64 / seconds, megabytes / seconds);
    }
}

/// Checks sockets, threads and memory over 200 joins and leaves. Runs alone in its process, since it counts all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "counts what the whole process has open"]
async fn churn() {
    let tasks = Handle::current().metrics().num_alive_tasks();
    let mut first = None;
    for round in 0..10 {
        for _ in 0..20 {
            let (mut client, mut host) = connected(Native).await;
            client.send(true, number(1)).await;
            assert_eq!(host.packet().await, (true, number(1)));
            client.link.close().await;
            assert!(matches!(host.next_event().await, DirectEvent::Closed));
        }
        only_tasks(tasks).await;
        let now = (open_sockets(), status("Threads:"));
        eprintln!("round {round}: sockets and threads {now:?}, resident {} kB", status("VmRSS:"));
        assert_eq!(*first.get_or_insert(now), now);
    }
}

/// Counts how often idle links wake their thread. The library wakes each end five times a second to find nothing to do.
#[tokio::test]
#[ignore = "counts what multicast on a real network adds to, too"]
async fn idle_traffic_wakes_nobody() {
    const IDLE: Duration = Duration::from_secs(6);
    for dialect in [Native, Plain] {
        let (mut client, mut host) = connected(dialect).await;
        client.send(true, number(1)).await;
        assert_eq!(host.packet().await, (true, number(1)));
        // The acknowledgement of the message comes within a fifth of a second.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let parks = || Handle::current().metrics().worker_park_count(0);
        let before = parks();
        tokio::time::sleep(IDLE).await;
        let woken = parks() - before;
        // Consent checks and their answers, both ways.
        assert!(woken <= 16, "{dialect:?}: woken {woken} times in {IDLE:?}");
    }
}

/// Counts how often a message and its answer wake their thread, after they have arrived. Heartbeats are such messages.
#[tokio::test]
#[ignore = "counts what multicast on a real network adds to, too"]
async fn idle_traffic_wakes_each_side_twice_for_a_message() {
    const ROUNDS: u32 = 5;
    let (mut client, mut host) = connected(Native).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let parks = || Handle::current().metrics().worker_park_count(0);
    let before = parks();
    for round in 0..ROUNDS {
        client.send(false, number(round)).await;
        assert_eq!(host.packet().await, (false, number(round)));
        host.send(false, number(round)).await;
        assert_eq!(client.packet().await, (false, number(round)));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let woken = parks() - before;
    // The message, its answer, two acknowledgements that are due, two that arrive, and the end of this sleep. Consent checks
    // and their answers come once.
    assert!(woken <= (7 * ROUNDS + 8).into(), "woken {woken} times for {ROUNDS} messages");
}

/// Measures the traffic of an idle link. Runs in its own network namespace: `unshare -rn sh -c 'ip link set lo up; …'`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "counts what the whole machine sends on loopback, for 20 s"]
async fn idle_traffic() {
    let _pair = connected(Native).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = loopback_bytes();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let each_way = (loopback_bytes() - before) / 20 / 2;
    eprintln!("{each_way} B/s each way");
    assert!(each_way < 400);
}

fn loopback_bytes() -> usize {
    let counters = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let line = counters.lines().find_map(|line| line.trim().strip_prefix("lo:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

fn status(key: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("0");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn open_sockets() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, |files| {
        let is_socket = |file: &std::fs::DirEntry| {
            std::fs::read_link(file.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        };
        files.flatten().filter(is_socket).count()
    })
}
