//! Requests before the first message: host and join tokens, ids, event streams and the release of an id.

use std::{sync::Arc, time::Instant};

use hyper::{HeaderMap, StatusCode, Version, header::HOST};

use super::{
    answer::{self, Answer},
    fair_queue::Sender,
    listener::{Listener, StreamSettings},
    metrics::Refusal,
    query::{Param, Query},
    service::{RequestHead, Service},
    sessions::SubscribeError,
    stream::{StreamHead, Subscription},
    tokens::{Bearer, Verified, signature},
};
use uhst_proto::protocol::{HostReply, JoinReply, NativeHint, TokenKind};

impl Service {
    pub(super) fn host(&self, head: &RequestHead) -> Answer {
        let key = head.query.key.text();
        if self.config.host_key.as_deref().is_some_and(|wanted| !is_same(wanted, key.unwrap_or_default())) {
            return self.refuse(Refusal::Key);
        }
        let host_id = match &head.query.host_id {
            Param::One(id) if !id.is_empty() => {
                if self.sessions.is_taken(id) {
                    return answer::plain(StatusCode::BAD_REQUEST);
                }
                id.to_string()
            }
            Param::Many => return answer::plain(StatusCode::BAD_REQUEST),
            _ => match self.generate_id(head.headers) {
                Some(id) => id,
                None => return answer::plain(StatusCode::SERVICE_UNAVAILABLE),
            },
        };
        let Some(host_token) = self.tokens.issue(TokenKind::HostToken, &host_id, None) else {
            return answer::plain(StatusCode::SERVICE_UNAVAILABLE);
        };
        let batch = head.query.uhst != Param::Missing;
        answer::json(&HostReply { host_id, host_token, send_url: None, receive_url: None, batch })
    }

    /// Generates an id of random digits that is not in use. On a public relay the id starts with the relay's prefix.
    fn generate_id(&self, headers: &HeaderMap) -> Option<String> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let prefix = self.directory.as_ref().and_then(|directory| directory.prefix(host));
        let digits = self.config.id_digits.clamp(1, 18);
        let mut ids = std::iter::repeat_with(|| {
            // The lowest 62 bits of a v4 UUID are random.
            let number = uuid::Uuid::new_v4().as_u128() as u64 % (1 << 62) % 10_u64.pow(digits);
            let width = digits as usize;
            match &prefix {
                Some(prefix) => format!("{prefix}-{number:0width$}"),
                None => format!("{number:0width$}"),
            }
        });
        // The number of attempts is bounded because every id may be in use.
        ids.by_ref().take(1000).find(|id| !self.sessions.is_taken(id))
    }

    pub(super) fn join(&self, head: &RequestHead) -> Answer {
        let now = Instant::now();
        if self.join_limiter.as_ref().is_some_and(|join_limiter| !join_limiter.is_allowed(head.network, now)) {
            return self.refuse(Refusal::WrongJoins);
        }
        let host_id = head.query.host_id.text().unwrap_or_default();
        let Some(dialect) = self.sessions.host_dialect(host_id) else {
            if let Some(join_limiter) = self.join_limiter.as_ref().filter(|_| !self.sessions.is_known(host_id)) {
                join_limiter.record_failure(head.network, now);
            }
            return answer::plain(StatusCode::BAD_REQUEST);
        };
        let client_id = uuid::Uuid::new_v4().to_string();
        let Some(client_token) = self.tokens.issue(TokenKind::ClientToken, host_id, Some(&client_id)) else {
            return answer::plain(StatusCode::SERVICE_UNAVAILABLE);
        };
        let uhst = dialect.native.map(|v| NativeHint { v });
        let batch = head.query.uhst != Param::Missing;
        let texts = batch && dialect.texts;
        answer::json(&JoinReply { client_token, send_url: None, receive_url: None, uhst, batch, texts })
    }

    pub(super) fn listen(&self, head: &RequestHead) -> Answer {
        let query = &head.query;
        let bearer = match self.bearer(query) {
            Ok(bearer) => bearer,
            Err(StatusCode::BAD_REQUEST) => return answer::refuse_stream(StatusCode::BAD_REQUEST),
            Err(status) => return answer::plain(status),
        };
        let listener = |host: &Arc<str>, client: Sender| {
            let (chunked, capacity) = (head.version >= Version::HTTP_11, self.config.limits.queue_bytes as usize);
            let (network, scheduler, kill) = (head.network, self.scheduler.clone(), head.connection.kill.clone());
            Listener::new(host.clone(), client, StreamSettings { network, chunked, capacity, scheduler, kill })
        };
        let subscribed = match &bearer.bearer {
            Bearer::Host { host } => {
                let listener = listener(host, None);
                let native = query.uhst.text().and_then(|version| version.parse().ok());
                let token = signature(query.token.text().unwrap_or_default());
                self.sessions.subscribe_host(&listener, token, native).map(|()| listener)
            }
            Bearer::Client { host, client } => {
                let listener = listener(host, Some(client.clone()));
                self.sessions.subscribe_client(&listener, client).map(|()| listener)
            }
            Bearer::Response { .. } => Err(SubscribeError::Refused),
        };
        match subscribed {
            Ok(listener) => {
                // The id is logged quoted: it may contain any text, and a terminal may display the log.
                tracing::debug!(host = ?listener.host, client = ?listener.client, "listening");
                head.connection.set_listening();
                let subscription = Subscription::new(listener, self.sessions.clone(), self.config.keep_alive);
                answer::events(StreamHead::new(head.connection.subscription.clone(), subscription))
            }
            Err(SubscribeError::Refused) => answer::refuse_stream(StatusCode::BAD_REQUEST),
            Err(SubscribeError::Closing) => self.redirect(head),
            Err(SubscribeError::Full(refusal)) => {
                self.metrics.refused(refusal);
                answer::refuse_stream(StatusCode::SERVICE_UNAVAILABLE)
            }
        }
    }

    /// Releases the id of a host that leaves for good. The original relay has no such request.
    pub(super) fn release(&self, query: &Query) -> Answer {
        match self.bearer(query).as_deref() {
            Ok(Verified { bearer: Bearer::Host { host }, .. })
                if self.sessions.release(host, signature(query.token.text().unwrap_or_default())) =>
            {
                answer::json_text("{}")
            }
            Ok(_) => answer::plain(StatusCode::BAD_REQUEST),
            Err(status) => answer::plain(*status),
        }
    }
}

/// Compares two secrets in a time that does not reveal where they differ.
fn is_same(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}
