//! The task of a client: keeps the event stream open and feeds the task of its one peer, the host.

use n0_future::task;
use tokio::sync::mpsc;

use super::{
    client_peer,
    client_start::{Found, find},
    contract::{ClientOptions, Event, EventKind, PeerKey, SessionCommand, SessionKey, wait_for_leave},
    peer_link::{PeerContext, PeerInput, PeerOutput, peer_inputs},
    relay_client::RelayClient,
    relay_error::RelayError,
    relay_session::{RelayEvent, RelaySession},
    report::{BadInput, Reporter},
};
use crate::protocol::{Body, EndReason, JoinLink, StreamEvent};

/// The key of a client's only peer.
const HOST: PeerKey = PeerKey(0);

/// Runs a client to its end, and reports the end.
pub(super) async fn run(
    session: SessionKey,
    options: ClientOptions,
    events: crossbeam_channel::Sender<Event>,
    mut commands: mpsc::UnboundedReceiver<SessionCommand>,
) {
    let found = tokio::select! {
        found = find(&options) => found,
        () = wait_for_leave(&mut commands) => Err(EndReason::EndedLocally),
    };
    let reason = match found {
        Ok(found) => {
            let link = JoinLink::new(found.relay.url(), &found.id).with_key(options.target.key());
            let kind = EventKind::Ready { id: found.id.clone(), links: vec![link] };
            let _ = events.send(Event { session, kind });
            Client::start(session, options, events.clone(), found).run(commands).await
        }
        Err(reason) => reason,
    };
    let _ = events.send(Event { session, kind: EventKind::Ended { reason } });
}

struct Client {
    relay: RelaySession,
    inputs: mpsc::Sender<PeerInput>,
    outputs: mpsc::UnboundedReceiver<(PeerKey, PeerOutput)>,
    reporter: Reporter,
    /// The last error of the relay, while it is lost.
    relay_error: Option<RelayError>,
    leaving: bool,
    /// Whether the app has dropped the session, so that no command follows.
    deserted: bool,
    /// Whether the host has answered once. It may then be gone for reasons of its own.
    answered: bool,
}

impl Client {
    /// Starts the task of the host as a peer.
    fn start(
        session: SessionKey,
        options: ClientOptions,
        events: crossbeam_channel::Sender<Event>,
        Found { relay, id, joined, stream }: Found,
    ) -> Self {
        let (sender, outputs) = mpsc::unbounded_channel();
        let (inputs, receiver) = peer_inputs();
        let cx = PeerContext::new((session, HOST), events.clone(), sender, relay.clone(), &options.session);
        let route = joined.access.clone().into();
        let target = (id.clone(), options.target.key());
        task::spawn(client_peer::run(cx, options.session, target, joined.hint, route, receiver));
        Client {
            relay: RelaySession::of_client(relay, id, joined.access, stream),
            inputs,
            outputs,
            reporter: Reporter::new(session, events),
            relay_error: None,
            leaving: false,
            deserted: false,
            answered: false,
        }
    }

    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<SessionCommand>) -> EndReason {
        loop {
            tokio::select! {
                event = self.relay.next() => self.relay_event(event).await,
                Some((_, output)) = self.outputs.recv() => match output {
                    PeerOutput::Ended(end) => return self.end_reason(end.reason),
                    output => self.output(output).await,
                },
                command = commands.recv(), if !self.deserted => self.command(command).await,
            }
        }
    }

    async fn relay_event(&mut self, event: RelayEvent) {
        match event {
            RelayEvent::Event(event) => self.receive(event).await,
            RelayEvent::Malformed(error) => self.reporter.report_once(BadInput::Event, || error.to_string()),
            RelayEvent::Lost(error) => self.relay_lost(error).await,
            RelayEvent::Back { .. } => {
                self.relay_error = None;
                self.reporter.report("the relay is back".to_owned());
                let route = self.relay.access().clone().into();
                self.send(PeerInput::RelayUp(Some(route))).await;
            }
            RelayEvent::StillLost(error) => {
                tracing::debug!("joining again failed: {error}");
                self.relay_error = Some(error);
            }
            RelayEvent::AddressesChanged(change) => self.send(PeerInput::AddressesChanged(change)).await,
        }
    }

    async fn receive(&mut self, event: StreamEvent) {
        let input = match event {
            StreamEvent::Message { body, .. } => match Body::parse(body.get()) {
                Ok(body) => PeerInput::Body(body, None),
                Err(error) => {
                    let text = || format!("the host sent a message that cannot be read: {error}");
                    return self.reporter.report_once(BadInput::Body, text);
                }
            },
            StreamEvent::HostClosed(_) => PeerInput::PeerClosed,
            StreamEvent::ClientClosed(_) => return,
        };
        self.send(input).await;
    }

    async fn output(&mut self, output: PeerOutput) {
        let error = match output {
            PeerOutput::BadToken => RelayError::BadToken,
            PeerOutput::RelayGone(error) => error,
            PeerOutput::RelaySilent => RelayError::Unreachable("nothing comes over its event stream".to_owned()),
            PeerOutput::Identified(_) => {
                self.answered = true;
                return;
            }
            PeerOutput::HasSlot
            | PeerOutput::WrongPassword
            | PeerOutput::JoinsAgain(_)
            | PeerOutput::Dismissed(_)
            | PeerOutput::Was(_)
            | PeerOutput::WantsSlot
            | PeerOutput::Interrupted(_)
            | PeerOutput::Rebound(_)
            | PeerOutput::Ended(_) => return,
        };
        if self.relay.give_up_stream() {
            self.relay_lost(error).await;
        }
    }

    async fn command(&mut self, command: Option<SessionCommand>) {
        match command {
            // Settings of hosts.
            Some(
                SessionCommand::Decide { .. }
                | SessionCommand::MaxPeers(_)
                | SessionCommand::Password(_)
                | SessionCommand::Locked(_),
            ) => {}
            Some(SessionCommand::GiveUp) => self.send(PeerInput::GiveUp).await,
            Some(SessionCommand::Conditions(conditions)) => self.send(PeerInput::Conditions(conditions)).await,
            // Dropping the handle leaves, too.
            Some(SessionCommand::Leave) | None => {
                self.deserted |= command.is_none();
                if !std::mem::replace(&mut self.leaving, true) {
                    self.send(PeerInput::Disconnect(EndReason::EndedLocally)).await;
                }
            }
        }
    }

    async fn relay_lost(&mut self, error: RelayError) {
        self.reporter.report(format!("the relay is lost: {error}"));
        self.relay_error = Some(error);
        self.send(PeerInput::RelayDown).await;
    }

    async fn send(&mut self, input: PeerInput) {
        // A task that has ended needs no input.
        let _ = self.inputs.send(input).await;
    }

    fn end_reason(self, reason: EndReason) -> EndReason {
        end_reason(reason, self.relay_error.filter(|_| !self.answered), self.relay.client())
    }
}

/// The reason of the session's end. A host that the relay kept us from reaching did not time out. The relay's last error
/// counts, since the first depends on which request was under way. A relay that rejects us is reachable, and knows no such
/// host.
fn end_reason(reason: EndReason, relay_error: Option<RelayError>, relay: &RelayClient) -> EndReason {
    match (reason, relay_error) {
        (EndReason::TimedOut, Some(RelayError::Rejected)) => EndReason::NoSuchHost,
        (EndReason::TimedOut, Some(error)) => relay.unreachable(&error),
        (reason, _) => reason,
    }
}

#[cfg(test)]
mod tests;
