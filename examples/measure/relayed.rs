//! Measures the relay path between two apps and the host's relay in one process, and the floor in the same run: HTTP
//! requests and an event stream on raw sockets, over the same kind of relay.

use std::{net::SocketAddr, process};

use bevy_uhst::{prelude::*, test_app::link};

use crate::{
    Settings, apps,
    load::{self, Cost},
    procstat, raw,
    relay::Floor,
    report::Outcome,
};

/// Sends messages one way in a tight loop.
pub fn one_way(settings: &Settings) -> Outcome {
    let runtime = raw::runtime(settings)?;
    load::one_way_beside(settings, Path::Relay, [200_000, 20_000], 20, |load| {
        on_a_relay(|relay| {
            runtime.block_on(async {
                let mut floor = Floor::open(relay).await?;
                floor.one_way(load.size, load.warm_up()).await?;
                let cpu = procstat::cpu(process::id())?;
                let seconds = floor.one_way(load.size, load.count).await?.as_secs_f64();
                Ok(Cost { seconds, cpu: (procstat::cpu(process::id())? - cpu).as_secs_f64() })
            })
        })
    })
}

/// Sends a message there and back.
pub fn echo(settings: &Settings) -> Outcome {
    let runtime = raw::runtime(settings)?;
    load::echo_beside(settings, Path::Relay, 1000, |count| {
        on_a_relay(|relay| {
            runtime.block_on(async {
                let mut floor = Floor::open(relay).await?;
                floor.echoes(64, count / 10).await?;
                floor.echoes(64, count).await
            })
        })
    })
}

/// Lets clients join one after the other, and returns the time in seconds until each has an answer.
pub fn floor_of_joins(settings: &Settings, count: usize) -> Outcome<Vec<f64>> {
    let runtime = raw::runtime(settings)?;
    on_a_relay(|relay| {
        runtime.block_on(async {
            let mut floor = Floor::open(relay).await?;
            let mut times = Vec::with_capacity(count);
            for _ in 0..count {
                times.push(floor.join().await?.as_secs_f64());
            }
            Ok(times)
        })
    })
}

/// Runs a function while a host runs its relay.
fn on_a_relay<T>(work: impl FnOnce(SocketAddr) -> Outcome<T>) -> Outcome<T> {
    let mut host = apps::host(PathPolicy::RelayOnly)?;
    let relay = link(&host).relay.ok_or("the host has no relay of its own")?;
    let relay = *relay.socket_addrs(|| None)?.first().ok_or("the relay has no address")?;
    let result = work(relay);
    apps::leave(&mut host);
    result
}
