//! The delivery of messages from a request body to the queues of the listeners.

use std::sync::Arc;

use hyper::StatusCode;

use super::{
    answer::{self, Answer},
    body::Message,
    budget::Charge,
    event::EncodedEvent,
    fair_queue::{EVENT_COST, Enqueued, Sender},
    listener::{EnqueueError, Listener},
    metrics::Refusal,
    query::Param,
    service::{RequestHead, Service},
    sessions::Dialect,
    subscribers::{Subscribers, reply},
    ticket::Ticket,
    tokens::{Bearer, SenderInfo, Verified, signature},
};

/// The start of an event for a client.
const PLAIN: [&str; 1] = ["data: {\"body\":"];

/// A message for one listener.
struct Delivery {
    listener: Arc<Listener>,
    /// The client that sent it, or `None` for the host.
    sender: Sender,
    /// The event, or the response to send because it cannot be built.
    event: Result<EncodedEvent, Answer>,
}

impl Service {
    /// Delivers a message in the order of its sender, and returns the response.
    pub(super) async fn send(
        &self,
        head: &RequestHead<'_>,
        sender: &Verified,
        ticket: Ticket,
        message: &Message,
        charge: Charge,
    ) -> Answer {
        ticket.wait_turn().await;
        let delivery = match &sender.bearer {
            Bearer::Client { host, client } => self.to_host(head, sender, (host, client), message),
            Bearer::Response { host, client, host_tag } => {
                self.to_client(head, (host, client), host_tag.as_deref(), message)
            }
            Bearer::Host { host } => {
                let token = signature(head.query.token.text().unwrap_or_default());
                let Some(subscribers) = self.sessions.subscribers(host, token) else { return undeliverable(message) };
                return match self.event(head, &PLAIN, message) {
                    Ok(event) => self.broadcast(&subscribers, &event),
                    Err(answer) => answer,
                };
            }
        };
        let Some(Delivery { listener, sender, event }) = delivery else { return undeliverable(message) };
        drop(charge);
        let event = match event {
            Ok(event) => event,
            Err(answer) => return answer,
        };
        let bytes = event.len();
        let enqueued = listener.enqueue(&sender, &event);
        // A queued message keeps its position, so the next message of this sender may follow.
        drop((event, ticket));
        let sent = match enqueued {
            Ok(Enqueued::Queued) => Ok(()),
            Ok(Enqueued::Waiting(queued)) => listener.wait(queued, self.config.patience).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => {
                self.metrics.delivered(bytes, 1);
                answer::json_text("{}")
            }
            Err(EnqueueError::Crowded) => self.refuse(Refusal::Waiting),
            Err(EnqueueError::Full) => {
                self.drop_slow_listener(&listener);
                answer::plain(StatusCode::BAD_REQUEST)
            }
            Err(EnqueueError::Gone) => answer::plain(StatusCode::BAD_REQUEST),
        }
    }

    /// Returns the delivery of a client's message, with a token to answer it, or `None` if no host listens.
    fn to_host(
        &self,
        head: &RequestHead<'_>,
        sender: &Verified,
        (host, client): (&Arc<str>, &Arc<str>),
        message: &Message,
    ) -> Option<Delivery> {
        let (listener, host_signature) = self.sessions.host(host)?;
        let listens = self.sessions.client(host, client, None).is_some();
        let from = SenderInfo { network: head.network, listens };
        let token = self.tokens.respond(sender, from, host, client, &host_signature);
        let event = self.event(head, &["data: {\"responseToken\":\"", &token, "\",\"body\":"], message);
        Some(Delivery { listener, sender: Some(client.clone()), event })
    }

    /// Returns the delivery of a host's message, or `None` if the client does not listen.
    fn to_client(
        &self,
        head: &RequestHead<'_>,
        (host, client): (&Arc<str>, &Arc<str>),
        host_tag: Option<&str>,
        message: &Message,
    ) -> Option<Delivery> {
        let listener = self.sessions.client(host, client, host_tag)?;
        if self.sessions.host_dialect(host).is_some_and(Dialect::is_open) && message.is_text() {
            self.sessions.host_texts(host);
        }
        Some(Delivery { listener, sender: None, event: self.event(head, &PLAIN, message) })
    }

    /// Builds the event of a message, or one event for each message of a batch. Returns the response to send if that
    /// fails.
    #[expect(clippy::result_large_err, reason = "the error is the answer, which every request moves anyway")]
    fn event(&self, head: &RequestHead<'_>, start: &[&str], message: &Message) -> Result<EncodedEvent, Answer> {
        let messages = match head.query.batch {
            Param::Missing => std::slice::from_ref(message),
            _ => &message.parts().map_err(answer::bad_body)?,
        };
        let around = start.iter().map(|part| part.len()).sum::<usize>() + 3;
        let size = messages.iter().map(|message| around + message.len()).sum::<usize>();
        let Some(charge) = self.budget.charge(head.network, size + EVENT_COST) else {
            return Err(self.refuse(Refusal::Bytes));
        };
        let write = |out: &mut Vec<u8>| {
            for message in messages {
                start.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
                message.write(out)?;
                out.extend_from_slice(b"}\n\n");
            }
            Ok(())
        };
        EncodedEvent::charged(size, write, charge).map_err(answer::bad_body)
    }

    /// Sends an event to all subscribers without waiting. The relay drops a listener whose queue is full. The response
    /// names the clients that received the event.
    fn broadcast(&self, subscribers: &Subscribers, event: &EncodedEvent) -> Answer {
        let mut missed = Vec::new();
        for (index, listener) in subscribers.listeners.iter().enumerate() {
            match listener.push(&None, event) {
                Ok(()) => {}
                Err(error) => {
                    missed.push(index);
                    if error == EnqueueError::Full {
                        self.drop_slow_listener(listener);
                    }
                }
            }
        }
        self.metrics.delivered(event.len(), subscribers.listeners.len() - missed.len());
        if missed.is_empty() {
            return answer::json_text(subscribers.reply.clone());
        }
        let reached =
            subscribers.listeners.iter().enumerate().filter(|(index, _)| missed.binary_search(index).is_err());
        answer::json_text(reply(reached.map(|(_, listener)| listener)))
    }

    fn drop_slow_listener(&self, listener: &Arc<Listener>) {
        tracing::debug!(host = ?listener.host, client = ?listener.client, "dropped a listener that does not read");
        self.metrics.dropped.increment(1);
        listener.kill();
        self.sessions.unsubscribe(listener);
    }
}

/// Returns the response to a message without a recipient. The body is parsed first, as in the original.
fn undeliverable(message: &Message) -> Answer {
    match message.write(&mut Vec::new()) {
        Ok(()) => answer::plain(StatusCode::BAD_REQUEST),
        Err(status) => answer::bad_body(status),
    }
}
