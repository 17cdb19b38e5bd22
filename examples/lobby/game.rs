//! The lobby as a Bevy plugin without a window: joins intents, rules, table and network.

mod frame;

use bevy::{ecs::system::SystemParam, prelude::*};
use bevy_uhst::prelude::*;

use self::frame::{look_for_the_host, measure, tick, walk, way_of};
use super::{
    args::{HostArgs, JoinArgs},
    intent::Intent,
    platform,
    rules::{Rules, Who},
    table::{News, Page, Table},
    words::*,
};

/// Adds the lobby to an app that has [`UhstPlugin`].
pub fn plugin(app: &mut App) {
    register(app);
    app.init_state::<Page>()
        .init_resource::<Table>()
        .init_resource::<Session>()
        .init_resource::<Heading>()
        .add_message::<Intent>()
        .add_message::<News>()
        .add_observer(on_ready)
        .add_observer(on_connected)
        .add_observer(on_rejoined)
        .add_observer(on_disconnected)
        .add_observer(on_trouble)
        .add_observer(on_ended)
        .add_systems(
            Update,
            (
                (hear_players, hear_host),
                handle_intents,
                walk.run_if(in_state(Page::Arena)),
                measure,
                look_for_the_host,
                tick.run_if(resource_exists::<Rules>),
            )
                .chain()
                .in_set(LobbySystems),
        );
}

/// Everything the lobby does in a frame. Views come after it.
#[derive(SystemSet, Clone, Debug, PartialEq, Eq, Hash)]
pub struct LobbySystems;

/// The sessions of this game and what was asked for when they began.
#[derive(Resource, Default)]
struct Session {
    /// The client of this player. On the host's machine it is a local one, so that the host plays like everyone.
    client: Option<Entity>,
    /// What this app hosts.
    host: Option<Entity>,
    name: String,
    /// The code that was typed, for messages about it.
    code: String,
    with_password: bool,
}

impl Session {
    fn is(&self, session: Entity) -> bool {
        [self.client, self.host].contains(&Some(session))
    }
}

/// Which way our own figure walks.
#[derive(Resource, Default)]
struct Heading(Vec2);

/// Marks a peer the host has given a seat.
#[derive(Component)]
struct Seat(PlayerId);

/// What systems need to change the lobby and to speak in it.
#[derive(SystemParam)]
struct Lobby<'w, 's> {
    session: ResMut<'w, Session>,
    table: ResMut<'w, Table>,
    rules: Option<ResMut<'w, Rules>>,
    news: MessageWriter<'w, News>,
    page: ResMut<'w, NextState<Page>>,
    hosts: Query<'w, 's, &'static UhstHost>,
    peers: Query<'w, 's, &'static UhstPeer>,
    to_players: UhstSender<'w, 's, FromHost>,
    to_host: UhstSender<'w, 's, FromPlayer>,
    commands: Commands<'w, 's>,
}

impl Lobby<'_, '_> {
    /// As the host: tells everyone, our own player included.
    fn tell(&self, words: Vec<FromHost>) {
        for word in words {
            self.to_players.broadcast(&word);
        }
    }

    /// As a player: says something to the host. Before the host has let us in, there is nobody to say it to.
    fn say(&self, word: FromPlayer) -> Result {
        match self.to_host.to_host(&word) {
            Err(SendError::NotConnected) => Ok(()),
            sent => Ok(sent?),
        }
    }

    /// Applies a word of the host to our own table.
    fn apply(&mut self, word: FromHost) {
        for news in self.table.apply(word) {
            match &news {
                News::Entered { .. } | News::RoundFinished { .. } => self.page.set(Page::Lobby),
                News::RoundStarted => self.page.set(Page::Arena),
                News::Full { .. } => info!("{news}"),
                _ => {}
            }
            self.news.write(news);
        }
    }

    /// Back to the start page. Despawning the session says goodbye.
    fn go_home(&mut self, why: Option<String>) {
        self.commands.remove_resource::<Rules>();
        for session in [self.session.client, self.session.host].into_iter().flatten() {
            self.commands.entity(session).try_despawn();
        }
        *self.session = Session::default();
        *self.table = Table { notice: why.clone(), ..default() };
        self.page.set(Page::Start);
        if let Some(why) = why {
            self.news.write(News::Ended { why });
        }
    }
}

/// Does what the player wants.
fn handle_intents(mut intents: MessageReader<Intent>, mut lobby: Lobby, mut heading: ResMut<Heading>) -> Result {
    for intent in intents.read() {
        let idle = lobby.session.client.is_none();
        match intent {
            Intent::Host(args) if idle => host(args, &mut lobby),
            Intent::Join(args) if idle => join(args, &mut lobby),
            Intent::Host(_) | Intent::Join(_) => {}
            Intent::Leave => lobby.go_home(None),
            Intent::Say(text) => lobby.say(FromPlayer::Chat { text: text.clone() })?,
            Intent::Ready(ready) => lobby.say(FromPlayer::Ready { ready: *ready })?,
            Intent::Network(conditions) => lobby.peers.iter().for_each(|peer| peer.set_conditions(*conditions)),
            Intent::Steer(way) => heading.0 = way.clamp_length_max(1.0),
            Intent::StartRound => {
                let words = lobby.rules.as_mut().map(|r| r.start()).unwrap_or_default();
                lobby.tell(words);
            }
            Intent::FinishRound => {
                let words = lobby.rules.as_mut().map(|r| r.finish()).unwrap_or_default();
                lobby.tell(words);
            }
            Intent::Kick(id) => lobby.commands.run_system_cached_with(kick, *id),
        }
    }
    Ok(())
}

