//! The task of a host: keeps the id and the event stream, and passes each message to the task of its sender.

mod accepting;
mod dispatch;
mod former_peers;
mod handshake_limits;
mod outputs;
mod peer_table;
mod settings;

use std::{sync::Arc, time::Duration};

use n0_future::time::{Instant, timeout};
use tokio::sync::mpsc;

use self::{former_peers::FormerPeers, handshake_limits::HandshakeLimits, peer_table::PeerTable};
use super::{
    contract::{Event, EventKind, HostOptions, PeerKey, SessionCommand, SessionKey, wait_for_leave},
    embedded::Embedded,
    host_start::{Listening, start},
    peer_link::{PeerInput, PeerOutput},
    players::Players,
    relay_error::RelayError,
    relay_session::{RelayEvent, RelaySession},
    report::{BadInput, Reporter},
    slots::Slots,
};
use crate::{
    connection::StaticKey,
    protocol::{EndReason, JoinLink},
};

/// How long the tasks of peers have for their last packet after the time to drain.
const GOODBYE: Duration = Duration::from_millis(2500);

/// Runs a host to its end, and reports the end.
pub(super) async fn run(
    session: SessionKey,
    mut options: HostOptions,
    events: crossbeam_channel::Sender<Event>,
    mut commands: mpsc::UnboundedReceiver<SessionCommand>,
) {
    let mut embedded = None;
    let started = tokio::select! {
        started = async {
            let key = options.session.key()?;
            start(&options, &mut embedded).await.map(|listening| (listening, key))
        } => started,
        () = wait_for_leave(&mut commands) => Err(EndReason::EndedLocally),
    };
    let reason = match started {
        Ok((listening, key)) => {
            let links = match &embedded {
                Some(embedded) => embedded.links(&listening.id),
                None => vec![JoinLink::new(listening.relay.url(), &listening.id)],
            };
            let links = with_key(links, &key);
            let kind = EventKind::Ready { id: listening.id.clone(), links };
            let _ = events.send(Event { session, kind });
            Host::new(session, (options, key), events.clone(), listening).run(commands, embedded.as_ref()).await
        }
        Err(reason) => reason,
    };
    if let Some(embedded) = embedded {
        embedded.stop().await;
    }
    let _ = events.send(Event { session, kind: EventKind::Ended { reason } });
}

/// Adds the hash of the host's key to its links.
fn with_key(links: Vec<JoinLink>, key: &StaticKey) -> Vec<JoinLink> {
    let key = key.public().hash();
    links.into_iter().map(|link| link.with_key(key)).collect()
}

struct Host {
    session: SessionKey,
    options: HostOptions,
    /// The key of this host, by which joiners know it.
    key: StaticKey,
    events: crossbeam_channel::Sender<Event>,
    relay: RelaySession,
    slots: Arc<Slots>,
    players: Arc<Players>,
    peers: PeerTable,
    former: FormerPeers,
    limits: HandshakeLimits,
    /// When the timestamps of all connections begin, so that their timers fall together.
    origin: Instant,
    /// Whether unknown peers may join: until the host ends.
    accepting: bool,
    outputs: mpsc::UnboundedSender<(PeerKey, PeerOutput)>,
    outputs_receiver: mpsc::UnboundedReceiver<(PeerKey, PeerOutput)>,
    reporter: Reporter,
}

