//! The errors of requests to a relay.

use std::{error::Error, time::Duration};

use crate::protocol::EndReason;

/// The longest wait that a relay may request. Longer waits are cut to this time.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(30);

/// The reason why a relay did not fulfil a request. The text follows the relay's URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RelayError {
    /// Status 400: the id is taken (host) or unknown (join), or the receiver does not listen (send).
    #[error("it refused the request (400)")]
    Rejected,
    /// Status 401: the token is from another relay, or from before a restart.
    #[error("it does not know this token (401)")]
    BadToken,
    /// Any other status.
    #[error("it answered with status {0}: is this the URL of a relay?")]
    Status(u16),
    /// A status with a `Retry-After`.
    #[error("it is busy (status {status}) and asks to come again in {} s", wait.as_secs())]
    Busy {
        /// The status.
        status: u16,
        /// When to try again.
        wait: Duration,
    },
    /// An answer that is not of this protocol: the server is probably no relay.
    #[error(
        "{0} is not that of a UHST relay: check the URL, and whether this network wants you to log in on a web page first"
    )]
    NotARelay(&'static str),
    /// An event above the limit.
    #[error("it sent an event larger than {0} bytes")]
    TooLarge(usize),
    /// Requests are answered, but nothing arrives on the event stream.
    #[error(
        "something between you and the relay holds back its event stream, such as a proxy or a virus scanner that \
         collects an answer before it passes it on: use an https:// relay, or another network"
    )]
    HeldBack,
    /// A redirect of a request with a secret to another server, named by its origin. A caller without the secret may repeat
    /// the request there.
    #[error("it redirects to another server, {0}: use the URL of that one, or log in to this network first")]
    Moved(String),
    /// There is no answer, or the connection broke.
    #[error("{0}")]
    Unreachable(String),
    /// The server accepts no connection.
    #[error("no connection ({0}): does the relay run there, and may this network reach it?")]
    NoConnection(String),
}

impl RelayError {
    /// Whether the relay itself is unreachable, and not just this request failed.
    pub fn is_gone(&self) -> bool {
        use RelayError::{HeldBack, Moved, NoConnection, Unreachable};
        matches!(self, Unreachable(_) | NoConnection(_) | HeldBack | Moved(_))
    }

    /// The shortest wait before the next request.
    pub fn wait(&self) -> Duration {
        match self {
            RelayError::Busy { wait, .. } => (*wait).min(MAX_WAIT),
            _ => Duration::ZERO,
        }
    }

    /// The end of a session whose relay has an unusable URL.
    pub fn into_not_started(self) -> EndReason {
        EndReason::NotStarted(self.to_string())
    }

    /// Converts an error of the HTTP client. Drops the URL, whose query holds a token.
    pub fn of_transport(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if error.is_timeout() {
            return RelayError::NoConnection("no answer in time".to_owned());
        }
        let cause = root_cause(&error);
        if is_refused_connection(&error) { RelayError::NoConnection(cause) } else { RelayError::Unreachable(cause) }
    }

    /// Converts the error that ended an event stream.
    pub fn of_broken_stream(error: &(dyn Error + 'static)) -> Self {
        RelayError::Unreachable(format!("its event stream broke ({})", root_cause(error)))
    }
}

/// Whether the server accepts no connection.
#[cfg(not(target_family = "wasm"))]
fn is_refused_connection(error: &reqwest::Error) -> bool {
    error.is_connect()
}

/// Whether the server accepts no connection. Browsers do not tell that from any other failure.
#[cfg(target_family = "wasm")]
fn is_refused_connection(error: &reqwest::Error) -> bool {
    error.is_request()
}

/// The words of an innermost error.
#[cfg(not(target_family = "wasm"))]
fn words(error: String) -> String {
    error
}

/// The words of an innermost error. In a browser it is an exception, whose other lines say where it was thrown.
#[cfg(target_family = "wasm")]
fn words(error: String) -> String {
    let first = error.lines().next().unwrap_or_default();
    first.trim_start_matches("JsValue(").trim_end_matches(')').to_owned()
}

/// The innermost error, which names the cause. The outer ones name the place, and often repeat it.
fn root_cause(mut error: &(dyn Error + 'static)) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    words(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("transport error: {0}")]
    struct Outer(#[source] Box<dyn Error + Send + Sync>);

    #[test]
    fn only_the_cause_of_an_error_is_shown() {
        let reset = std::io::Error::other("connection reset by peer");
        let error = Outer(Box::new(Outer(Box::new(reset))));
        assert_eq!(error.to_string(), "transport error: transport error: connection reset by peer");
        let words = "its event stream broke (connection reset by peer)";
        assert_eq!(RelayError::of_broken_stream(&error), RelayError::Unreachable(words.to_owned()));
    }

    #[test]
    fn waits_are_bounded() {
        let busy = |wait| RelayError::Busy { status: 503, wait: Duration::from_secs(wait) }.wait();
        assert_eq!((busy(7), busy(u64::MAX)), (Duration::from_secs(7), MAX_WAIT));
        assert_eq!(RelayError::Status(503).wait(), Duration::ZERO);
    }
}
