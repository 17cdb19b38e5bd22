//! The clients that a broadcast of their host reaches.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use super::listener::Listener;

/// The clients of a host, in the order in which they subscribed.
pub(super) struct Subscribers {
    pub(super) listeners: Box<[Arc<Listener>]>,
    /// The response to a broadcast that has reached all of them.
    pub(super) reply: Bytes,
}

impl Subscribers {
    pub(super) fn new(clients: &HashMap<Arc<str>, (u64, Arc<Listener>)>) -> Arc<Self> {
        let mut clients: Vec<_> = clients.values().collect();
        clients.sort_unstable_by_key(|(order, _)| *order);
        let listeners: Box<[_]> = clients.into_iter().map(|(_, listener)| listener.clone()).collect();
        let reply = reply(listeners.iter());
        Arc::new(Subscribers { listeners, reply })
    }
}

/// Builds the response to a broadcast that has reached these listeners.
pub(super) fn reply<'a>(reached: impl Iterator<Item = &'a Arc<Listener>>) -> Bytes {
    let mut reply = String::from("{");
    for client in reached.filter_map(|listener| listener.client.as_ref()) {
        if reply.len() > 1 {
            reply.push(',');
        }
        // A string always has a JSON form.
        reply.push_str(&serde_json::to_string(&**client).unwrap_or_default());
        reply.push_str(":true");
    }
    reply.push('}');
    reply.into()
}