impl Host {
    fn new(
        session: SessionKey,
        (options, key): (HostOptions, StaticKey),
        events: crossbeam_channel::Sender<Event>,
        Listening { relay, id, access, stream }: Listening,
    ) -> Self {
        let (outputs, outputs_receiver) = mpsc::unbounded_channel();
        let window = options.session.connection.resume_timeout;
        Host {
            session,
            slots: Slots::new(options.max_peers, options.replace_interrupted, options.locked),
            players: Arc::default(),
            options,
            key,
            reporter: Reporter::new(session, events.clone()),
            events,
            relay: RelaySession::of_host(relay, id, access, stream, window),
            peers: PeerTable::default(),
            former: FormerPeers::default(),
            limits: HandshakeLimits::new(Instant::now()),
            origin: Instant::now(),
            accepting: true,
            outputs,
            outputs_receiver,
        }
    }

    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<SessionCommand>,
        embedded: Option<&Embedded>,
    ) -> EndReason {
        loop {
            tokio::select! {
                event = self.relay.next() => match event {
                    // Peers on direct paths do not need the relay.
                    RelayEvent::StillLost(error) if self.peers.is_empty() => {
                        let reason = match error {
                            RelayError::Rejected => EndReason::HostIdInUse,
                            error => self.relay.client().unreachable(&error),
                        };
                        return self.end(reason, commands).await;
                    }
                    event => self.relay_event(event, embedded).await,
                },
                Some((key, output)) = self.outputs_receiver.recv() => self.output(key, output).await,
                command = commands.recv() => match command {
                    Some(SessionCommand::Leave) | None => return self.end(EndReason::EndedLocally, commands).await,
                    Some(command) => self.command(command).await,
                },
            }
        }
    }

    /// Disconnects all peers, waits for their tasks, and releases the id.
    async fn end(mut self, reason: EndReason, mut commands: mpsc::UnboundedReceiver<SessionCommand>) -> EndReason {
        self.accepting = false;
        self.peers.send_to_all(|| PeerInput::Disconnect(reason.clone())).await;
        let limit = self.options.session.connection.drain_timeout + GOODBYE;
        let _ = timeout(limit, self.wait_for_peers(&mut commands)).await;
        // Tasks that are still there end with their inputs, and report nothing: this task does.
        self.relay.client().release(self.relay.access()).await;
        reason
    }

    /// Serves peers until all have ended. They acknowledge what they are sent, and those whose paths are cut resume to
    /// receive it.
    async fn wait_for_peers(&mut self, commands: &mut mpsc::UnboundedReceiver<SessionCommand>) {
        while !self.peers.is_empty() {
            tokio::select! {
                Some(command) = commands.recv() => match command {
                    SessionCommand::GiveUp => self.peers.send_to_all(|| PeerInput::GiveUp).await,
                    SessionCommand::Conditions(_) => self.command(command).await,
                    // The other settings are for those who join.
                    _ => {}
                },
                event = self.relay.next() => self.relay_event(event, None).await,
                Some((key, output)) = self.outputs_receiver.recv() => self.output(key, output).await,
            }
        }
    }

    async fn relay_event(&mut self, event: RelayEvent, embedded: Option<&Embedded>) {
        match event {
            RelayEvent::Event(event) => self.dispatch(event).await,
            RelayEvent::Malformed(error) => self.reporter.report_once(BadInput::Event, || error.to_string()),
            RelayEvent::Lost(error) => self.relay_lost(&error).await,
            RelayEvent::Back { moved } => {
                self.reporter.report("the relay is back".to_owned());
                if moved {
                    let link = JoinLink::new(self.relay.client().url(), self.relay.id());
                    self.emit(EventKind::Links(with_key(vec![link], &self.key)));
                }
                self.peers.send_to_all(|| PeerInput::RelayUp(None)).await;
            }
            RelayEvent::StillLost(_) => {}
            RelayEvent::AddressesChanged(change) => {
                if let Some(embedded) = embedded {
                    self.emit(EventKind::Links(with_key(embedded.links(self.relay.id()), &self.key)));
                }
                self.peers.send_to_all(|| PeerInput::AddressesChanged(change)).await;
            }
        }
    }

    async fn relay_lost(&mut self, error: &RelayError) {
        self.reporter.report(format!("the relay is lost: {error}"));
        self.peers.send_to_all(|| PeerInput::RelayDown).await;
    }

    fn emit(&self, kind: EventKind) {
        let _ = self.events.send(Event { session: self.session, kind });
    }
}
