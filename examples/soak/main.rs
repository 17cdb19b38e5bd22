//! A soak test: at random, players join a host, send, flood, sleep, leave and are killed, while the relay restarts, requests
//! are lost, doubled and refused, and streams and paths are cut. Everything runs in this process, over loopback.
//!
//! `cargo run --release --example soak -- --minutes 30` prints its seed. With `--seed` it makes the same decisions again,
//! though not at the same nanosecond. It checks that:
//!
//! - every reliable message arrives once, whole, and in order where that is promised, before a graceful end; up to any
//!   other end, nothing arrives twice, changed or out of order;
//! - every beginning has exactly one end, with a reason that fits;
//! - each time that everybody has left, there are no more tasks, sockets and threads than the first time, and the memory
//!   has not grown by more than [`watch::SLACK`].
//!
//! The last line is JSON. If a check fails, the program prints it with the seed and the last steps, and fails.
//!
//! `--cut-udp` also cuts all direct paths now and then, by a routing rule. Run it in a network namespace of its own:
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

/// Plays at random with a host and its players, and checks the promises of the library.
#[derive(Parser)]
struct Settings {
    /// The length in minutes, without the breaks in which everybody leaves.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// The seed of all decisions. Default: a random one.
    #[arg(long)]
    seed: Option<u64>,
    /// The most players at a time.
    #[arg(long, default_value_t = 8)]
    players: usize,
    /// Also cut all direct paths now and then. Only in a network namespace of its own.
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
