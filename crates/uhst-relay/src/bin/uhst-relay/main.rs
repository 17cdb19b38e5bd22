//! The UHST relay as a program. It accepts the environment variables of the original relay, and flags.

mod output;

use std::{
    io::{self, IsTerminal},
    net::{Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use tracing_subscriber::EnvFilter;
use uhst_relay::{IpNet, RelayConfig, RelayLimits, RelayServer, TlsFiles, read_web_build};
use url::Url;

use self::output::Output;

/// Passes messages between the players of a game, one of whom is the host
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Address or host name to listen on. Default: all interfaces
    #[arg(long, env = "HOST")]
    host: Option<String>,
    /// Port to listen on. 0 picks a free port
    #[arg(long, env = "PORT", default_value_t = 3000)]
    port: u16,
    /// Key that signs tokens, at least 16 bytes. With a fixed key, tokens stay valid after a restart. Default: random
    #[arg(long, env = "JWT_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// Whether this relay is in the list of public relays and adds its prefix to generated ids: true or 1
    #[arg(long, env = "UHST_PUBLIC_RELAY", num_args = 0..=1, default_missing_value = "true", default_value = "")]
    public_relay: String,
    /// URL of the list of public relays
    #[arg(
        long,
        env = "UHST_RELAYS_LIST",
        default_value = "https://raw.githubusercontent.com/uhst/relays/main/list.json"
    )]
    relays_list: Url,
    /// URL of this relay in that list. Default: derived from the Host header of each request
    #[arg(long, env = "UHST_PUBLIC_URL", value_name = "URL")]
    public_url: Option<Url>,
    /// Network of a trusted proxy, such as 127.0.0.1/32. Its X-Forwarded-For header (or else Forwarded) names the
    /// client's address. May be repeated
    #[arg(long, value_name = "CIDR")]
    trusted_proxy: Vec<IpNet>,
    /// PEM file with the certificate and its intermediates. Enables HTTPS, and is reloaded when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the private key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Folder with a game's web build, served to browsers that open this relay's URL or a join link
    #[arg(long, value_name = "DIR")]
    web: Option<PathBuf>,
    /// Format of logs and of the line that reports readiness. `RUST_LOG` selects which logs are written
    #[arg(long, visible_alias = "log-format", value_enum, default_value_t = LogFormat::Text)]
    log: LogFormat,
    /// Maximum seconds for a shutdown after SIGTERM, during which streams end one after the other
    #[arg(long, default_value_t = 10)]
    drain: u64,
    /// URL (https) of the relay that takes over during a shutdown. New requests are redirected there
    #[arg(long, value_name = "URL")]
    drain_to: Option<Url>,
    /// Seconds for which an id stays reserved for a host that lost its connection while clients stay. 0 disables this,
    /// as in the original
    #[arg(long, default_value_t = 30)]
    hold: u64,
    /// Maximum requests per second from one address. Default: no limit
    #[arg(long)]
    requests_per_second: Option<NonZeroU32>,
    /// Maximum joins with an unknown id per minute from one address. 0 disables the limit
    #[arg(long, default_value_t = 30)]
    wrong_joins_per_minute: u32,
    /// Number of random digits in generated ids
    #[arg(long, default_value_t = RelayConfig::default().id_digits)]
    id_digits: u32,
    /// Maximum bytes of messages that are being read or wait
    #[arg(long, default_value_t = RelayLimits::default().memory_bytes)]
    max_memory: usize,
    /// Maximum host ids in use by hosts of one address
    #[arg(long, env = "UHST_MAX_HOSTS_PER_ADDRESS", default_value_t = RelayLimits::default().hosts_per_address)]
    max_hosts_per_address: usize,
    /// Maximum open streams of one address
    #[arg(long, env = "UHST_MAX_LISTENERS_PER_ADDRESS", default_value_t = RelayLimits::default().listeners_per_address)]
    max_listeners_per_address: usize,
    /// Maximum open connections of one address that is not a trusted proxy
    #[arg(
        long,
        env = "UHST_MAX_CONNECTIONS_PER_ADDRESS",
        default_value_t = RelayLimits::default().connections_per_address
    )]
    max_connections_per_address: usize,
    /// Maximum size of a message body in bytes
    #[arg(long, default_value_t = RelayLimits::default().body_bytes)]
    max_body: usize,
    /// Maximum bytes that wait for one listener
    #[arg(long, default_value_t = RelayLimits::default().queue_bytes)]
    max_queue: u32,
    /// Maximum host ids in use at once
    #[arg(long, default_value_t = RelayLimits::default().hosts)]
    max_hosts: usize,
    /// Maximum clients of one host
    #[arg(long, default_value_t = RelayLimits::default().clients_per_host)]
    max_clients_per_host: usize,
    /// Maximum open streams in total
    #[arg(long, default_value_t = RelayLimits::default().listeners)]
    max_listeners: usize,
    /// Maximum open connections in total
    #[arg(long, default_value_t = RelayLimits::default().connections)]
    max_connections: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let (stdout, stderr) = match Output::to(io::stdout()).and_then(|out| Ok((out, Output::to(io::stderr())?))) {
        Ok(outputs) => outputs,
        Err(_) => return ExitCode::FAILURE,
    };
    start_logs(args.log, &stderr);
    let ended = run(args, &stdout).await;
    if let Err(error) = &ended {
        stderr.write_line(&format!("uhst-relay: {error}"));
    }
    stdout.wait_written();
    stderr.wait_written();
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Starts logging, and logs panics through it. The default panic hook writes to standard error itself, where it may
/// block forever.
fn start_logs(format: LogFormat, stderr: &Output) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let output = stderr.clone();
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || output.clone())
        .log_internal_errors(false);
    match format {
        LogFormat::Text => logs.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().init(),
    }
    let output = stderr.clone();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!("{panic}");
        if cfg!(panic = "abort") {
            output.wait_written();
        }
    }));
}

