//! Measures the direct path between two apps of one process, and the floor in the same run: the `webrtc` crate alone.

use std::{process, time::Instant};

use bevy_uhst::prelude::*;

use crate::{
    Settings, apps,
    load::{self, Cost, Load},
    procstat, raw,
    report::{self, Figures, Outcome},
};

const MEGABYTE: usize = 1 << 20;
/// The size of the pieces in which the floor sends the same bytes. Every stack takes it.
const PIECE: usize = 16 << 10;

/// Sends messages one way in a tight loop.
pub fn one_way(settings: &Settings) -> Outcome {
    let runtime = raw::runtime(settings)?;
    load::one_way_beside(settings, Path::Direct, [1_000_000, 200_000], 4, |load| runtime.block_on(raw_one_way(load)))
}

/// Sends one message of 1 MiB.
pub fn megabyte(settings: &Settings) -> Outcome {
    let runtime = raw::runtime(settings)?;
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds() {
        let pieces = Load { size: PIECE, count: MEGABYTE / PIECE };
        let raw = runtime.block_on(raw_one_way(&pieces))?.seconds;
        let ours = load::one_way(apps::pair(Path::Direct)?, &Load { size: MEGABYTE, count: 1 })?.0.seconds;
        rounds.push(Figures::from([("raw_ms", raw * 1e3), ("ours_ms", ours * 1e3), ("ratio", ours / raw)]));
    }
    Ok(report::rounds(&rounds))
}

/// Sends a message there and back.
pub fn echo(settings: &Settings) -> Outcome {
    let runtime = raw::runtime(settings)?;
    load::echo_beside(settings, Path::Direct, 3000, |count| {
        runtime.block_on(async {
            let pair = raw::open().await?;
            pair.echoes(64, count / 10).await?;
            let times = pair.echoes(64, count).await?;
            pair.close().await;
            Ok(times)
        })
    })
}

/// Opens pairs one after the other, and returns the time of each in seconds.
pub fn floor_of_openings(settings: &Settings, count: usize) -> Outcome<Vec<f64>> {
    raw::runtime(settings)?.block_on(async {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            let pair = raw::open().await?;
            times.push(start.elapsed().as_secs_f64());
            pair.close().await;
        }
        Ok(times)
    })
}

async fn raw_one_way(load: &Load) -> Outcome<Cost> {
    let pair = raw::open().await?;
    pair.one_way(load.size, load.warm_up()).await?;
    let cpu = procstat::cpu(process::id())?;
    let seconds = pair.one_way(load.size, load.count).await?.as_secs_f64();
    let cpu = (procstat::cpu(process::id())? - cpu).as_secs_f64();
    pair.close().await;
    Ok(Cost { seconds, cpu })
}
