//! Network namespaces, the wires between them, and the processes in them.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::status::Status;

/// Three machines: a host, a client and a relay. Each two share a wire, and none forwards packets, so that each wire
/// can be cut on its own.
///
/// | wire | host | client | relay |
/// |---|---|---|---|
/// | `direct` | 10.77.1.1 | 10.77.1.2 | |
/// | `relay` | 10.77.2.1 | | 10.77.2.3 |
/// | `relay` | | 10.77.3.2 | 10.77.3.3 |
pub struct Net {
    prefix: String,
}

/// One of the three machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    Host,
    Client,
    Relay,
}

impl Machine {
    const ALL: [Machine; 3] = [Machine::Host, Machine::Client, Machine::Relay];

    fn letter(self) -> &'static str {
        match self {
            Machine::Host => "h",
            Machine::Client => "c",
            Machine::Relay => "r",
        }
    }
}

/// Runs a program of the system, which must succeed.
fn run(command: &str) {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Net {
    /// Creates the machines with all wires except the direct one.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let net = Net { prefix: format!("uhst{}n{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)) };
        for machine in Machine::ALL {
            run(&format!("ip netns add {}", net.name(machine)));
            run(&format!("ip -n {} link set lo up", net.name(machine)));
        }
        net.veth(Machine::Host, "relay", "10.77.2.1", Machine::Relay, "host", "10.77.2.3");
        net.veth(Machine::Client, "relay", "10.77.3.2", Machine::Relay, "client", "10.77.3.3");
        net
    }

    /// Creates the machines with all wires.
    pub fn with_direct() -> Self {
        let net = Net::new();
        net.direct();
        net
    }

    /// Adds the direct wire.
    pub fn direct(&self) {
        self.veth(Machine::Host, "direct", "10.77.1.1", Machine::Client, "direct", "10.77.1.2");
    }

    pub fn name(&self, machine: Machine) -> String {
        format!("{}{}", self.prefix, machine.letter())
    }

    /// Runs `ip` in a machine.
    pub fn ip(&self, machine: Machine, command: &str) {
        run(&format!("ip -n {} {command}", self.name(machine)));
    }

    fn veth(&self, one: Machine, at_one: &str, ip_one: &str, two: Machine, at_two: &str, ip_two: &str) {
        let (of_one, of_two) = (self.name(one), self.name(two));
        run(&format!("ip link add name {at_one} netns {of_one} type veth peer name {at_two} netns {of_two}"));
        self.address(one, at_one, ip_one);
        self.address(two, at_two, ip_two);
    }

    pub fn address(&self, machine: Machine, device: &str, ip: &str) {
        self.ip(machine, &format!("addr add {ip}/24 dev {device}"));
        self.ip(machine, &format!("link set {device} up"));
    }

    /// Drops all packets on this wire, without an error to their senders.
    pub fn cut(&self, wire: &str) {
        self.set(wire, false);
    }

    pub fn mend(&self, wire: &str) {
        self.set(wire, true);
    }

    fn set(&self, wire: &str, whole: bool) {
        if wire == "direct" {
            for (machine, other) in [(Machine::Host, "10.77.1.2"), (Machine::Client, "10.77.1.1")] {
                // Packets go to a neighbour that does not exist, so the sender sees only silence.
                let nobody = format!("neigh replace {other} lladdr 02:00:00:00:00:99 dev direct nud permanent");
                let command = if whole { format!("neigh del {other} dev direct") } else { nobody };
                self.ip(machine, &command);
            }
        } else {
            for device in ["host", "client"] {
                self.ip(Machine::Relay, &format!("link set {device} {}", if whole { "up" } else { "down" }));
            }
        }
    }

    /// Returns the bytes that this machine has sent and received on a device, with IP headers but without Ethernet
    /// headers.
    pub fn traffic(&self, machine: Machine, device: &str) -> [u64; 2] {
        let output = Command::new("ip").args(["netns", "exec", &self.name(machine), "cat", "/proc/net/dev"]).output();
        let counters = String::from_utf8(output.unwrap().stdout).unwrap();
        let line = counters.lines().find_map(|line| line.trim().strip_prefix(&format!("{device}:"))).unwrap();
        let numbers: Vec<u64> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
        let ip = |bytes: u64, packets: u64| bytes - 14 * packets;
        [ip(numbers[8], numbers[9]), ip(numbers[0], numbers[1])]
    }

    /// Starts a process of this test binary in a machine, with a role.
    pub fn start(&self, machine: Machine, role: &str, settings: &[(&str, &str)]) -> Player {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(machine)]).arg(std::env::current_exe().unwrap());
        command.args(["player::player", "--exact", "--ignored", "--nocapture"]).env("BEVY_UHST_TEST_ROLE", role);
        command.envs(settings.iter().copied());
        Player::start(role, command)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for machine in Machine::ALL {
            let _ = Command::new("ip").args(["netns", "del", &self.name(machine)]).status();
        }
    }
}

/// A wire with a configurable delay, loss and rate.
pub struct BadWire(Child);

impl BadWire {
    /// Creates the wire between the host and the client, in place of the direct one.
    pub fn between_players(net: &Net) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/namespaces/wire.py");
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let names = ["h", "c"].map(|end| format!("w{}n{count}{end}", std::process::id()));
        let mut child = Command::new("python3")
            .arg(script)
            .args(&names)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "ready");
        for (machine, name, ip) in [(Machine::Host, &names[0], "10.77.1.1"), (Machine::Client, &names[1], "10.77.1.2")]
        {
            run(&format!("ip link set {name} netns {}", net.name(machine)));
            net.address(machine, name, ip);
        }
        BadWire(child)
    }

    /// Sets the conditions of both directions. A rate of 0 is unlimited.
    pub fn set(&mut self, delay: Duration, loss_percent: u32, bytes_per_second: u32) {
        let input = self.0.stdin.as_mut().unwrap();
        writeln!(input, "{} {loss_percent} {bytes_per_second}", delay.as_millis()).unwrap();
    }
}

impl Drop for BadWire {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A process in a namespace.
pub struct Player {
    role: String,
    process: Child,
    status: Arc<Mutex<Status>>,
}

impl Player {
    fn start(role: &str, mut command: Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let status = Arc::<Mutex<Status>>::default();
        let (output, latest, name) = (process.stdout.take().unwrap(), status.clone(), role.to_owned());
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // The test harness may write its own text before ours on the line.
                if let Some((_, words)) = line.split_once("@status ") {
                    *latest.lock().unwrap() = serde_json::from_str(words).unwrap();
                } else if let Some((_, words)) = line.split_once("@event ") {
                    eprintln!("{name}: {words}");
                }
            }
        });
        Player { role: role.to_owned(), process, status }
    }

    pub fn status(&self) -> Status {
        self.status.lock().unwrap().clone()
    }

    pub fn say(&mut self, words: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{words}").unwrap();
    }

    /// Kills the process, as a crash does.
    pub fn kill(mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Suspends the process, as a closed lid does.
    pub fn sleep(&self) {
        run(&format!("kill -STOP {}", self.process.id()));
    }

    pub fn wake(&self) {
        run(&format!("kill -CONT {}", self.process.id()));
    }

    /// Waits for a state, and panics if it takes longer than `patience`.
    pub fn wait_for(&self, what: &str, patience: Duration, such: impl Fn(&Status) -> bool) -> Duration {
        let since = Instant::now();
        while !such(&self.status()) {
            assert!(since.elapsed() < patience, "{}: {what} after {patience:?}: {:?}", self.role, self.status());
            thread::sleep(Duration::from_millis(5));
        }
        since.elapsed()
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
