//! Tests of what a host sends, and to whom.

use super::*;
use crate::{
    ecs::network::fake::{LIMITS, app, connect, log, started},
    net::contract::PeerCommand,
};

fn sent(commands: &mut tokio::sync::mpsc::UnboundedReceiver<PeerCommand>) -> Vec<(UhstChannel, Payload)> {
    std::iter::from_fn(|| commands.try_recv().ok())
        .filter_map(|command| match command {
            PeerCommand::Send { channel, payload, .. } => Some((channel, payload)),
            PeerCommand::Disconnect(reason) => Some((UhstChannel::Reliable, reason.to_string().into())),
            PeerCommand::Conditions(_) | PeerCommand::Report(_) => None,
        })
        .collect()
}

#[test]
fn a_broadcast_reaches_everyone_it_is_meant_for_in_the_same_frame() {
    let mut app = app();
    let session = app.world_mut().spawn(UhstHost::any_id()).id();
    let key = started(&app).key;
    let (first, mut one) = connect(&mut app, key, 1);
    let (second, mut two) = connect(&mut app, key, 2);
    let host = app.world().get::<UhstHost>(session).unwrap();
    assert_eq!(host.broadcast("all"), BroadcastReport { peers: 2, missed: 0, cause: None });
    host.broadcast_except(second, "one");
    host.broadcast_on(UhstChannel::Unreliable, vec![1, 2]);
    host.broadcast_except_on(second, UhstChannel::ReliableUnordered, "other");
    let (all, binary) = ((UhstChannel::Reliable, "all".into()), (UhstChannel::Unreliable, vec![1, 2].into()));
    assert_eq!(host.send_to([second, session], "chosen").peers, 1);
    host.send_to_on([second, first], UhstChannel::Unreliable, "both");
    let (chosen, both) = ((UhstChannel::Reliable, "chosen".into()), (UhstChannel::Unreliable, "both".into()));
    assert_eq!(sent(&mut two), [all.clone(), binary.clone(), chosen, both.clone()]);
    let only = (UhstChannel::Reliable, "one".into());
    assert_eq!(sent(&mut one), [all, only, binary, (UhstChannel::ReliableUnordered, "other".into()), both]);
}

#[test]
fn a_slow_peer_does_not_keep_a_broadcast_from_the_others() {
    let mut app = app();
    let session = app.world_mut().spawn(UhstHost::any_id()).id();
    let key = started(&app).key;
    let (slow, _full) = connect(&mut app, key, 1);
    let (_, mut quick) = connect(&mut app, key, 2);
    let (_, gone) = connect(&mut app, key, 3);
    drop(gone);
    let peer = app.world().get::<crate::UhstPeer>(slow).unwrap();
    while peer.send(vec![0; 500]).is_ok() {}
    let report = app.world().get::<UhstHost>(session).unwrap().broadcast("x".repeat(500));
    assert_eq!((report.missed, report.peers, report.is_complete()), (1, 3, false));
    assert!(matches!(report.cause, Some(SendError::QueueFull { .. })));
    assert_eq!(sent(&mut quick).len(), 1);
}

#[test]
fn a_peer_that_misses_broadcasts_is_reported_once_and_ends_when_it_does_not_catch_up() {
    let mut app = app();
    let session = app.world_mut().spawn(UhstHost::any_id()).id();
    let key = started(&app).key;
    let (slow, mut commands) = connect(&mut app, key, 1);
    let host = app.world().get::<UhstHost>(session).unwrap();
    let fill = || while host.broadcast("x".repeat(500)).is_complete() {};
    let mut reports = 0;
    // It catches up each time, so that it is reported each time, and goes on.
    for times in 1..4 {
        fill();
        host.broadcast("x".repeat(500));
        while let Ok(command) = commands.try_recv() {
            match command {
                PeerCommand::Send { payload, .. } => app.world().get::<crate::UhstPeer>(slow).unwrap().taken(&payload),
                PeerCommand::Report(text) => {
                    assert!(text.contains("too slow"), "{text}");
                    reports += 1;
                }
                command => panic!("{command:?}"),
            }
        }
        assert_eq!(reports, times);
    }
    fill();
    let mut ended = None;
    while ended.is_none() {
        // What may be lost any time does not count.
        host.broadcast_on(UhstChannel::Unreliable, "x".repeat(500));
        host.broadcast("x".repeat(500));
        ended = std::iter::from_fn(|| commands.try_recv().ok()).find_map(|command| match command {
            PeerCommand::Disconnect(reason) => Some(reason),
            _ => None,
        });
    }
    assert_eq!(ended, Some(EndReason::TooSlow));
    assert!(host.broadcast("it is gone").is_complete());
}

#[test]
fn a_kick_names_a_peer_of_this_session() {
    let mut app = app();
    let session = app.world_mut().spawn(UhstHost::any_id()).id();
    let key = started(&app).key;
    let (peer, mut commands) = connect(&mut app, key, 1);
    let host = app.world().get::<UhstHost>(session).unwrap();
    assert_eq!(host.kick(session, "who?"), Err(SendError::Disconnected));
    host.kick(peer, "cheating").unwrap();
    assert_eq!(sent(&mut commands), [(UhstChannel::Reliable, "removed by the host: cheating".into())]);
    let peer = app.world().get::<crate::UhstPeer>(peer).unwrap();
    assert_eq!(peer.send("more"), Err(SendError::Disconnected));
    assert_eq!(peer.send(vec![0; LIMITS.max_message + 1]), Err(SendError::TooLarge { size: 1001, limit: 1000 }));
}

#[test]
fn a_client_sends_to_its_host_once_connected() {
    let mut app = app();
    let session = app.world_mut().spawn(UhstClient::join("1")).id();
    let key = started(&app).key;
    assert_eq!(app.world().get::<UhstClient>(session).unwrap().send("early"), Err(SendError::NotConnected));
    let (host, mut commands) = connect(&mut app, key, 1);
    let client = app.world().get::<UhstClient>(session).unwrap();
    client.send_on(UhstChannel::UnreliableSequenced, "now").unwrap();
    assert_eq!(client.host(), Some(host));
    assert_eq!(sent(&mut commands), [(UhstChannel::UnreliableSequenced, "now".into())]);
}

#[test]
fn one_entity_has_one_session() {
    let mut app = app();
    let session = app.world_mut().spawn((UhstHost::any_id(), UhstClient::join("1"))).id();
    let entity = app.world().entity(session);
    let running = (
        entity.get::<UhstHost>().is_some_and(UhstHost::is_running),
        entity.get::<UhstClient>().is_some_and(UhstClient::is_running),
    );
    assert!(running.0 != running.1, "{running:?}");
    assert_eq!(log(&mut app), ["ended: this side left"]);
}

#[test]
fn a_password_is_not_printed() {
    assert!(!format!("{:?}", UhstHost::any_id().password("swordfish")).contains("swordfish"));
}
