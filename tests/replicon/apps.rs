//! Apps that replicate, and a record of what they receive.

use bevy::{app::PluginGroupBuilder, prelude::*, state::app::StatesPlugin};
use bevy_replicon::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, link},
};
use serde::{Deserialize, Serialize};

pub use crate::support::until;

/// The kind of connection between a host and its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Memory,
    Relay,
    Direct,
}

impl Way {
    pub fn network(self) -> TestNetwork {
        match self {
            Way::Memory => TestNetwork::memory(),
            Way::Relay => TestNetwork::loopback().paths(PathPolicy::RelayOnly),
            Way::Direct => TestNetwork::loopback(),
        }
    }
}

/// A replicated component.
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number(pub u32);

/// A message of the server.
#[derive(Message, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Told(pub u32);

/// A message of a client.
#[derive(Message, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Asked(pub u32);

/// The messages that an app has received, and the states that it has entered.
#[derive(Resource, Default)]
pub struct Heard {
    pub told: Vec<u32>,
    pub asked: Vec<u32>,
    pub states: Vec<String>,
}

/// Creates an app with all plugins, ready to be updated. Replication ticks with every update.
pub fn app(network: &TestNetwork) -> App {
    app_with(network, |replicon| replicon, |_| {})
}

/// Creates such an app with changed plugins of replicon, and with more of the test's own.
pub fn app_with(
    network: &TestNetwork,
    replicon: impl FnOnce(PluginGroupBuilder) -> PluginGroupBuilder,
    more: impl FnOnce(&mut App),
) -> App {
    let mut app = network.app();
    let replicon = replicon(RepliconPlugins.set(ServerPlugin::new(PostUpdate)));
    app.add_plugins((StatesPlugin, replicon, RepliconUhstPlugins))
        .replicate::<Number>()
        .add_server_message::<Told>(Channel::Ordered)
        .add_client_message::<Asked>(Channel::Ordered)
        .init_resource::<Heard>()
        .add_systems(Update, hear);
    for state in [ServerState::Running, ServerState::Stopped] {
        app.add_systems(OnEnter(state), move |mut heard: ResMut<Heard>| heard.states.push(format!("{state:?}")));
    }
    for state in [ClientState::Disconnected, ClientState::Connecting, ClientState::Connected] {
        app.add_systems(OnEnter(state), move |mut heard: ResMut<Heard>| heard.states.push(format!("{state:?}")));
    }
    more(&mut app);
    app.finish();
    app.cleanup();
    app
}

fn hear(mut told: MessageReader<Told>, mut asked: MessageReader<FromClient<Asked>>, mut heard: ResMut<Heard>) {
    heard.told.extend(told.read().map(|told| told.0));
    heard.asked.extend(asked.read().map(|asked| asked.message.0));
}

/// Starts a host, and updates the app until it is replicon's server.
pub fn host(app: &mut App) {
    app.world_mut().spawn(UhstHost::new("replicon"));
    until(&mut [app], |apps| server_state(apps[0]) == ServerState::Running);
}

/// Joins the host of another app.
pub fn join(app: &mut App, host: &App) {
    app.world_mut().spawn(UhstClient::from(link(host)));
}

/// Creates a host and a client that replicate over this kind of connection.
pub fn pair(way: Way) -> (App, App) {
    let network = way.network();
    let (mut server, mut client) = (app(&network), app(&network));
    host(&mut server);
    join(&mut client, &server);
    until(&mut [&mut server, &mut client], |apps| authorized(apps[0]) == 1 && replicating(apps[1]));
    if way == Way::Direct {
        until(&mut [&mut server, &mut client], |apps| apps.iter().all(|app| last_path(app) == Some(Path::Direct)));
    }
    assert_eq!(path(&mut client), if way == Way::Direct { Path::Direct } else { Path::Relay });
    (server, client)
}

pub fn server_state(app: &App) -> ServerState {
    *app.world().resource::<State<ServerState>>().get()
}

pub fn client_state(app: &App) -> ClientState {
    *app.world().resource::<State<ClientState>>().get()
}

pub fn replicating(app: &App) -> bool {
    client_state(app) == ClientState::Connected
}

pub fn heard(app: &App) -> &Heard {
    app.world().resource()
}

fn count<F: bevy::ecs::query::QueryFilter>(app: &mut App) -> usize {
    app.world_mut().query_filtered::<(), F>().iter(app.world()).count()
}

/// Returns the number of clients of replicon's server.
pub fn clients(app: &mut App) -> usize {
    count::<With<ConnectedClient>>(app)
}

/// Returns the number of clients that take part in replication.
pub fn authorized(app: &mut App) -> usize {
    count::<(With<ConnectedClient>, With<AuthorizedClient>)>(app)
}

/// Returns the number of entities that replication has spawned in this app.
pub fn remotes(app: &mut App) -> usize {
    count::<With<Remote>>(app)
}

/// Returns the only client of this server.
pub fn the_client(app: &mut App) -> Entity {
    app.world_mut().query_filtered::<Entity, With<ConnectedClient>>().single(app.world()).unwrap()
}

/// Returns the entity of this app's only session.
pub fn session<S: Component>(app: &mut App) -> Entity {
    app.world_mut().query_filtered::<Entity, With<S>>().single(app.world()).unwrap()
}

/// Returns the replicated numbers of this app, sorted.
pub fn numbers(app: &mut App) -> Vec<u32> {
    let mut numbers: Vec<_> = app.world_mut().query::<&Number>().iter(app.world()).map(|number| number.0).collect();
    numbers.sort_unstable();
    numbers
}

/// Returns the path of the only peer.
pub fn path(app: &mut App) -> Path {
    app.world_mut().query::<&UhstPeer>().single(app.world()).unwrap().path()
}

/// Returns the path of the last `UhstPathChanged`.
pub fn last_path(app: &App) -> Option<Path> {
    TestLog::of(app).0.iter().rev().find_map(|event| match event {
        TestEvent::PathChanged(event) => Some(event.path),
        _ => None,
    })
}

pub fn tell(app: &mut App, number: u32) {
    app.world_mut().write_message(ToClients { targets: SendTargets::All, message: Told(number) });
}

pub fn ask(app: &mut App, number: u32) {
    app.world_mut().write_message(Asked(number));
}