fn host(args: &HostArgs, lobby: &mut Lobby) {
    let relay = match platform::relay(args) {
        Ok(relay) => relay,
        Err(why) => return lobby.go_home(Some(why)),
    };
    let mut host = match &args.id {
        Some(id) => UhstHost::new(id),
        None => UhstHost::any_id(),
    }
    // The player at this machine takes none of these places.
    .max_peers(usize::from(args.max_players) - 1)
    .relay(relay);
    if let Some(password) = &args.password {
        host = host.password(password);
    }
    let host = lobby.commands.spawn(host).id();
    // It is a client like all others, so that the same systems play on every machine.
    lobby.session.client = Some(lobby.commands.spawn(LocalClientOf(host)).id());
    lobby.session.host = Some(host);
    lobby.session.name = args.name.clone();
    lobby.commands.insert_resource(Rules::new(args.max_players.into(), args.round_seconds.into()));
    lobby.page.set(Page::Joining);
}

fn join(args: &JoinArgs, lobby: &mut Lobby) {
    let mut client = UhstClient::join(&args.code);
    if let Some(url) = &args.relay {
        client = client.relay(Relay::Url(url.clone()));
    }
    if let Some(password) = &args.password {
        client = client.password(password);
    }
    lobby.session.client = Some(lobby.commands.spawn(client).id());
    lobby.session.name = args.name.clone();
    lobby.session.code = args.code.clone();
    lobby.session.with_password = args.password.is_some();
    lobby.page.set(Page::Joining);
}

fn kick(In(id): In<PlayerId>, host: Single<&UhstHost>, peers: Query<(Entity, &Seat)>) -> Result {
    if let Some((peer, _)) = peers.iter().find(|(_, seat)| seat.0 == id) {
        host.kick(peer, "you were removed from the lobby")?;
    }
    Ok(())
}

/// Our lobby is open.
fn on_ready(ready: On<UhstReady>, session: Res<Session>) {
    if Some(ready.entity) == session.host {
        let link = ready.links.first().map_or_else(|| ready.id.clone(), JoinLink::to_string);
        info!("hosting {}, {link}", ready.id);
    }
}

/// The host has let us in and waits for our name.
fn on_connected(connected: On<UhstConnected>, lobby: Lobby) -> Result {
    if Some(connected.session) == lobby.session.client {
        lobby.say(FromPlayer::Hello { name: lobby.session.name.clone(), ticket: None })?;
    }
    Ok(())
}

/// A player is back before the former connection was given up: the seat goes with the player.
fn on_rejoined(back: On<UhstRejoined>, seats: Query<&Seat>, mut commands: Commands) {
    if let Ok(seat) = seats.get(back.former) {
        commands.entity(back.entity).insert(Seat(seat.0));
        commands.entity(back.former).remove::<Seat>();
    }
}

fn on_disconnected(gone: On<UhstDisconnected>, seats: Query<&Seat>, mut lobby: Lobby) {
    let Ok(seat) = seats.get(gone.entity) else { return };
    let how = match &gone.reason {
        EndReason::Left => "left",
        EndReason::EndedLocally => "was removed",
        EndReason::Kicked(_) => "was removed",
        _ => "lost the connection",
    };
    let words = lobby.rules.as_mut().map(|r| r.leave(seat.0, how.to_owned())).unwrap_or_default();
    lobby.tell(words);
}

fn on_trouble(trouble: On<UhstDiagnostic>, mut lobby: Lobby) {
    if lobby.session.is(trouble.entity) {
        lobby.news.write(News::Trouble);
    }
}

fn on_ended(ended: On<UhstEnded>, mut lobby: Lobby) {
    // Where we host, our own client ends with the same reason.
    if Some(ended.entity) == lobby.session.client {
        let why =
            if lobby.table.me.is_some() { why_over(&ended.reason) } else { why_not(&ended.reason, &lobby.session) };
        lobby.go_home(Some(why));
    }
}

/// Why the lobby we were in is over, in a person's words.
fn why_over(reason: &EndReason) -> String {
    match reason {
        EndReason::Left => "The host closed the lobby.".to_owned(),
        EndReason::Kicked(_) => "The host removed you from the lobby.".to_owned(),
        EndReason::TimedOut | EndReason::RelayUnreachable(_) => "The connection to the lobby is lost.".to_owned(),
        EndReason::HostRestarted => "The host has started the lobby anew: join again by its new link.".to_owned(),
        EndReason::Rejoined => "You play on in another window.".to_owned(),
        EndReason::Replaced => "You were away, and somebody else has your seat now.".to_owned(),
        other => format!("The lobby had to end: {other}."),
    }
}

