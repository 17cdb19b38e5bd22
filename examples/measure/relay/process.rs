//! The two relays, each as a process of its own.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{Settings, report::Outcome};

/// The process of a relay on loopback. It is killed when dropped.
pub struct RelayProcess {
    process: Child,
    pub addr: SocketAddr,
}

impl RelayProcess {
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Starts a program, and waits for the line that reports that it listens.
    fn start(mut command: Command, ready: impl Fn(&str) -> Option<u16>) -> Outcome<Self> {
        let process = command.env("HOST", "127.0.0.1").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut relay = RelayProcess { process, addr: (Ipv4Addr::LOCALHOST, 0).into() };
        let mut output = BufReader::new(relay.process.stdout.take().ok_or("no output")?);
        let mut line = String::new();
        loop {
            line.clear();
            if output.read_line(&mut line)? == 0 {
                return Err("the relay ended instead of listening".into());
            }
            if let Some(port) = ready(&line) {
                relay.addr.set_port(port);
                break;
            }
        }
        // The pipe is read, so that the relay does not block on it.
        std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
        Ok(relay)
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The commands that start the relays.
pub struct Programs {
    ours: PathBuf,
    original: Option<PathBuf>,
}

impl Programs {
    /// The command of our relay alone.
    pub fn ours(settings: &Settings) -> Outcome<Self> {
        let ours = match &settings.relay {
            Some(program) => program.clone(),
            None => build()?,
        };
        Ok(Programs { ours, original: None })
    }

    /// The commands of both relays.
    pub fn both(settings: &Settings) -> Outcome<Self> {
        Ok(Programs { original: Some(install()?), ..Programs::ours(settings)? })
    }

    pub fn start_ours(&self) -> Outcome<RelayProcess> {
        let mut command = Command::new(&self.ours);
        command.env("PORT", "0").env("RUST_LOG", "warn");
        // The whole load comes from one address, so that limits per address are raised.
        for limit in ["HOSTS", "LISTENERS", "CONNECTIONS"] {
            command.env(format!("UHST_MAX_{limit}_PER_ADDRESS"), usize::MAX.to_string());
        }
        RelayProcess::start(command, |line| {
            line.strip_prefix("uhst-relay is ready on port ")?.split_once(':')?.0.parse().ok()
        })
    }

    pub fn start_original(&self) -> Outcome<RelayProcess> {
        let program = self.original.as_ref().ok_or("the original relay is not installed")?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = Command::new("node");
        command.arg(program).env("PORT", port.to_string());
        RelayProcess::start(command, |line| line.contains("is running").then_some(port))
    }
}

/// Returns the target folder of cargo. This program is in its `release/examples`.
fn target_folder() -> Outcome<PathBuf> {
    let program = env::current_exe()?;
    Ok(program.ancestors().nth(3).ok_or("this program is not in cargo's target folder")?.to_owned())
}

fn build() -> Outcome<PathBuf> {
    let target = target_folder()?;
    let built = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--release", "--package", "uhst-relay", "--target-dir"])
        .arg(&target)
        .status()?;
    if built.success() { Ok(target.join("release/uhst-relay")) } else { Err("cargo could not build uhst-relay".into()) }
}

/// Installs the original relay from npm once, and returns its program.
fn install() -> Outcome<PathBuf> {
    let folder = target_folder()?.join("tmp/uhst-server-2.1.1");
    let program = folder.join(Path::new("node_modules/uhst-server/src/server.js"));
    if !program.exists() {
        std::fs::create_dir_all(&folder)?;
        let installed = Command::new("npm")
            .args(["install", "--no-save", "--no-audit", "--no-fund", "--silent", "--prefix"])
            .arg(&folder)
            .arg("uhst-server@2.1.1")
            .status()?;
        if !installed.success() {
            return Err("npm could not install uhst-server".into());
        }
    }
    Ok(program)
}

/// Raises the limit on open files of this process and of the relays that it starts, if the system allows it.
pub fn allow_files(wanted: usize) -> Outcome<()> {
    let limit = format!("--nofile={wanted}");
    let allowed = Command::new("prlimit").args([&limit, "--pid", &std::process::id().to_string()]).status();
    match allowed {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!("this system does not allow {wanted} open files").into()),
    }
}