async fn run(args: Args, stdout: &Output) -> Result<(), Box<dyn std::error::Error>> {
    // The handler is installed before the socket listens, because whoever can connect may stop the program at once.
    let stop_signal = stop_signal()?;
    let public = matches!(args.public_relay.as_str(), "true" | "1");
    let mut config = RelayConfig {
        port_attempts: 1,
        secret: args.secret,
        id_digits: args.id_digits,
        trusted_proxies: args.trusted_proxy,
        moved_to: args.drain_to,
        public_url: args.public_url,
        hold: Duration::from_secs(args.hold),
        limits: RelayLimits {
            body_bytes: args.max_body,
            queue_bytes: args.max_queue,
            memory_bytes: args.max_memory,
            hosts: args.max_hosts,
            hosts_per_address: args.max_hosts_per_address,
            clients_per_host: args.max_clients_per_host,
            listeners: args.max_listeners,
            listeners_per_address: args.max_listeners_per_address,
            connections: args.max_connections,
            connections_per_address: args.max_connections_per_address,
            wrong_joins_per_minute: NonZeroU32::new(args.wrong_joins_per_minute),
            requests_per_second: args.requests_per_second,
        },
        tls: args.tls_cert.zip(args.tls_key).map(|(certificate, key)| TlsFiles { certificate, key }),
        directory: public.then_some(args.relays_list),
        web_files: args.web.map(read_web_build).transpose()?.unwrap_or_default(),
        ..RelayConfig::default()
    };
    let relay = match args.host.filter(|host| !host.is_empty()) {
        Some(host) => {
            let mut found = tokio::net::lookup_host((host.as_str(), args.port)).await?;
            config.bind = found.next().ok_or_else(|| format!("the host name {host} has no address"))?;
            RelayServer::start(config).await?
        }
        None => {
            // Node.js does the same: it listens on both address families, or on IPv4 alone if there is no IPv6.
            config.bind = SocketAddr::from((Ipv6Addr::UNSPECIFIED, args.port));
            RelayServer::start(config).await?
        }
    };
    let (drain, format) = (Duration::from_secs(args.drain), args.log);
    stdout.write_line(&ready(&relay, format));
    notify("READY=1");
    tokio::select! {
        stopped = stop_signal => stopped?,
        () = relay.ended() => return Err("the relay no longer accepts connections".into()),
    }
    tracing::info!(?drain, "stopping");
    notify("STOPPING=1");
    tokio::select! {
        () = relay.drain(drain) => {}
        // A second signal ends the program at once.
        stopped = self::stop_signal()? => stopped?,
    }
    Ok(())
}

/// Formats the line that reports where the relay listens.
fn ready(relay: &RelayServer, format: LogFormat) -> String {
    let urls: Vec<_> = relay.urls().iter().map(Url::to_string).collect();
    match format {
        LogFormat::Text => format!("uhst-relay is ready on port {}: {}", relay.port(), urls.join(" ")),
        LogFormat::Json => serde_json::json!({
            "event": "ready",
            "version": env!("CARGO_PKG_VERSION"),
            "address": relay.local_addr().to_string(),
            "port": relay.port(),
            "tls": relay.urls().iter().any(|url| url.scheme() == "https"),
            "urls": urls,
        })
        .to_string(),
    }
}

/// Notifies systemd, if it started this program as a service with `Type=notify`.
fn notify(state: &str) {
    #[cfg(target_os = "linux")]
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        use std::os::{
            linux::net::SocketAddrExt,
            unix::{
                ffi::OsStrExt,
                net::{SocketAddr, UnixDatagram},
            },
        };
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(&path),
        };
        let sent = UnixDatagram::unbound()
            .and_then(|socket| address.and_then(|address| socket.send_to_addr(state.as_bytes(), &address)));
        if let Err(error) = sent {
            tracing::warn!(%error, "cannot notify systemd: {state}");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = state;
}

/// Returns a future that completes on Ctrl-C or on the signal of a service manager. Signals count from the call on.
fn stop_signal() -> std::io::Result<impl Future<Output = std::io::Result<()>>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            Ok(())
        })
    }
    #[cfg(not(unix))]
    Ok(tokio::signal::ctrl_c())
}