/// Why we did not get in, or could not open a lobby.
fn why_not(reason: &EndReason, session: &Session) -> String {
    match reason {
        EndReason::Refused(why) => format!("The host did not let you in: {why}."),
        EndReason::Full => "That lobby is full. Ask the host for a seat.".to_owned(),
        EndReason::WrongPassword if !session.with_password => "That lobby has a password: enter it too.".to_owned(),
        EndReason::WrongPassword => "That is not the password of this lobby.".to_owned(),
        EndReason::TimedOut => "The host does not answer.".to_owned(),
        EndReason::RelayUnreachable(_) => {
            "Nothing answers there. Check the code or link, and that the host is still in the lobby.".to_owned()
        }
        EndReason::HostIdInUse => "Someone else is hosting under this code. Choose another.".to_owned(),
        EndReason::NoSuchHost => {
            let id = session.code.parse::<JoinLink>().map_or_else(|_| session.code.clone(), |link| link.id);
            format!("There is no lobby {id}. Check the code, or ask the host for the link.")
        }
        EndReason::NotStarted(why) => format!("That did not work: {why}."),
        other => format!("That did not work: {other}."),
    }
}

/// As the host: takes what players say.
fn hear_players(
    mut words: MessageReader<FromPeer<FromPlayer>>,
    mut positions: MessageReader<FromPeer<Position>>,
    seats: Query<(Entity, &Seat)>,
    mut lobby: Lobby,
) -> Result {
    for word in words.read() {
        match (seats.get(word.peer).map(|(_, seat)| seat), &word.message) {
            (Ok(seat), FromPlayer::Hello { .. }) => greet(word.peer, seat.0, &mut lobby)?,
            (Ok(seat), word) => {
                let words = lobby.rules.as_mut().map(|r| r.hear(seat.0, word.clone())).unwrap_or_default();
                lobby.tell(words);
            }
            (Err(_), FromPlayer::Hello { name, ticket }) => welcome(word.peer, name, ticket, &seats, &mut lobby)?,
            (Err(_), _) => {}
        }
    }
    for position in positions.read() {
        if let (Ok((_, seat)), Some(rules)) = (seats.get(position.peer), &mut lobby.rules) {
            rules.walk(seat.0, position.message);
        }
    }
    Ok(())
}

/// As a player: takes what the host says.
fn hear_host(
    mut words: MessageReader<FromPeer<FromHost>>,
    mut positions: MessageReader<FromPeer<Positions>>,
    mut lobby: Lobby,
) {
    let client = lobby.session.client;
    // Positions first: those of a round mean nothing after it.
    for positions in positions.read().filter(|positions| Some(positions.session) == client) {
        lobby.table.place(positions);
    }
    for word in words.read().filter(|word| Some(word.session) == client) {
        lobby.apply(word.message.clone());
    }
}

/// The longest ticket of a page that is kept, in bytes.
const LONGEST_TICKET: usize = 64;

/// Gives a newcomer a seat. Who comes back gets the former one, from the connection that still has it.
fn welcome(
    entity: Entity,
    name: &str,
    ticket: &Option<String>,
    seats: &Query<(Entity, &Seat)>,
    lobby: &mut Lobby,
) -> Result {
    let (Some(rules), Ok(peer)) = (&mut lobby.rules, lobby.peers.get(entity)) else { return Ok(()) };
    let way = way_of(peer);
    let who = match peer.identity() {
        // Nobody else takes the place of the player at the host, whose identity is in every link.
        _ if way == Way::Host => None,
        Some(identity) => Some(Who::Identity(identity.to_string())),
        None => ticket.clone().filter(|ticket| ticket.len() <= LONGEST_TICKET).map(Who::Ticket),
    };
    let you = rules.enter(name, way, who);
    let name = rules.name(you).unwrap_or_default().to_owned();
    for (former, _) in seats.iter().filter(|(_, seat)| seat.0 == you) {
        lobby.commands.entity(former).remove::<Seat>();
    }
    lobby.commands.entity(entity).insert((Seat(you), Name::new(name)));
    greet(entity, you, lobby)
}

/// Tells a player what there is to know, and everyone else about them.
fn greet(entity: Entity, you: PlayerId, lobby: &mut Lobby) -> Result {
    let host = lobby.session.host.and_then(|host| lobby.hosts.get(host).ok());
    let (Some(host), Some(rules)) = (host, &lobby.rules) else { return Ok(()) };
    let code = host.id().unwrap_or_default().to_owned();
    let link = host.links().first().map_or_else(|| code.clone(), JoinLink::to_string);
    let hello = FromHost::Welcome { you, code, link };
    for word in [hello, rules.roster()].into_iter().chain(rules.briefing()) {
        lobby.to_players.to(entity, &word)?;
    }
    let roster = rules.roster();
    lobby.tell(vec![roster]);
    Ok(())
}
