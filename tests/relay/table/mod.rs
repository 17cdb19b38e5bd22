//! The attacks as a table: what each has reached, what it reaches now, and how long an honest player beside it takes to
//! join.

mod bounds;
mod forward;
mod host;
#[cfg(all(feature = "relay-cli", target_os = "linux"))]
mod logs;
mod places;
mod relay;
mod stranger;

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Builder;

/// How long each attack goes on.
const LENGTH: Duration = Duration::from_secs(2);
/// Whoever plays fair joins in less, whatever others do.
const HONEST: Duration = Duration::from_secs(1);

/// A row is printed, and its honest joins are quick.
fn row(name: &str, before: &str, now: impl Display, honest: Duration) {
    println!("{name} | {before} | {now} | {honest:?}");
    assert!(honest < HONEST, "{name}: an honest join took {honest:?}");
}

/// Tells attackers when to stop, at the latest when it is dropped.
#[derive(Clone, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn is_told(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn tell(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
#[ignore = "takes 30 s, and prints a table"]
fn the_table_of_attacks() {
    println!("row | before | now | longest honest join beside it");
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        relay::rows().await;
        #[cfg(all(feature = "relay-cli", target_os = "linux"))]
        logs::rows().await;
        places::rows().await;
        bounds::rows().await;
    });
    // Apps are updated on this thread; those who attack their relays have others.
    host::rows(&runtime);
}
