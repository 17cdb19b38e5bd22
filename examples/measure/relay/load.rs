//! The loads. Each is bounded in time, and reports the CPU time of the relay.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use tokio::{
    sync::{Notify, mpsc},
    time::{Interval, MissedTickBehavior, interval_at, sleep},
};

use super::wire::{Events, Lane, field, post};
use crate::{
    procstat,
    report::{Figures, Outcome, percentile},
};

/// The length of a warm-up, in which node compiles the code that runs often.
const WARM_UP: Duration = Duration::from_secs(1);
const WARM_UP_COUNT: u64 = 10_000;
/// The longest wait for anything on loopback.
const PATIENCE: Duration = Duration::from_secs(30);

/// A host and its clients. All of them listen.
pub struct Room {
    relay: SocketAddr,
    host_token: String,
    pub host: Events,
    pub clients: Vec<Client>,
}

pub struct Client {
    pub token: String,
    pub events: Events,
}

impl Room {
    pub async fn open(relay: SocketAddr, id: &str, clients: usize) -> Outcome<Self> {
        let mut lane = Lane::open(relay).await?;
        let answer = lane.ask(&post(&format!("action=host&hostId={id}"), "")).await?;
        let host_token = field(answer, "hostToken")?.to_owned();
        let host = Events::open(relay, &host_token).await?;
        // The original may need 5 s for this, after which it closes an idle connection.
        let mut lane = Lane::open(relay).await?;
        let mut tokens = Vec::with_capacity(clients);
        for _ in 0..clients {
            let answer = lane.ask(&post(&format!("action=join&hostId={id}"), "")).await?;
            tokens.push(field(answer, "clientToken")?.to_owned());
        }
        // All open at once, since the original answers with its first keep-alive only.
        let opening = tokens.into_iter().map(async |token| {
            let events = Events::open(relay, &token).await?;
            Outcome::Ok(Client { token, events })
        });
        let clients = try_join_all(opening).await?;
        Ok(Room { relay, host_token, host, clients })
    }
}

/// Wraps a text in the envelope of the relay transport.
pub fn envelope(text: &str) -> String {
    format!(r#"{{"type":"string","payload":"{text}"}}"#)
}

/// The counts between the end of the warm-up and the end of a load.
struct Sample {
    count: f64,
    seconds: f64,
    cpu: Duration,
}

impl Sample {
    fn per_second(&self) -> f64 {
        self.count / self.seconds
    }

    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.count
    }
}

/// Samples a load while it runs, and then stops it.
async fn sample(relay: u32, length: Duration, count: &Cell<u64>, running: &Cell<bool>) -> Outcome<Sample> {
    let start = Instant::now();
    while start.elapsed() < WARM_UP || (count.get() < WARM_UP_COUNT && start.elapsed() < PATIENCE) {
        sleep(WARM_UP / 10).await;
    }
    let (start, cpu, before) = (Instant::now(), procstat::cpu(relay)?, count.get());
    sleep(length).await;
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), procstat::cpu(relay)? - cpu);
    running.set(false);
    Ok(Sample { count: (count.get() - before) as f64, seconds, cpu })
}

/// Posts one request after the other, each after the answer to the one before, for as long as the load runs.
async fn post_on(relay: SocketAddr, request: &[u8], sent: &Cell<u64>, running: &Cell<bool>) -> Outcome<()> {
    let mut lane = Lane::open(relay).await?;
    while running.get() {
        lane.ask(request).await?;
        sent.set(sent.get() + 1);
    }
    Ok(())
}

/// Counts what arrives, forever.
async fn count(events: &mut Events, count: &Cell<u64>) -> Outcome<()> {
    loop {
        events.read(|_| count.set(count.get() + 1)).await?;
    }
}

/// Waits until everything that was sent has arrived.
async fn all_arrive(arrived: &Cell<u64>, sent: u64) -> Outcome<()> {
    let start = Instant::now();
    while arrived.get() < sent {
        if start.elapsed() > PATIENCE {
            return Err(format!("{} of {sent} arrived", arrived.get()).into());
        }
        sleep(Duration::from_millis(5)).await;
    }
    if arrived.get() == sent { Ok(()) } else { Err(format!("{} arrived of {sent}", arrived.get()).into()) }
}

