//! The relay as a program: startup, logs, memory and shutdown.

use std::{fs::File, net::SocketAddr, path::Path, process::Stdio, time::Duration};

use reqwest::{Certificate, Client};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdout, Command},
    time::{sleep, timeout},
};
use uhst_relay::TlsFiles;

use crate::{attacks::HS256, support::*};

/// No operation of the program takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn program(args: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_uhst-relay"));
    program
        .args(["--log", "json", "--drain", "2"])
        .args(args)
        .envs([("HOST", "127.0.0.1"), ("PORT", "0"), ("JWT_SECRET", SECRET), ("UHST_PUBLIC_RELAY", "false")])
        .env("RUST_LOG", "info")
        .kill_on_drop(true);
    program
}

/// A running program, and its ready line.
struct Program {
    child: Child,
    ready: serde_json::Value,
    logs: Lines<BufReader<ChildStderr>>,
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Program {
    async fn start(args: &[&str]) -> Self {
        let mut child = program(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let logs = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = timeout(PATIENCE, stdout.next_line()).await.unwrap().unwrap().unwrap();
        Program { child, ready: serde_json::from_str(&ready).unwrap(), logs, _stdout: stdout }
    }

    fn address(&self) -> SocketAddr {
        self.ready["address"].as_str().unwrap().parse().unwrap()
    }

    /// Waits until the program logs these words.
    async fn logs(&mut self, words: &str) {
        let says = async { while !self.logs.next_line().await.unwrap().unwrap().contains(words) {} };
        timeout(PATIENCE, says).await.unwrap_or_else(|_| panic!("it does not log {words:?}"));
    }
}

/// Sends SIGTERM and waits until the program has ended.
pub async fn stop(mut child: Child) {
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    assert!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
}

#[tokio::test]
async fn the_program_reads_the_originals_environment_and_stops_on_sigterm() {
    let program = Program::start(&[]).await;
    let ready = &program.ready;
    assert_eq!((&ready["event"], &ready["tls"]), (&"ready".into(), &false.into()));
    assert_eq!(ready["version"], env!("CARGO_PKG_VERSION"));
    let mut wire = Wire::open(program.address()).await;
    let token = signed(HS256, r#"{"type":"hostToken","hostId":"demo"}"#);
    let answer = wire.request("POST", &format!("/?token={token}"), &[JSON], "{}").await;
    assert_eq!((answer.status, answer.text()), (400, "Bad Request"), "signed with its secret");

    // After SIGTERM, the program redirects new requests, and ends in time.
    let host = Wire::open(program.address()).await;
    let mut host = Events::open_on(host, &format!("/?token={token}")).await;
    let stopped = tokio::spawn(stop(program.child));
    host.expect_end().await;
    stopped.await.unwrap();
}

/// Opens the stream of a host with the id `demo`.
pub async fn host_at(address: SocketAddr) -> Events {
    let token = signed(HS256, r#"{"type":"hostToken","hostId":"demo"}"#);
    Events::open_on(Wire::open(address).await, &format!("/?token={token}")).await
}

/// Lets a client join that host and send it a message.
pub async fn join_at(address: SocketAddr, host: &mut Events) {
    let joined = Wire::open(address).await.request("POST", "/?action=join&hostId=demo", &[], "").await.json();
    let target = format!("/?token={}", joined["clientToken"].as_str().unwrap());
    assert_eq!(Wire::open(address).await.request("POST", &target, &[JSON], "[1]").await.status, 200);
    assert_eq!(host.message().await.1, "[1]");
}

/// Checks that a message from a client reaches its host and that every request succeeds.
async fn serves(address: SocketAddr) {
    join_at(address, &mut host_at(address).await).await;
}

#[tokio::test]
async fn a_closed_log_pipe_does_not_stop_it() {
    let mut child =
        program(&[]).env("RUST_LOG", "trace").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut logs = BufReader::new(child.stderr.take().unwrap()).lines();
    // The program writes to this stream, and from now on each line fails.
    assert!(logs.next_line().await.unwrap().is_some());
    drop(logs);
    let ready: serde_json::Value = serde_json::from_str(&stdout.next_line().await.unwrap().unwrap()).unwrap();
    drop(stdout);
    let address = ready["address"].as_str().unwrap().parse().unwrap();
    serves(address).await;
    assert!(child.try_wait().unwrap().is_none());
    stop(child).await;
}

/// Listens repeatedly under a long id that is logged, until more log output is pending than the program keeps.
pub async fn fill_its_log(address: SocketAddr) {
    let id = "x".repeat(10_000);
    let token = signed(HS256, &format!(r#"{{"type":"hostToken","hostId":"{id}"}}"#));
    let listen = request("GET", &format!("/?token={token}"), &[], "");
    for _ in 0..400 {
        let mut wire = Wire::open(address).await;
        wire.write(&listen).await;
        // The previous stream of this id may not have ended yet.
        assert!([200, 400].contains(&timeout(PATIENCE, wire.head()).await.unwrap().status));
    }
}

#[tokio::test]
async fn a_log_reader_that_never_reads_does_not_stall_it() {
    let mut child =
        program(&[]).env("RUST_LOG", "uhst_relay=trace").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut logs = BufReader::new(child.stderr.take().unwrap()).lines();
    let ready: serde_json::Value = serde_json::from_str(&stdout.next_line().await.unwrap().unwrap()).unwrap();
    let address = ready["address"].as_str().unwrap().parse().unwrap();
    fill_its_log(address).await;
    serves(address).await;

    // A reader that starts late gets whole lines from the first one on, and a report that some are missing.
    let mut first = true;
    let reads = async {
        loop {
            let line: serde_json::Value = serde_json::from_str(&logs.next_line().await.unwrap().unwrap()).unwrap();
            let message = line["fields"]["message"].as_str().unwrap();
            assert!(!std::mem::take(&mut first) || message == "relay is listening", "{line}");
            if message.contains("dropped lines") {
                return line["fields"]["lines"].as_u64().unwrap();
            }
        }
    };
    assert!(timeout(PATIENCE, reads).await.unwrap() > 0);

    // The program ends although nobody reads its last lines.
    fill_its_log(address).await;
    stop(child).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn it_starts_with_a_full_log_pipe() {
    let (_reader, mut writer) = std::io::pipe().unwrap();
    // This fills a pipe on Linux, so the ready line has to wait as well.
    std::io::Write::write_all(&mut writer, &[b'\n'; 65_536]).unwrap();
    let address = std::net::TcpListener::bind("127.77.0.2:0").unwrap().local_addr().unwrap();
    let (stdout, stderr) = (writer.try_clone().unwrap(), writer);
    run_once(program(&[]).stdout(stdout).stderr(stderr), address).await;
}

#[tokio::test]
async fn its_last_lines_are_written_before_it_ends() {
    let output = program(&[]).env("JWT_SECRET", "short").env("RUST_LOG", "trace").output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.lines().last().unwrap().starts_with("uhst-relay: the secret has 5 bytes"), "{said}");

    let Program { child, mut logs, .. } = Program::start(&[]).await;
    stop(child).await;
    let mut last = String::new();
    while let Some(line) = logs.next_line().await.unwrap() {
        last = line;
    }
    assert!(last.contains("stopping"), "{last}");
}

#[tokio::test]
async fn it_serves_a_web_build_and_says_what_is_wrong_with_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let web = ["--web", folder.path().to_str().unwrap()];
    let refused = timeout(PATIENCE, program(&web).output()).await.unwrap().unwrap();
    assert!(!refused.status.success());
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(words.contains(web[1]) && words.contains("has no index.html"), "{words}");

    std::fs::write(folder.path().join("index.html"), "<p>the game").unwrap();
    let program = Program::start(&web).await;
    let page = reqwest::get(format!("http://{}/", program.address())).await.unwrap();
    assert_eq!((page.status().as_u16(), page.text().await.unwrap()), (200, "<p>the game".to_owned()));
    stop(program.child).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn it_starts_with_a_full_disk() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let address = std::net::TcpListener::bind("127.77.0.1:0").unwrap().local_addr().unwrap();
    run_once(program(&[]).stdout(full()).stderr(full()), address).await;
}

/// Starts the program on an address of its own, which nobody else can take in the meantime, because the line with the
/// port cannot be read.
#[cfg(target_os = "linux")]
pub async fn starts(program: &mut Command, address: SocketAddr) -> Child {
    let mut child = program
        .envs([("HOST", address.ip().to_string()), ("PORT", address.port().to_string())])
        .env("RUST_LOG", "trace")
        .spawn()
        .unwrap();
    let starts = async {
        while TcpStream::connect(address).await.is_err() {
            assert!(child.try_wait().unwrap().is_none(), "the program has ended");
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, starts).await.unwrap();
    child
}

#[cfg(target_os = "linux")]
async fn run_once(program: &mut Command, address: SocketAddr) {
    let mut child = starts(program, address).await;
    serves(address).await;
    assert!(child.try_wait().unwrap().is_none());
    stop(child).await;
}

/// Returns the resident memory of a program in bytes.
#[cfg(target_os = "linux")]
fn memory(program: &Program) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.child.id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

/// Requests tokens of distinct ids, and sends a message with another token for one id of each `step`.
#[cfg(target_os = "linux")]
async fn asks_for_ids(wire: &mut Wire, ids: std::ops::Range<usize>, step: usize) {
    let ids: Vec<_> = ids.collect();
    for ids in ids.chunks(1000) {
        let asks = ids.iter().flat_map(|n| request("POST", &format!("/?action=host&hostId=id-{n}"), &[], ""));
        let sends = ids.iter().step_by(step).flat_map(|n| {
            let token = signed(HS256, &format!(r#"{{"type":"clientToken","hostId":"id-{n}","clientId":"{n}"}}"#));
            request("POST", &format!("/?token={token}"), &[JSON], "[1]")
        });
        wire.write(asks.chain(sends).collect::<Vec<u8>>()).await;
        for _ in ids {
            assert_eq!(wire.answer().await.status, 200);
        }
        for _ in ids.iter().step_by(step) {
            assert_eq!(wire.answer().await.status, 400);
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn requested_ids_take_no_memory() {
    const IDS: usize = 60_000;
    let program = Program::start(&[]).await;
    let mut wire = Wire::open(program.address()).await;
    // By now, the cache of a few thousand tokens and the buffers are full.
    asks_for_ids(&mut wire, IDS..IDS + 8_000, 1).await;
    let before = memory(&program);
    asks_for_ids(&mut wire, 0..IDS, 10).await;
    let grown = memory(&program).saturating_sub(before);
    assert!(grown < IDS * 20, "{grown} bytes for {IDS} ids");
    let metrics = wire.request("GET", "/metrics", &[], "").await;
    assert!(metrics.text().lines().any(|line| line == "uhst_relay_sessions 0"), "{}", metrics.text());
}

/// Writes a self-signed certificate for loopback to this file, and its key to the other if one is given.
fn certificate(to: &Path, key: Option<&Path>) -> (Client, String) {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(to, own.cert.pem()).unwrap();
    if let Some(key) = key {
        std::fs::write(key, own.signing_key.serialize_pem()).unwrap();
    }
    let trusted = Certificate::from_pem(own.cert.pem().as_bytes()).unwrap();
    // Each request uses a new connection, and so sees the current certificate.
    let client = Client::builder().tls_certs_only([trusted]).pool_max_idle_per_host(0).build().unwrap();
    (client, own.signing_key.serialize_pem())
}

#[tokio::test]
async fn certificates_are_reloaded_when_they_change() {
    let files = tempfile::tempdir().unwrap();
    let tls = TlsFiles { certificate: files.path().join("cert.pem"), key: files.path().join("key.pem") };
    let (former, _) = certificate(&tls.certificate, Some(&tls.key));
    let (cert, key) = (tls.certificate.to_str().unwrap(), tls.key.to_str().unwrap());
    let mut program = Program::start(&["--tls-cert", cert, "--tls-key", key]).await;
    assert_eq!(program.ready["tls"], true);
    let url = format!("https://{}/?action=ping&timestamp=5", program.address());
    let ping = |client: &Client| client.post(&url).send();
    assert_eq!(ping(&former).await.unwrap().text().await.unwrap(), r#"{"pong":5}"#);

    // Only one of the two files is new: the former certificate stays in use.
    let (new, its_key) = certificate(&tls.certificate, None);
    program.logs("cannot reload the certificate").await;
    assert_eq!(ping(&former).await.unwrap().status(), 200);
    assert!(ping(&new).await.is_err());

    std::fs::write(&tls.key, its_key).unwrap();
    program.logs("reloaded the certificate").await;
    assert_eq!(ping(&new).await.unwrap().text().await.unwrap(), r#"{"pong":5}"#);
    assert!(ping(&former).await.is_err());

    // A missing file, as during a replacement, changes nothing either.
    std::fs::remove_file(&tls.certificate).unwrap();
    program.logs("cannot reload the certificate").await;
    assert_eq!(ping(&new).await.unwrap().status(), 200);
    stop(program.child).await;
}
