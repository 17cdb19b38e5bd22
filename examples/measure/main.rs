//! Measures the cost and the speed of this crate over loopback. Prints one JSON line for each scenario.
//!
//! `cargo run --release --example measure -- SCENARIO`; without a scenario it lists them. `docs/performance.md` explains
//! the figures.

mod apps;
mod direct;
mod frames;
mod idle_apps;
mod load;
mod procstat;
mod raw;
mod relay;
mod relayed;
mod report;
mod sessions;
mod switches;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;

use report::Outcome;

/// A measurement: its name, a description, and the function that takes it.
struct Scenario {
    name: &'static str,
    about: &'static str,
    run: fn(&Settings) -> Outcome,
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "one-way",
        about: "direct, Reliable, a tight loop, beside the raw webrtc crate",
        run: direct::one_way,
    },
    Scenario {
        name: "megabyte",
        about: "one message of 1 MiB beside its bytes in raw pieces of 16 KiB",
        run: direct::megabyte,
    },
    Scenario { name: "echo", about: "direct there and back, beside the raw webrtc crate", run: direct::echo },
    Scenario {
        name: "one-way-relay",
        about: "the same over the relay, beside raw HTTP and an event stream",
        run: relayed::one_way,
    },
    Scenario {
        name: "echo-relay",
        about: "there and back over the relay, beside raw HTTP and event streams",
        run: relayed::echo,
    },
    Scenario { name: "frames-flood", about: "floods of 64 B at 60 frames a second", run: frames::flood },
    Scenario { name: "frames-echo", about: "there and back at 60 frames a second, each path", run: frames::echo },
    Scenario { name: "fan-out", about: "256 B to 16 direct clients at 60 frames a second", run: frames::fan_out },
    Scenario { name: "join", about: "time to connected, and from there to direct", run: sessions::join },
    Scenario {
        name: "idle",
        about: "memory and CPU of 32 idle direct peers, beside the raw webrtc crate",
        run: sessions::idle,
    },
    Scenario { name: "idle-ours", about: "one round of idle, ours", run: sessions::idle_ours },
    Scenario {
        name: "idle-clients",
        about: "the clients of idle-ours, which starts them",
        run: sessions::idle_clients,
    },
    Scenario { name: "idle-raw", about: "one round of idle, the raw webrtc crate", run: sessions::idle_raw },
    Scenario {
        name: "idle-apps",
        about: "memory and CPU of 33 idle apps at 60 frames a second, by relay and directly",
        run: idle_apps::all,
    },
    Scenario { name: "idle-apps-bare", about: "one round of idle-apps, Bevy alone", run: idle_apps::bare },
    Scenario { name: "idle-apps-relay", about: "one round of idle-apps, by the relay", run: idle_apps::relay },
    Scenario { name: "idle-apps-direct", about: "one round of idle-apps, directly", run: idle_apps::direct },
    Scenario {
        name: "growth",
        about: "what a direct message costs beside 33 idle direct peers, and alone",
        run: sessions::growth,
    },
    Scenario { name: "churn", about: "joins and leaves, and what they leave behind", run: sessions::churn },
    Scenario { name: "relay", about: "our relay against npm's uhst-server 2.1.1, same load", run: relay::compare },
    Scenario { name: "relay-ours", about: "the same load on our relay alone", run: relay::ours },
    Scenario { name: "relay-crowd", about: "our relay alone, 10,000 clients on 1,000 hosts", run: relay::crowd },
];

/// Measures this crate over loopback, with one JSON line for each scenario.
#[derive(Parser)]
struct Settings {
    /// The scenarios to run. Without any, all are listed.
    scenarios: Vec<String>,
    /// The number of rounds. The median of each figure is reported.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The length of one measurement in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The number of threads of the floor: the raw crate, or raw HTTP. Two apps have one thread each.
    #[arg(long, default_value_t = 2, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=2))]
    raw_threads: usize,
    /// The `uhst-relay` program to measure. By default cargo builds it.
    #[arg(long, value_name = "FILE")]
    relay: Option<PathBuf>,
}

impl Settings {
    fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.clamp(0.1, 60.0))
    }

    fn rounds(&self) -> usize {
        self.rounds.clamp(1, 100)
    }
}

fn main() -> ExitCode {
    let settings = Settings::parse();
    if settings.scenarios.is_empty() {
        for Scenario { name, about, .. } in SCENARIOS {
            println!("{name:<14} {about}");
        }
        return ExitCode::SUCCESS;
    }
    if cfg!(debug_assertions) {
        eprintln!("measure: this is a debug build; figures from it mean little");
    }
    for wanted in &settings.scenarios {
        let Some(scenario) = SCENARIOS.iter().find(|scenario| scenario.name == wanted) else {
            eprintln!("measure: there is no scenario {wanted:?}");
            return ExitCode::FAILURE;
        };
        match (scenario.run)(&settings) {
            Ok(figures) => println!("{}", report::line(scenario.name, figures)),
            Err(error) => {
                eprintln!("measure: {wanted}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
