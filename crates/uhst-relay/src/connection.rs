//! A connection, which serves requests and may turn into an event stream.

use std::{
    convert::Infallible,
    error::Error,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    arrivals::ReadWatch,
    connection_limits::{ClientConnection, ConnectionPermit},
    service::Service,
    stream::{StreamWriter, Subscription},
    watched::{Watch, Watched},
    write_timeout::WriteTimeout,
};

/// The maximum size of URL and headers together, as in Node.js.
const MAX_HEAD: usize = 16 * 1024;
/// How long a connection may stay idle, take to send the head of a request, or take for the TLS handshake.
const IDLE: Duration = Duration::from_secs(60);
/// The buffer size of a connection for requests.
const BUFFER: usize = 64 * 1024;

/// Serves one connection until it ends.
pub(super) async fn serve(
    stream: TcpStream,
    permit: ConnectionPermit,
    service: Arc<Service>,
    tls: Option<TlsAcceptor>,
    stopping: watch::Receiver<bool>,
) {
    // With Nagle's algorithm, a message would wait for the next one.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let client = &permit.connection;
    let peer = client.peer;
    let stream = Watched::new(stream, WriteTimeout::new(service.config.write_timeout));
    let stream = Watched::new(stream, ReadWatch::new(client.arrival.clone()));
    let serving = async {
        match tls {
            None => serve_http(stream, client, service, stopping).await,
            // Boxed, so that a connection without TLS does not reserve memory for it.
            Some(tls) => {
                Box::pin(async {
                    match timeout(IDLE, tls.accept(stream)).await {
                        Ok(Ok(stream)) => serve_http(stream, client, service, stopping).await,
                        Ok(Err(error)) => tracing::debug!(%peer, %error, "the TLS handshake failed"),
                        Err(_) => tracing::debug!(%peer, "the TLS handshake timed out"),
                    }
                })
                .await
            }
        }
    };
    let mut serving = pin!(serving);
    let serving = poll_fn(|context| client.arrival.poll(|| serving.as_mut().poll(context)));
    tokio::select! {
        () = serving => {}
        () = client.kill.notified() => {}
    }
}

/// Answers requests, and then writes the event stream if one was requested.
async fn serve_http<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    client: &Arc<ClientConnection>,
    service: Arc<Service>,
    stopping: watch::Receiver<bool>,
) {
    let metrics = service.metrics.clone();
    // Boxed, so that the memory for requests is freed when a stream begins.
    let ended: Result<(), Box<dyn Error + Send + Sync>> =
        match Box::pin(serve_requests(stream, client, service, stopping)).await {
            Ok(Some((stream, subscription))) => StreamWriter::new(stream, subscription).await.map_err(Into::into),
            Ok(None) => Ok(()),
            Err(error) => Err(error.into()),
        };
    // The errors of hyper do not contain the URL of a request, which may contain a token.
    if let Err(error) = ended {
        if is_stalled(&*error) {
            metrics.stalled.increment(1);
        }
        tracing::trace!(peer = %client.peer, %error, "connection ended");
    }
}

/// Returns whether a connection ended because its peer did not read.
fn is_stalled(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Answers requests until the connection ends or becomes a stream.
async fn serve_requests<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    client: &Arc<ClientConnection>,
    service: Arc<Service>,
    mut stopping: watch::Receiver<bool>,
) -> hyper::Result<Option<(S, Subscription)>> {
    let backlogged = Arc::new(AtomicBool::new(false));
    let stream = Watched::new(stream, WriteBacklog(backlogged.clone()));
    let answer = service_fn(|request| {
        let (service, client) = (service.clone(), client.clone());
        let pending = client.begin_request();
        async move {
            let answer = service.answer(&client, request).await;
            drop(pending);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_header_size(MAX_HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), answer);
    let mut subscription = None;
    loop {
        let step = poll_fn(|context| match Pin::new(&mut serving).poll(context) {
            Poll::Ready(ended) => Poll::Ready(ended.map(|()| None)),
            Poll::Pending => {
                subscription = subscription.take().or_else(|| client.subscription.take());
                // The data that hyper has not written yet precedes the rest of the stream.
                if backlogged.load(Ordering::Relaxed) {
                    Poll::Pending
                } else {
                    subscription.take().map_or(Poll::Pending, |subscription| Poll::Ready(Ok(Some(subscription))))
                }
            }
        });
        tokio::select! {
            step = step => {
                let stream = |subscription| (serving.into_parts().io.into_inner().into_inner(), subscription);
                return step.map(|subscription| subscription.map(stream));
            }
            Ok(()) = stopping.changed() => Pin::new(&mut serving).graceful_shutdown(),
        }
    }
}

/// Records whether the socket accepted less than there was to write.
struct WriteBacklog(Arc<AtomicBool>);

impl Watch for WriteBacklog {
    fn wrote(
        &mut self,
        _context: &mut Context,
        written: Poll<io::Result<usize>>,
        wanted: usize,
    ) -> Poll<io::Result<usize>> {
        let all = matches!(written, Poll::Ready(Ok(written)) if written == wanted);
        self.0.store(!all, Ordering::Relaxed);
        written
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};

    use uhst_proto::protocol::TokenKind;

    use super::*;
    use crate::RelayConfig;

    #[tokio::test]
    async fn a_stream_begins_after_the_answers_before_it() {
        let service = Arc::new(Service::new(RelayConfig::default(), Default::default(), b"secret"));
        let (_stop, stopping) = watch::channel(false);
        for pings in 0..20 {
            let token = service.tokens.issue(TokenKind::HostToken, &pings.to_string(), None).expect("random bytes");
            let ping = "POST /?action=ping&timestamp=1 HTTP/1.1\r\nContent-Length: 0\r\n\r\n".repeat(pings);
            let requests = format!("{ping}GET /?token={token} HTTP/1.1\r\n\r\n");
            // The pipe holds less than one response, so the relay always has data left to write.
            let (relay, peer) = duplex(50);
            let client = ClientConnection::new([127, 0, 0, 1].into(), Arc::default());
            let serving = serve_http(relay, &client, service.clone(), stopping.clone());
            let (mut reading, mut writing) = split(peer);
            let mut read = Vec::new();
            let exchange = async {
                let ask = async { writing.write_all(requests.as_bytes()).await.expect("it reads") };
                let listen = async {
                    while !read.ends_with(b": Connected.\n\r\n") {
                        assert_ne!(reading.read_buf(&mut read).await.expect("it writes"), 0);
                    }
                };
                tokio::join!(ask, listen)
            };
            tokio::select! {
                () = serving => panic!("it ended"),
                done = timeout(IDLE / 6, exchange) => assert!(done.is_ok(), "something was not written"),
            }
            let text = String::from_utf8(read).expect("text");
            assert_eq!(text.matches("{\"pong\":1}").count(), pings, "{text}");
            assert_eq!(text.matches("HTTP/1.1 200 OK").count(), pings + 1, "{text}");
        }
    }
}
