//! What can go wrong with a request to a relay.

/// A request that a relay did not fulfil.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RelayError {
    /// 400: the id is taken (host), unknown (join), or its bearer is not listening (send).
    #[error("the relay refused the request (400)")]
    Rejected,
    /// 401: a token of another relay, or of this one before it restarted.
    #[error("the relay does not know this token (401)")]
    BadToken,
    /// Any other status.
    #[error("the relay answered with status {0}")]
    Status(u16),
    /// An answer that is not of this protocol: probably not a relay.
    #[error("{0} is not an answer of a UHST relay: check the relay's URL")]
    Nonsense(&'static str),
    /// More than this crate reads.
    #[error("the relay sent an event larger than {0} bytes")]
    TooLarge(usize),
    /// No answer, or the connection broke.
    #[error("{0}")]
    Unreachable(String),
}

impl RelayError {
    /// The error of a status, if it is one. Any 2xx is a success: relay 2.1.1 answers sends with `OK` instead of `{}`.
    pub fn of_status(status: u16) -> Result<(), Self> {
        match status {
            200..=299 => Ok(()),
            400 => Err(RelayError::Rejected),
            401 => Err(RelayError::BadToken),
            status => Err(RelayError::Status(status)),
        }
    }

    /// Without the URL, whose query holds a token.
    pub fn of_transport(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            let inner_text = inner.to_string();
            if !text.contains(&inner_text) {
                text.push_str(": ");
                text.push_str(&inner_text);
            }
            source = inner.source();
        }
        RelayError::Unreachable(text)
    }
}
