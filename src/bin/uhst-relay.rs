//! A UHST relay as a program of its own. Takes the environment variables of the original relay, and flags.

use std::{
    io::IsTerminal,
    net::{Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use bevy_uhst::relay::{Relay, RelayConfig, RelayLimits, TlsFiles};
use clap::{Parser, ValueEnum};
use tracing_subscriber::EnvFilter;
use url::Url;

/// Passes messages between the players of a game, one of whom is its host.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Address or name to listen on; every interface if not given.
    #[arg(long, env = "HOST")]
    host: Option<String>,
    /// Port to listen on; 0 takes any free one.
    #[arg(long, env = "PORT", default_value_t = 3000)]
    port: u16,
    /// Signs the tokens, so that they outlive a restart; random if not given.
    #[arg(long, env = "JWT_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// Whether this relay is in the list of public relays and prefixes the ids it generates: true or 1.
    #[arg(long, env = "UHST_PUBLIC_RELAY", num_args = 0..=1, default_missing_value = "true", default_value = "")]
    public_relay: String,
    /// The list of public relays.
    #[arg(
        long,
        env = "UHST_RELAYS_LIST",
        default_value = "https://raw.githubusercontent.com/uhst/relays/main/list.json"
    )]
    relays_list: Url,
    /// PEM file with the certificate and its intermediates: serves HTTPS.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the private key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// How logs are written; `RUST_LOG` says which.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Seconds for which an id is kept for a host that lost its connection while clients stay; 0 as the original.
    #[arg(long, default_value_t = 30)]
    hold: u64,
    /// Requests a second from one address; no limit if not given.
    #[arg(long)]
    requests_per_second: Option<NonZeroU32>,
    /// Largest message body in bytes.
    #[arg(long, default_value_t = RelayLimits::default().body_bytes)]
    max_body: usize,
    /// Bytes that may wait for one listener.
    #[arg(long, default_value_t = RelayLimits::default().queue_bytes)]
    max_queue: u32,
    /// Host ids in use at once.
    #[arg(long, default_value_t = RelayLimits::default().hosts)]
    max_hosts: usize,
    /// Clients of one host.
    #[arg(long, default_value_t = RelayLimits::default().clients_per_host)]
    max_clients_per_host: usize,
    /// Open streams in all.
    #[arg(long, default_value_t = RelayLimits::default().listeners)]
    max_listeners: usize,
    /// Open connections in all.
    #[arg(long, default_value_t = RelayLimits::default().connections)]
    max_connections: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    start_logs(args.log_format);
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("uhst-relay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start_logs(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().init(),
    }
}

async fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let public = matches!(args.public_relay.as_str(), "true" | "1");
    let mut config = RelayConfig {
        port_attempts: 1,
        secret: args.secret,
        hold: Duration::from_secs(args.hold),
        limits: RelayLimits {
            body_bytes: args.max_body,
            queue_bytes: args.max_queue,
            hosts: args.max_hosts,
            clients_per_host: args.max_clients_per_host,
            listeners: args.max_listeners,
            connections: args.max_connections,
            requests_per_second: args.requests_per_second,
        },
        tls: args.tls_cert.zip(args.tls_key).map(|(certificate, key)| TlsFiles { certificate, key }),
        directory: public.then_some(args.relays_list),
        ..RelayConfig::default()
    };
    let relay = match args.host.filter(|host| !host.is_empty()) {
        Some(host) => {
            let mut found = tokio::net::lookup_host((host.as_str(), args.port)).await?;
            config.bind = found.next().ok_or_else(|| format!("the host name {host} has no address"))?;
            Relay::start(config).await?
        }
        None => {
            // As node does: both families at once, or IPv4 where there is no IPv6.
            config.bind = SocketAddr::from((Ipv6Addr::UNSPECIFIED, args.port));
            Relay::start(config).await?
        }
    };
    // Before it says that it is ready: whoever reads that may stop it at once.
    let told_to_stop = told_to_stop()?;
    let urls: Vec<_> = relay.urls().iter().map(Url::to_string).collect();
    println!("uhst-relay is ready on port {}: {}", relay.port(), urls.join(" "));
    told_to_stop.await?;
    tracing::info!("stopping");
    relay.shutdown().await;
    Ok(())
}

/// Ctrl-C, or what a service manager sends. Listens for them from the call on.
fn told_to_stop() -> std::io::Result<impl Future<Output = std::io::Result<()>>> {
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
