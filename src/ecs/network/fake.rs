//! A network that a unit test plays.

use std::sync::{Arc, Mutex};

use bevy::prelude::{App, Entity, MinimalPlugins};
use tokio::sync::mpsc;

use bytes::Bytes;

use super::*;
use crate::{
    UhstChannel,
    ecs::{peer_table::Remote, session},
    net::contract::{PeerCommand, PeerHandle, PeerKey, PeerLimits, Received, SessionCommand},
    protocol::Tag,
};

pub struct Started {
    pub key: SessionKey,
    pub commands: mpsc::UnboundedReceiver<SessionCommand>,
}

/// What a peer of these tests can take.
pub const LIMITS: PeerLimits = PeerLimits {
    max_message: 1000,
    send_buffer: 2000,
    text_only: false,
    native: true,
    catch_up_timeout: Duration::from_millis(50),
};

/// An app whose sessions are only noted, and that keeps a log.
pub fn app() -> App {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, crate::UhstPlugin::default()));
    crate::test_app::record(&mut app);
    app.world_mut().resource_mut::<Network>().fake = Some(Arc::new(Mutex::new(Vec::new())));
    app.finish();
    app.cleanup();
    app
}

/// The session that was started last.
pub fn started(app: &App) -> Started {
    app.world().resource::<Network>().fake.as_ref().unwrap().lock().unwrap().pop().expect("a session was started")
}

pub fn push(app: &App, session: SessionKey, kind: EventKind) {
    app.world().resource::<Network>().sender.send(Event { session, kind }).unwrap();
}

pub fn push_ready(app: &App, session: SessionKey) {
    push(app, session, EventKind::Ready { id: "483920".to_owned(), links: Vec::new() });
}

/// Connects a peer, and updates the app.
pub fn connect(app: &mut App, session: SessionKey, peer: u64) -> (Entity, mpsc::UnboundedReceiver<PeerCommand>) {
    let (handle, commands) = PeerHandle::new(LIMITS);
    push(app, session, EventKind::Connected { peer: PeerKey(peer), handle, metadata: Bytes::new() });
    app.update();
    (peer_of(app, session, peer).entity, commands)
}

/// A connected peer.
pub fn peer_of(app: &App, session: SessionKey, peer: u64) -> &Remote {
    let owner = app.world().resource::<Network>().owner(session).expect("it runs");
    let state = session::state(app.world(), owner).expect("its component is there");
    state.peers.get(PeerKey(peer)).expect("connected")
}

pub fn push_texts(app: &App, session: SessionKey, peer: u64, texts: &[&str]) {
    let untyped = |text: &&str| Received { channel: UhstChannel::Reliable, tag: Tag::Untyped, payload: (*text).into() };
    let messages = texts.iter().map(untyped).collect();
    push(app, session, EventKind::Messages { peer: PeerKey(peer), messages });
}

/// The log in short words, emptied: names of events, texts of messages.
pub fn log(app: &mut App) -> Vec<String> {
    let mut log = app.world_mut().resource_mut::<crate::test_app::TestLog>();
    log.0.drain(..).map(|event| in_short(&event)).collect()
}

fn in_short(event: &crate::test_app::TestEvent) -> String {
    use crate::test_app::TestEvent as E;
    match event {
        E::Ready(ready) => format!("ready {}", ready.id),
        E::JoinRequest(_) => "join request".to_owned(),
        E::JoinAbandoned(end) => format!("abandoned: {}", end.reason),
        E::Connected(_) => "connected".to_owned(),
        E::Rejoined(_) => "rejoined".to_owned(),
        E::Message(message) => message.payload.as_text().unwrap_or("binary").to_owned(),
        E::PathChanged(_) => "path changed".to_owned(),
        E::Interrupted(interrupted) => format!("interrupted: {:?}", interrupted.reason),
        E::Resumed(_) => "resumed".to_owned(),
        E::Diagnostic(diagnostic) => diagnostic.text.clone(),
        E::Disconnected(end) => format!("disconnected: {}", end.reason),
        E::Ended(end) => format!("ended: {}", end.reason),
    }
}