/// Lets every client post to the host, each time after the answer to its last request.
pub async fn to_host(room: &mut Room, relay: u32, length: Duration) -> Outcome<Figures> {
    let (sent, arrived, running) = (Cell::new(0), Cell::new(0), Cell::new(true));
    let body = envelope(&"m".repeat(64));
    let requests: Vec<_> = room.clients.iter().map(|client| post(&format!("token={}", client.token), &body)).collect();
    let load = async {
        let posting = requests.iter().map(|request| post_on(room.relay, request, &sent, &running));
        let (sample, _) = tokio::try_join!(sample(relay, length, &arrived, &running), try_join_all(posting))?;
        all_arrive(&arrived, sent.get()).await?;
        Outcome::Ok(sample)
    };
    let sample = tokio::select! {
        sample = load => sample?,
        broken = count(&mut room.host, &arrived) => return Err(broken.err().unwrap_or("it ended".into())),
    };
    Ok([("to_host_per_second", sample.per_second()), ("to_host_cpu_us", sample.cpu_us())].into())
}

/// Lets the host broadcast to all clients on this many connections, each time after the answer to its last request.
pub async fn fan_out(room: &mut Room, relay: u32, length: Duration, lanes: usize) -> Outcome<(f64, f64)> {
    let (sent, arrived, running) = (Cell::new(0), Cell::new(0), Cell::new(true));
    let request = post(&format!("token={}", room.host_token), &envelope(&"m".repeat(64)));
    let listeners = room.clients.len() as u64;
    let load = async {
        let posting = (0..lanes).map(|_| post_on(room.relay, &request, &sent, &running));
        let (sample, _) = tokio::try_join!(sample(relay, length, &arrived, &running), try_join_all(posting))?;
        all_arrive(&arrived, sent.get() * listeners).await?;
        Outcome::Ok(sample)
    };
    let sample = tokio::select! {
        sample = load => sample?,
        broken = try_join_all(room.clients.iter_mut().map(|client| count(&mut client.events, &arrived))) => {
            return Err(broken.err().unwrap_or("it ended".into()));
        }
    };
    Ok((sample.per_second(), sample.cpu_us()))
}

/// The echo of one client: when its message was sent, and a signal when the reply is back.
struct Echo {
    sent: Cell<Instant>,
    back: Notify,
}

/// Sends a client's message at each tick, and waits for its echo before the next one, for as long as the load runs.
async fn send_on(
    relay: SocketAddr,
    (number, token): (usize, &str),
    mut ticks: Interval,
    echo: &Echo,
    running: &Cell<bool>,
) -> Outcome<()> {
    let mut lane = Lane::open(relay).await?;
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let request = post(&format!("token={token}"), &envelope(&format!("{number:02} {}", "e".repeat(61))));
    while running.get() {
        ticks.tick().await;
        echo.sent.set(Instant::now());
        lane.ask(&request).await?;
        echo.back.notified().await;
    }
    Ok(())
}

/// Measures the echoes of a client, forever.
async fn time_echoes(events: &mut Events, echo: &Echo, times: &RefCell<Vec<f64>>) -> Outcome<()> {
    loop {
        events
            .read(|_| {
                times.borrow_mut().push(echo.sent.get().elapsed().as_secs_f64() * 1e3);
                echo.back.notify_one();
            })
            .await?;
    }
}

/// Posts the host's replies to one client, in order.
async fn post_replies(relay: SocketAddr, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) -> Outcome<()> {
    let mut lane = Lane::open(relay).await?;
    while let Some(request) = queue.recv().await {
        lane.ask(&request).await?;
    }
    Ok(())
}

/// Queues a reply to each message that the host receives, forever.
async fn reply_to_all(host: &mut Events, replies: &[mpsc::UnboundedSender<Vec<u8>>]) -> Outcome<()> {
    loop {
        let mut wrong = None;
        host.read(|message| {
            if let Err(error) = reply(message, replies) {
                wrong = Some(error);
            }
        })
        .await?;
        if let Some(error) = wrong {
            return Err(error);
        }
    }
}

