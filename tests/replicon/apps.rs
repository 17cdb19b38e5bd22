//! Apps that replicate, and what they have heard.

use bevy::{app::PluginGroupBuilder, prelude::*, state::app::StatesPlugin};
use bevy_replicon::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, link},
};
use serde::{Deserialize, Serialize};

pub use crate::support::until;

/// The way between host and clients.
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

/// What the server says.
#[derive(Message, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Told(pub u32);

/// What a client says.
#[derive(Message, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Asked(pub u32);

/// What an app has heard and been.
#[derive(Resource, Default)]
pub struct Heard {
    pub told: Vec<u32>,
    pub asked: Vec<u32>,
    pub states: Vec<String>,
}

/// An app with everything, ready to be updated. Replication ticks with every update.
pub fn app(network: &TestNetwork) -> App {
    app_with(network, |replicon| replicon, |_| {})
}

/// The same, with replicon as you like it, and more of your own.
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

/// Has an app host, updated until it is replicon's server.
pub fn host(app: &mut App) {
    app.world_mut().spawn(UhstHost::new("replicon"));
    until(&mut [app], |apps| server_state(apps[0]) == ServerState::Running);
}

/// Has an app join the host of another one.
pub fn join(app: &mut App, host: &App) {
    app.world_mut().spawn(UhstClient::from(link(host)));
}

/// A host and a client that replicate this way.
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

/// How many clients replicon's server has.
pub fn clients(app: &mut App) -> usize {
    count::<With<ConnectedClient>>(app)
}

/// How many of them take part in replication.
pub fn authorized(app: &mut App) -> usize {
    count::<(With<ConnectedClient>, With<AuthorizedClient>)>(app)
}

/// How many entities replication has spawned here.
pub fn remotes(app: &mut App) -> usize {
    count::<With<Remote>>(app)
}

/// The one client of this server.
pub fn the_client(app: &mut App) -> Entity {
    app.world_mut().query_filtered::<Entity, With<ConnectedClient>>().single(app.world()).unwrap()
}

/// The entity of this app's one session.
pub fn session<S: Component>(app: &mut App) -> Entity {
    app.world_mut().query_filtered::<Entity, With<S>>().single(app.world()).unwrap()
}

/// All replicated numbers of this app, in order.
pub fn numbers(app: &mut App) -> Vec<u32> {
    let mut numbers: Vec<_> = app.world_mut().query::<&Number>().iter(app.world()).map(|number| number.0).collect();
    numbers.sort_unstable();
    numbers
}

/// The path of the one peer.
pub fn path(app: &mut App) -> Path {
    app.world_mut().query::<&UhstPeer>().single(app.world()).unwrap().path()
}

/// The path that was last changed to.
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
