//! A session through a relay that loses, doubles, refuses and delays requests, and cuts, splits and stalls streams: what
//! is reliable arrives once and in order, and nobody ends.
//!
//! A run that fails prints its seed, and everything that happened. `UHST_SEED=…` runs only that seed.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod cases;
mod faults;
#[path = "../../examples/soak/ledger.rs"]
mod ledger;
mod proxy;
mod run;
#[path = "../support/mod.rs"]
mod support;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bevy_uhst::{PathPolicy, relay::RelayConfig};
use faults::Seeded;
use run::{AnyRelay, Plan, play};
use support::{NpmRelay, StandaloneRelay};
use tokio::runtime::{Builder, Runtime};

/// The relay behind the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ours,
    Original,
}

impl Kind {
    fn start(self) -> AnyRelay {
        match self {
            Kind::Ours => AnyRelay::Ours(StandaloneRelay::start_with(RelayConfig {
                secret: Some("a secret that is kept".to_owned()),
                ..RelayConfig::default()
            })),
            Kind::Original => AnyRelay::Original(NpmRelay::start()),
        }
    }
}

const PATHS: [PathPolicy; 2] = [PathPolicy::RelayOnly, PathPolicy::Automatic];

/// Runs the proxy and the network of all runs. With few threads, it would get less of a busy machine than the apps, which
/// have a thread each, and packets would be seconds late.
fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(8).enable_all().build().unwrap()
}

/// Returns `count` seeds, of which the first ones are always the same, or only the requested one.
fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("UHST_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => {
            let first = fastrand::u64(1000..1_000_000_000);
            (1..=count / 2).chain(first..first + count - count / 2).collect()
        }
    }
}

/// Runs these seeds, several at a time, and fails with all failures.
fn run_all(kind: Kind, count: u64, at_a_time: usize) {
    let runtime = runtime();
    let runs: Vec<(u64, PathPolicy)> =
        seeds(count / 2).into_iter().flat_map(|seed| PATHS.map(|paths| (seed, paths))).collect();
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..at_a_time.min(runs.len()) {
            scope.spawn(|| {
                let mut relay = kind.start();
                while let Some((seed, paths)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let plan = Plan::seeded(*seed, *paths);
                    let result = play(runtime.handle(), &mut relay, &plan, Seeded::new(*seed));
                    let name = format!("UHST_SEED={seed} {paths:?}, relay: {kind:?}");
                    results.lock().unwrap().push(result.map_err(|why| format!("{name}: {why}")));
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    let slowest = results.iter().flatten().max().copied().unwrap_or(Duration::ZERO);
    let failed: Vec<&String> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    eprintln!(
        "{kind:?}: {} of {} runs failed, in {:?}; all had arrived at most {slowest:?} after the relay was honest",
        failed.len(),
        results.len(),
        begun.elapsed(),
    );
    assert_eq!(results.len(), runs.len());
    assert!(failed.is_empty(), "{}", failed.into_iter().map(String::as_str).collect::<Vec<_>>().join("\n\n"));
}

#[test]
fn nothing_is_lost_through_a_hostile_relay() {
    run_all(Kind::Ours, 20, 20);
}

#[test]
#[ignore = "takes minutes"]
fn nothing_is_lost_in_150_runs_through_a_hostile_relay() {
    run_all(Kind::Ours, 150, 12);
}

#[test]
#[ignore = "needs node and npm, and takes minutes"]
fn nothing_is_lost_in_150_runs_through_a_hostile_original_relay() {
    run_all(Kind::Original, 150, 12);
}