/// Every client sends this often, the host replies to that client, and the client measures the time.
pub async fn echo(room: &mut Room, length: Duration, rate: f64) -> Outcome<Figures> {
    let running = Cell::new(true);
    let times = RefCell::new(Vec::new());
    let period = Duration::from_secs_f64(1.0 / rate);
    let addr = room.relay;
    let count = room.clients.len();
    let (replies, queues): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel::<Vec<u8>>()).unzip();

    let echoes: Vec<_> = (0..count).map(|_| Echo { sent: Cell::new(Instant::now()), back: Notify::new() }).collect();
    let start = tokio::time::Instant::now();
    let tokens: Vec<_> = room.clients.iter().map(|client| client.token.clone()).collect();
    let sending = tokens.iter().zip(&echoes).enumerate().map(|(number, (token, echo))| {
        let ticks = interval_at(start + period.mul_f64(number as f64 / count as f64), period);
        send_on(addr, (number, token), ticks, echo, &running)
    });
    let receiving =
        room.clients.iter_mut().zip(&echoes).map(|(client, echo)| time_echoes(&mut client.events, echo, &times));
    let replying = queues.into_iter().map(|queue| post_replies(addr, queue));
    let hosting = reply_to_all(&mut room.host, &replies);
    let load = async {
        let measuring = async {
            sleep(WARM_UP).await;
            times.borrow_mut().clear();
            sleep(length).await;
            running.set(false);
            // Later echoes do not count.
            Outcome::Ok(times.take())
        };
        let (times, _) = tokio::try_join!(measuring, try_join_all(sending))?;
        Outcome::Ok(times)
    };
    let mut times = tokio::select! {
        times = load => times?,
        broken = async { tokio::try_join!(try_join_all(receiving), try_join_all(replying), hosting) } => {
            return Err(broken.err().unwrap_or("it ended".into()));
        }
    };
    Ok([
        ("echoes_per_second", times.len() as f64 / length.as_secs_f64()),
        ("echo_p50_ms", percentile(&mut times, 50)),
        ("echo_p99_ms", percentile(&mut times, 99)),
    ]
    .into())
}

/// Queues the host's reply to a message.
fn reply(message: &str, replies: &[mpsc::UnboundedSender<Vec<u8>>]) -> Outcome<()> {
    let text = field(message, "payload")?;
    let number: usize = text.get(..2).ok_or("a short message")?.parse()?;
    let request = post(&format!("token={}", field(message, "responseToken")?), &envelope(text));
    replies.get(number).ok_or("a message of nobody")?.send(request)?;
    Ok(())
}

/// Lets the host of each room send one message to every client, and every client one to the host. Then all are silent.
pub async fn everyone(rooms: &mut [Room], relay: u32, length: Duration) -> Outcome<Figures> {
    let (arrived, cpu, start) = (Cell::new(0), procstat::cpu(relay)?, Instant::now());
    let body = envelope(&"m".repeat(64));
    for some in rooms.chunks_mut(50) {
        let talking = some.iter_mut().map(async |room| {
            let mut lane = Lane::open(room.relay).await?;
            lane.ask(&post(&format!("token={}", room.host_token), &body)).await?;
            for client in &mut room.clients {
                lane.ask(&post(&format!("token={}", client.token), &body)).await?;
                let heard = Cell::new(0);
                while heard.get() == 0 {
                    client.events.read(|_| heard.set(heard.get() + 1)).await?;
                }
                arrived.set(arrived.get() + heard.get());
            }
            let heard = Cell::new(0);
            while heard.get() < room.clients.len() {
                room.host.read(|_| heard.set(heard.get() + 1)).await?;
            }
            arrived.set(arrived.get() + heard.get());
            Outcome::Ok(())
        });
        try_join_all(talking).await?;
    }
    let (seconds, spent) = (start.elapsed().as_secs_f64(), procstat::cpu(relay)? - cpu);
    let cpu = procstat::cpu(relay)?;
    sleep(length).await;
    let idle = procstat::cpu(relay)? - cpu;
    Ok([
        ("delivered", arrived.get() as f64),
        ("deliveries_per_second", arrived.get() as f64 / seconds),
        ("delivery_cpu_us", spent.as_secs_f64() * 1e6 / arrived.get() as f64),
        ("idle_cpu_percent", idle.as_secs_f64() * 100.0 / length.as_secs_f64()),
    ]
    .into())
}
