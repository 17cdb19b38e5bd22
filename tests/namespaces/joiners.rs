//! Many clients in one process.

use std::{collections::HashMap, time::Instant};

use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, update_until},
};

use crate::{
    player::{TELL, tell},
    status::Status,
};

/// Runs `count` clients that join at once, and reports one status for all.
pub fn joiners(count: u32, relay: &Relay) {
    let mut app = TestNetwork::loopback().app();
    for _ in 0..count {
        app.world_mut().spawn(UhstClient::join("namespaces").relay(relay.clone()));
    }
    let mut status = Status { ready: true, ..Status::default() };
    let mut heard = HashMap::new();
    loop {
        update_until(&mut [&mut app], TELL, |_| false);
        for event in std::mem::take(&mut app.world_mut().resource_mut::<TestLog>().0) {
            match event {
                TestEvent::Message(message) => {
                    heard.insert(message.peer, Instant::now());
                    continue;
                }
                TestEvent::Connected(connected) => {
                    status.connected += 1;
                    heard.insert(connected.entity, Instant::now());
                    continue;
                }
                TestEvent::Ready(_) | TestEvent::PathChanged(_) => continue,
                TestEvent::Interrupted(_) => status.interrupted += 1,
                TestEvent::Resumed(_) => status.resumed += 1,
                TestEvent::Disconnected(_) => status.disconnected += 1,
                TestEvent::Ended(_) => status.ended += 1,
                _ => {}
            }
            println!("@event {event:?}");
        }
        let silent = heard.values().map(Instant::elapsed).max().unwrap_or_default();
        status.gap = status.gap.max(silent);
        let mut peers = app.world_mut().query::<&UhstPeer>();
        status.directs = peers.iter(app.world()).filter(|peer| peer.path() == Path::Direct).count() as u32;
        tell(&status);
    }
}
