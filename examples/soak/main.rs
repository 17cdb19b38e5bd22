//! A host and players who come, talk, flood, sleep, leave and get lost, while the relay restarts, requests are lost,
//! doubled and refused, and streams and paths are cut: at random, for as long as you like. Everything runs in this
//! process, over loopback.
//!
//! `cargo run --release --example soak -- --minutes 30`; the seed is printed, and `--seed` plays it again (the same
//! decisions, though not at the same nanosecond). Checked on the way:
//!
//! - every reliable message arrives once, whole, and in order where that is promised, before a graceful end; up to any
//!   other end, nothing arrives twice, changed or out of order;
//! - every beginning has exactly one end, with a reason that fits;
//! - from time to time everybody leaves: then no more tasks, sockets and threads are there than the first time, and
//!   memory is within [`watch::SLACK`].
//!
//! glibc keeps freed memory for each thread, which looks like growth. `MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=131072
//! MALLOC_MMAP_THRESHOLD_=65536` in the environment makes it keep less.
//!
//! The last line is JSON. What does not hold is printed with the seed and the last steps, and the program fails.
//!
//! `--cut-udp` also cuts all direct paths now and then, by a rule of the kernel's. It is for a network of its own:
//! `unshare -rn sh -c 'ip link set lo up && cargo run --example soak -- --cut-udp'`.

#![expect(clippy::unwrap_used, reason = "this program is a test: it stops at the first surprise")]

#[path = "../../tests/hostile_relay/faults.rs"]
mod faults;
mod ledger;
mod party;
#[path = "../../tests/hostile_relay/proxy.rs"]
mod proxy;
#[expect(dead_code, reason = "tests use more of it")]
#[path = "../../tests/support/relay.rs"]
mod relay;
mod soak;
mod stay;
mod watch;

use std::process::ExitCode;

use clap::Parser;

/// Plays at random with a host and its players for a while, and checks what the library promises.
#[derive(Parser)]
struct Settings {
    /// How long, without the breaks in which everybody leaves.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// What happens; at random if not said.
    #[arg(long)]
    seed: Option<u64>,
    /// How many players there are at most.
    #[arg(long, default_value_t = 8)]
    players: usize,
    /// Cut all direct paths now and then. Only in a network namespace of its own.
    #[arg(long)]
    cut_udp: bool,
}

fn main() -> ExitCode {
    let settings = Settings::parse();
    let seed = settings.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    eprintln!("soak: seed {seed}, {} minutes", settings.minutes);
    if settings.cut_udp && !party::is_alone() {
        eprintln!("soak: --cut-udp is for a network namespace with nothing but lo");
        return ExitCode::FAILURE;
    }
    let mut soak = soak::Soak::new(&settings, seed);
    match soak.run() {
        Ok(()) => {
            println!("{}", soak.line("ok"));
            ExitCode::SUCCESS
        }
        Err(violation) => {
            eprintln!("soak: seed {seed}: {violation}\nthe last steps:");
            for step in soak.trace() {
                eprintln!("  {step}");
            }
            println!("{}", soak.line(&violation));
            ExitCode::FAILURE
        }
    }
}
