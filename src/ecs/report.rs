//! What developers are told: diagnostics, and messages that this app cannot read.

use bevy::prelude::*;

use super::{PeerOf, UhstDiagnostic, UhstPeer};
use crate::protocol::{Tag, shown};

/// The longest diagnostic in bytes: what is longer is cut.
pub(super) const LONGEST_DIAGNOSTIC: usize = 2000;

/// A kind of message that this app cannot read. Each is reported once for each peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Nobody here takes it.
    UnknownTag,
    /// It is no value of the registered type with this index.
    Undecoded(u16),
}

/// Describes a message that nobody here takes.
pub(super) fn unknown_tag(tag: Tag) -> String {
    format!("a message for {tag:?}, which this app does not know, was dropped")
}

/// Reports, once for each peer, that nobody here takes such a message.
#[cfg(feature = "replicon")]
pub(crate) fn report_unknown_tag(world: &mut World, peer: Entity, tag: Tag) {
    report_once(world, peer, Unreadable::UnknownTag, unknown_tag(tag));
}

/// Reports a message that cannot be read, unless one of this kind from this peer was reported before.
pub(super) fn report_once(world: &mut World, peer: Entity, kind: Unreadable, text: String) {
    let Some(session) = world.get::<PeerOf>(peer).map(|of| of.0) else { return };
    let Some(mut component) = world.get_mut::<UhstPeer>(peer) else { return };
    if component.bypass_change_detection().is_first_report(kind) {
        diagnose(world, session, Some(peer), text);
    }
}

/// Triggers a [`UhstDiagnostic`], and logs it.
pub(super) fn diagnose(world: &mut World, session: Entity, peer: Option<Entity>, text: String) {
    // Some of it may be in a peer's or a relay's own words.
    let text = shown(&text, LONGEST_DIAGNOSTIC);
    tracing::warn!("{text}");
    world.trigger(UhstDiagnostic { entity: session, peer, text });
    world.flush();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        UhstHost,
        ecs::network::fake::{app, push, started},
        net::contract::EventKind,
        test_app::{TestEvent, TestLog},
    };

    #[test]
    fn what_others_say_is_cut_and_moves_no_cursor() {
        let mut app = app();
        app.world_mut().spawn(UhstHost::any_id());
        let text = format!("the relay sent an unknown relay event: \u{1b}[2J\n\u{9b}31m{}", "ö".repeat(10_000));
        push(&app, started(&app).key, EventKind::Diagnostic { peer: None, text });
        app.update();
        let TestEvent::Diagnostic(event) = &TestLog::of(&app).0[0] else { panic!("{:?}", TestLog::of(&app)) };
        assert!(event.text.starts_with("the relay sent an unknown relay event:  [2J  31mö"), "{}", event.text);
        assert!(event.text.len() <= LONGEST_DIAGNOSTIC && !event.text.contains(char::is_control));
    }
}
