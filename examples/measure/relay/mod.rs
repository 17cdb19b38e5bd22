//! Compares our relay with the original under the same load. Each runs in a process of its own.

mod floor;
mod load;
mod process;
mod wire;

use std::{collections::BTreeMap, net::SocketAddr};

use futures_util::future::try_join_all;
use serde_json::Map;
use tokio::runtime::{Builder, Runtime};

use crate::{
    Settings,
    procstat::{self, Memory},
    report::{self, Figures, Outcome},
};
pub use floor::Floor;
use process::{Programs, RelayProcess};

/// The number of clients of the host under load, and of listeners of its broadcasts.
const CLIENTS: usize = 32;
/// The number of concurrent broadcasts of a host, and the names of the figures. A browser can have five: it opens six
/// connections to one relay, and listens on one of them.
const FAN_OUTS: [(usize, &str, &str); 2] =
    [(1, "fan_out_per_second", "fan_out_cpu_us"), (5, "fan_out_5_per_second", "fan_out_5_cpu_us")];
/// The number of idle listeners, in rooms of a host and ten clients.
const IDLE_ROOMS: usize = 100;
const CROWD_ROOMS: usize = 1000;
const CLIENTS_PER_ROOM: usize = 10;
/// The echoes per second of each client. The original gets a tenth of the load of ours.
const ECHO_RATE_OURS: f64 = 100.0;
const ECHO_RATE_ORIGINAL: f64 = 10.0;

const MEGABYTE: f64 = 1e6;

/// Measures both relays in turn.
pub fn compare(settings: &Settings) -> Outcome {
    let programs = Programs::both(settings)?;
    let runtime = runtime()?;
    let (mut ours, mut original) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds() {
        ours.push(round(&runtime, settings, ECHO_RATE_OURS, || programs.start_ours())?);
        original.push(round(&runtime, settings, ECHO_RATE_ORIGINAL, || programs.start_original())?);
    }
    let ratios: Vec<Figures> = ours.iter().zip(&original).map(|(ours, original)| ratio(ours, original)).collect();
    let mut line = Map::new();
    line.insert("rounds".to_owned(), settings.rounds().into());
    line.insert("clients".to_owned(), CLIENTS.into());
    line.insert("ours".to_owned(), report::json(report::medians(&ours)));
    line.insert("original".to_owned(), report::json(report::medians(&original)));
    line.insert("original_over_ours".to_owned(), report::json(report::medians(&ratios)));
    Ok(line)
}

/// Measures our relay alone under the same load, to compare two builds of it.
pub fn ours(settings: &Settings) -> Outcome {
    let programs = Programs::ours(settings)?;
    let runtime = runtime()?;
    let rounds = (0..settings.rounds()).map(|_| round(&runtime, settings, ECHO_RATE_OURS, || programs.start_ours()));
    let mut line = Map::new();
    line.insert("rounds".to_owned(), settings.rounds().into());
    line.insert("ours".to_owned(), report::json(report::medians(&rounds.collect::<Outcome<Vec<_>>>()?)));
    Ok(line)
}

/// The figures of the original divided by ours. Above 1, ours is better.
fn ratio(ours: &Figures, original: &Figures) -> Figures {
    let costs = ["cpu_us", "_ms", "_mb", "_kb"];
    let is_cost = |name: &str| costs.iter().any(|unit| name.ends_with(unit));
    let both = original
        .iter()
        .filter(|(name, _)| is_cost(name))
        .filter_map(|(name, value)| Some((*name, value / ours.get(name)?)));
    both.collect::<BTreeMap<_, _>>()
}

fn round(
    runtime: &Runtime,
    settings: &Settings,
    echo_rate: f64,
    start: impl Fn() -> Outcome<RelayProcess>,
) -> Outcome<Figures> {
    let length = settings.duration();
    let mut figures = Figures::new();
    let relay = start()?;
    let id = relay.id();
    runtime.block_on(async {
        let mut room = load::Room::open(relay.addr, "load", CLIENTS).await?;
        figures.extend(load::to_host(&mut room, id, length).await?);
        for (lanes, speed, cost) in FAN_OUTS {
            let (per_second, cpu_us) = load::fan_out(&mut room, id, length, lanes).await?;
            figures.extend([(speed, per_second), (cost, cpu_us)]);
        }
        figures.extend(load::echo(&mut room, length, echo_rate).await?);
        Outcome::Ok(())
    })?;
    figures.insert("after_the_run_mb", procstat::memory(id)?.resident / MEGABYTE);
    drop(relay);

    let relay = start()?;
    let before = procstat::memory(relay.id())?.resident;
    let listeners = IDLE_ROOMS * (CLIENTS_PER_ROOM + 1);
    process::allow_files(2 * listeners + 1000)?;
    let rooms = runtime.block_on(fill(relay.addr, IDLE_ROOMS))?;
    let with = procstat::memory(relay.id())?.resident;
    figures.insert("idle_listener_kb", (with - before) / listeners as f64 / 1000.0);
    drop(rooms);
    Ok(figures)
}

/// Measures our relay alone with more listeners than one game has.
pub fn crowd(settings: &Settings) -> Outcome {
    let programs = Programs::ours(settings)?;
    let runtime = runtime()?;
    let listeners = CROWD_ROOMS * (CLIENTS_PER_ROOM + 1);
    process::allow_files(listeners + 8000)?;
    let rounds = (0..settings.rounds()).map(|_| {
        let relay = programs.start_ours()?;
        let mut rooms = runtime.block_on(fill(relay.addr, CROWD_ROOMS))?;
        let idle = procstat::memory(relay.id())?;
        let mut figures = runtime.block_on(load::everyone(&mut rooms, relay.id(), settings.duration()))?;
        let Memory { resident, peak } = procstat::memory(relay.id())?;
        figures.insert("idle_mb", idle.resident / MEGABYTE);
        figures.insert("after_broadcasts_mb", resident / MEGABYTE);
        figures.insert("peak_mb", peak / MEGABYTE);
        Ok(figures)
    });
    let rounds = rounds.collect::<Outcome<Vec<_>>>()?;
    let mut line = Map::new();
    line.insert("rounds".to_owned(), settings.rounds().into());
    line.insert("rooms".to_owned(), CROWD_ROOMS.into());
    line.insert("listeners".to_owned(), listeners.into());
    line.insert("ours".to_owned(), report::json(report::medians(&rounds)));
    Ok(line)
}

fn runtime() -> Outcome<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// Opens rooms of a host and its clients. All of them listen.
async fn fill(relay: SocketAddr, rooms: usize) -> Outcome<Vec<load::Room>> {
    let names: Vec<_> = (0..rooms).map(|room| format!("room-{room}")).collect();
    let mut opened = Vec::with_capacity(rooms);
    for some in names.chunks(100) {
        opened.extend(try_join_all(some.iter().map(|name| load::Room::open(relay, name, CLIENTS_PER_ROOM))).await?);
    }
    Ok(opened)
}
