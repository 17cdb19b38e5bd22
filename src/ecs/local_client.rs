//! Joining a host of the same app.

use std::ops::Deref;

use bevy::prelude::*;

use super::UhstClient;

/// On a client: the host of this very app that it joins, an entity with [`UhstHost`](super::UhstHost). So the player at
/// the host's machine is a client like all others: on a listen server, the same systems play for everyone.
///
/// As soon as the host is [ready](super::UhstReady), both sides are [connected](super::UhstConnected), without relay,
/// password or request to join, and without taking one of the [`max_peers`](super::UhstHost::max_peers);
/// [`peer_count`](super::UhstHost::peer_count) counts it. What one side sends in a frame the other reads in the next. The
/// session ends with its host's, for the same reason, or at once with
/// [`EndReason::NotStarted`](crate::EndReason::NotStarted) if that entity hosts nothing.
///
/// An app with both sides reads the messages of both: [`session`](super::UhstMessage::session) tells them apart.
///
/// It requires a [`UhstClient`], whose [`metadata`](UhstClient::metadata) is the only setting that counts here. It counts
/// when that `UhstClient` is inserted: inserted or changed later, it waits for the next one.
///
/// ```
/// # use bevy::prelude::*;
/// # use bevy_uhst::prelude::*;
/// fn host_and_play(mut commands: Commands) {
///     let host = commands.spawn(UhstHost::new("my-game")).id();
///     commands.spawn(LocalClientOf(host));
/// }
///
/// /// The same with settings, and in one go.
/// fn host_and_play_as_ada(mut commands: Commands) {
///     commands.spawn((UhstHost::new("my-game"), related!(LocalClients[UhstClient::local().metadata("Ada")])));
/// }
/// # bevy::ecs::system::assert_is_system(host_and_play);
/// # bevy::ecs::system::assert_is_system(host_and_play_as_ada);
/// ```
#[derive(Component, Reflect, Clone, Copy, Debug, PartialEq, Eq)]
#[relationship(relationship_target = LocalClients)]
#[require(UhstClient = UhstClient::local())]
#[component(clone_behavior = Ignore)]
#[reflect(Component, Debug, PartialEq)]
pub struct LocalClientOf(pub Entity);

/// On a host: the clients of this app that join it. Absent while there are none.
// Not a linked spawn: when the host is despawned, its local clients end as all others do, and are told why.
#[derive(Component, Reflect, Debug)]
#[relationship_target(relationship = LocalClientOf)]
#[reflect(Component, Debug, from_reflect = false)]
pub struct LocalClients(Vec<Entity>);

impl Deref for LocalClients {
    type Target = [Entity];

    fn deref(&self) -> &[Entity] {
        &self.0
    }
}
