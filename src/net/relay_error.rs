//! What can go wrong with a request to a relay.

use std::{error::Error, time::Duration};

/// The longest wait that a relay may ask for. Who asks for more is asked again after this time.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(30);

/// A request that a relay did not fulfil. Its words go behind the relay's URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RelayError {
    /// 400: the id is taken (host), unknown (join), or its bearer is not listening (send).
    #[error("it refused the request (400)")]
    Rejected,
    /// 401: a token of another relay, or of this one before it restarted.
    #[error("it does not know this token (401)")]
    BadToken,
    /// Any other status.
    #[error("it answered with status {0}: is this the URL of a relay?")]
    Status(u16),
    /// A status with the advice to come again.
    #[error("it is busy (status {status}) and asks to come again in {} s", wait.as_secs())]
    Busy {
        /// What it answered.
        status: u16,
        /// When to ask again.
        wait: Duration,
    },
    /// An answer that is not of this protocol: probably not a relay.
    #[error(
        "{0} is not that of a UHST relay: check the URL, and whether this network wants you to log in on a web page first"
    )]
    Nonsense(&'static str),
    /// More than this crate reads.
    #[error("it sent an event larger than {0} bytes")]
    TooLarge(usize),
    /// Requests are answered, and of the event stream nothing comes.
    #[error(
        "something between you and the relay holds back its event stream, such as a proxy or a virus scanner that \
         collects an answer before it passes it on: use an https:// relay, or another network"
    )]
    HeldBack,
    /// It sends a request that holds a secret to another server, by its origin. Whoever may tell that one something
    /// asks it anew.
    #[error("it redirects to another server, {0}: use the URL of that one, or log in to this network first")]
    Moved(String),
    /// No answer, or the connection broke.
    #[error("{0}")]
    Unreachable(String),
    /// Nobody takes connections there.
    #[error("no connection ({0}): does the relay run there, and may this network reach it?")]
    NoConnection(String),
}

impl RelayError {
    /// Whether the relay itself is out of reach, and not just this request.
    pub fn is_gone(&self) -> bool {
        use RelayError::{HeldBack, Moved, NoConnection, Unreachable};
        matches!(self, Unreachable(_) | NoConnection(_) | HeldBack | Moved(_))
    }

    /// How long to wait before the next request, at least.
    pub fn wait(&self) -> Duration {
        match self {
            RelayError::Busy { wait, .. } => (*wait).min(MAX_WAIT),
            _ => Duration::ZERO,
        }
    }

    /// Without the URL, whose query holds a token.
    pub fn of_transport(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if error.is_timeout() {
            return RelayError::NoConnection("no answer in time".to_owned());
        }
        let cause = root_cause(&error);
        if error.is_connect() { RelayError::NoConnection(cause) } else { RelayError::Unreachable(cause) }
    }

    /// An event stream that ended in an error.
    pub fn of_broken_stream(error: &(dyn Error + 'static)) -> Self {
        RelayError::Unreachable(format!("its event stream broke ({})", root_cause(error)))
    }
}

/// The innermost error, which says what happened. Those around it say where, and often repeat it.
fn root_cause(mut error: &(dyn Error + 'static)) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("transport error: {0}")]
    struct Outer(#[source] Box<dyn Error + Send + Sync>);

    #[test]
    fn the_cause_is_told_once_and_without_what_is_around_it() {
        let reset = std::io::Error::other("connection reset by peer");
        let error = Outer(Box::new(Outer(Box::new(reset))));
        assert_eq!(error.to_string(), "transport error: transport error: connection reset by peer");
        let words = "its event stream broke (connection reset by peer)";
        assert_eq!(RelayError::of_broken_stream(&error), RelayError::Unreachable(words.to_owned()));
    }

    #[test]
    fn nobody_waits_forever() {
        let busy = |wait| RelayError::Busy { status: 503, wait: Duration::from_secs(wait) }.wait();
        assert_eq!((busy(7), busy(u64::MAX)), (Duration::from_secs(7), MAX_WAIT));
        assert_eq!(RelayError::Status(503).wait(), Duration::ZERO);
    }
}
