//! The lobby as a Bevy plugin without a window: joins intents, rules, table and network.
//! This file and `nearby.rs` alone use `bevy_uhst` for more than its words.

use bevy::{ecs::system::SystemParam, prelude::*};
use bevy_uhst::prelude::*;

use super::{
    args::{HostArgs, JoinArgs},
    intent::Intent,
    phone,
    rules::{self, Rules},
    table::{News, Page, Table},
    words::*,
};

/// Units of the arena per second.
const SPEED: f32 = 5.0;
/// How often everyone learns pings and paths anew.
const ROSTER_SECONDS: f32 = 1.0;

#[derive(Default)]
pub struct LobbyPlugin {
    /// Where games are announced and found.
    pub discovery: Discovery,
    /// How much worse than the real one the network is.
    pub network: NetworkConditions,
}

impl Plugin for LobbyPlugin {
    fn build(&self, app: &mut App) {
        app.add_plugins(UhstPlugin::default().conditions(self.network).discovery(self.discovery))
            .init_state::<Page>()
            .init_resource::<Table>()
            .init_resource::<Session>()
            .init_resource::<Heading>()
            .add_message::<Intent>()
            .add_message::<News>()
            .add_observer(on_ready)
            .add_observer(on_connected)
            .add_observer(on_disconnected)
            .add_observer(on_trouble)
            .add_observer(on_ended)
            .add_systems(
                Update,
                (
                    listen,
                    obey,
                    walk.run_if(in_state(Page::Arena)),
                    measure,
                    miss_the_host,
                    tick.run_if(resource_exists::<Rules>),
                )
                    .chain()
                    .in_set(LobbySystems),
            );
    }
}

/// Everything the lobby does in a frame. Views come after it.
#[derive(SystemSet, Clone, Debug, PartialEq, Eq, Hash)]
pub struct LobbySystems;

/// The session of this game and what was asked for when it began.
#[derive(Resource, Default)]
struct Session {
    entity: Option<Entity>,
    /// The peer that is our host, when we joined.
    host: Option<Entity>,
    name: String,
    /// The code that was typed, for messages about it.
    code: String,
    with_password: bool,
    max: usize,
}

/// Which way our own figure walks.
#[derive(Resource, Default)]
struct Heading(Vec2);

/// Marks a peer the host has given a seat.
#[derive(Component)]
struct Seat(PlayerId);

/// The ways to speak, at hand in every system.
#[derive(SystemParam)]
struct Talk<'w, 's> {
    session: ResMut<'w, Session>,
    table: ResMut<'w, Table>,
    rules: Option<ResMut<'w, Rules>>,
    news: MessageWriter<'w, News>,
    page: ResMut<'w, NextState<Page>>,
    hosts: Query<'w, 's, &'static UhstHost>,
    peers: Query<'w, 's, &'static UhstPeer>,
    commands: Commands<'w, 's>,
}

impl Talk<'_, '_> {
    /// As the host: tells everyone, ourselves included.
    fn tell(&mut self, words: Vec<FromHost>) -> Result {
        for word in words {
            if let Some(Ok(host)) = self.session.entity.map(|s| self.hosts.get(s)) {
                let text = serde_json::to_string(&word)?;
                host.broadcast_on(word.channel(), text);
            }
            self.take_in(word);
        }
        Ok(())
    }

    /// As a player: says something to the host, who may be us.
    fn say(&mut self, word: FromPlayer) -> Result {
        if let Some(rules) = &mut self.rules {
            let words = rules.hear(HOST, word);
            self.tell(words)
        } else if let Some(Ok(host)) = self.session.host.map(|h| self.peers.get(h)) {
            Ok(host.send_on(word.channel(), serde_json::to_string(&word)?)?)
        } else {
            Ok(())
        }
    }

    /// Applies a word of the host to our own table.
    fn take_in(&mut self, word: FromHost) {
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
        if let Some(session) = self.session.entity {
            self.commands.entity(session).try_despawn();
        }
        self.commands.remove_resource::<Rules>();
        *self.session = Session::default();
        *self.table = Table { notice: why.clone(), ..default() };
        self.page.set(Page::Start);
        if let Some(why) = why {
            self.news.write(News::Ended { why });
        }
    }
}

/// Does what the player wants.
fn obey(mut intents: MessageReader<Intent>, mut talk: Talk, mut heading: ResMut<Heading>) -> Result {
    for intent in intents.read() {
        let idle = talk.session.entity.is_none();
        match intent {
            Intent::Host(args) if idle => host(args, &mut talk),
            Intent::Join(args) if idle => join(args, &mut talk),
            Intent::Host(_) | Intent::Join(_) => {}
            Intent::Leave => talk.go_home(None),
            Intent::Say(text) => talk.say(FromPlayer::Chat { text: text.clone() })?,
            Intent::Ready(ready) => talk.say(FromPlayer::Ready { ready: *ready })?,
            Intent::Network(conditions) => talk.peers.iter().for_each(|peer| peer.set_conditions(*conditions)),
            Intent::Steer(way) => heading.0 = way.clamp_length_max(1.0),
            Intent::StartRound => {
                let words = talk.rules.as_mut().map(|r| r.start()).unwrap_or_default();
                talk.tell(words)?;
            }
            Intent::FinishRound => {
                let words = talk.rules.as_mut().map(|r| r.finish()).unwrap_or_default();
                talk.tell(words)?;
            }
            Intent::Kick(id) => talk.commands.run_system_cached_with(kick, *id),
        }
    }
    Ok(())
}

fn host(args: &HostArgs, talk: &mut Talk) {
    let mut host = match &args.id {
        Some(id) => UhstHost::new(id),
        None => UhstHost::any_id(),
    }
    // The host plays as well and is no peer of itself.
    .max_peers(usize::from(args.max_players) - 1);
    if let Some(url) = &args.relay {
        host = host.relay(Relay::Url(url.clone()));
    } else {
        let mut relay = EmbeddedRelay { web_files: phone::page(), ..default() };
        if let Some(port) = args.port {
            (relay.bind, relay.port_attempts) = (([0, 0, 0, 0], port).into(), 1);
        }
        host = host.relay(Relay::Embedded(relay));
    }
    if let Some(password) = &args.password {
        host = host.password(password);
    }
    talk.session.entity = Some(talk.commands.spawn(host).id());
    talk.session.name = args.name.clone();
    talk.session.max = args.max_players.into();
    talk.page.set(Page::Joining);
}

fn join(args: &JoinArgs, talk: &mut Talk) {
    let mut client = UhstClient::join(&args.code);
    if let Some(url) = &args.relay {
        client = client.relay(Relay::Url(url.clone()));
    }
    if let Some(password) = &args.password {
        client = client.password(password);
    }
    talk.session.entity = Some(talk.commands.spawn(client).id());
    talk.session.name = args.name.clone();
    talk.session.code = args.code.clone();
    talk.session.with_password = args.password.is_some();
    talk.page.set(Page::Joining);
}

fn kick(In(id): In<PlayerId>, host: Single<&UhstHost>, peers: Query<(Entity, &Seat)>) -> Result {
    if let Some((peer, _)) = peers.iter().find(|(_, seat)| seat.0 == id) {
        host.kick(peer, "you were removed from the lobby")?;
    }
    Ok(())
}

/// Our lobby is open: the host sits down first.
fn on_ready(ready: On<UhstReady>, mut talk: Talk) {
    if Some(ready.entity) == talk.session.entity && talk.session.host.is_none() && talk.hosts.contains(ready.entity) {
        let rules = Rules::new(&talk.session.name, talk.session.max);
        let link = ready.links.first().map_or_else(|| ready.id.clone(), JoinLink::to_string);
        info!("hosting {}, {link}", ready.id);
        talk.take_in(FromHost::Welcome { you: HOST, code: ready.id.clone(), link });
        talk.take_in(rules.roster());
        talk.commands.insert_resource(rules);
    }
}

fn on_connected(connected: On<UhstConnected>, mut talk: Talk) -> Result {
    // The host waits for a hello; a client says it.
    if Some(connected.session) == talk.session.entity && !talk.hosts.contains(connected.session) {
        talk.session.host = Some(connected.entity);
        let name = talk.session.name.clone();
        talk.say(FromPlayer::Hello { name })?;
    }
    Ok(())
}

fn on_disconnected(gone: On<UhstDisconnected>, seats: Query<&Seat>, mut talk: Talk) -> Result {
    let Ok(seat) = seats.get(gone.entity) else { return Ok(()) };
    let how = match &gone.reason {
        EndReason::Left => "left",
        EndReason::EndedLocally => "was removed",
        EndReason::Kicked(_) => "was removed",
        _ => "lost the connection",
    };
    let words = talk.rules.as_mut().map(|r| r.leave(seat.0, how.to_owned())).unwrap_or_default();
    talk.tell(words)
}

fn on_trouble(trouble: On<UhstDiagnostic>, mut talk: Talk) {
    if Some(trouble.entity) == talk.session.entity {
        talk.news.write(News::Trouble);
    }
}

fn on_ended(ended: On<UhstEnded>, mut talk: Talk) {
    if Some(ended.entity) == talk.session.entity {
        let why = if talk.table.me.is_some() { why_over(&ended.reason) } else { why_not(&ended.reason, &talk.session) };
        talk.go_home(Some(why));
    }
}

/// Why the lobby we were in is over, in a person's words.
fn why_over(reason: &EndReason) -> String {
    match reason {
        EndReason::Left => "The host closed the lobby.".to_owned(),
        EndReason::Kicked(_) => "The host removed you from the lobby.".to_owned(),
        EndReason::TimedOut | EndReason::RelayUnreachable(_) => "The connection to the lobby is lost.".to_owned(),
        EndReason::HostRestarted => "The host has started the lobby anew: join again.".to_owned(),
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

/// Takes in what arrived from the network.
fn listen(mut messages: MessageReader<UhstMessage>, seats: Query<&Seat>, mut talk: Talk) -> Result {
    let session = talk.session.entity;
    for message in messages.read().filter(|m| Some(m.session) == session) {
        let Some(text) = message.payload.as_text() else { continue };
        if talk.rules.is_none() {
            match serde_json::from_str(text) {
                Ok(word) => talk.take_in(word),
                Err(error) => warn!("the host said something we do not know: {error}"),
            }
            continue;
        }
        match (seats.get(message.peer), serde_json::from_str(text)) {
            (Ok(seat), Ok(word)) => {
                let words = talk.rules.as_mut().map(|r| r.hear(seat.0, word)).unwrap_or_default();
                talk.tell(words)?;
            }
            (Err(_), Ok(FromPlayer::Hello { name })) => welcome(message.peer, &name, &mut talk)?,
            (_, Ok(_)) => {}
            (_, Err(error)) => warn!("a player said something we do not know: {error}"),
        }
    }
    Ok(())
}

/// Gives a newcomer a seat, tells them what they need to know, and everyone else about them.
fn welcome(entity: Entity, name: &str, talk: &mut Talk) -> Result {
    let (Some(rules), Ok(peer)) = (&mut talk.rules, talk.peers.get(entity)) else { return Ok(()) };
    let you = rules.enter(name, way_of(peer));
    let name = rules.name(you).unwrap_or_default().to_owned();
    talk.commands.entity(entity).insert((Seat(you), Name::new(name)));
    let hello = FromHost::Welcome { you, code: talk.table.code.clone(), link: talk.table.link.clone() };
    for word in [hello, rules.roster()].into_iter().chain(rules.briefing()) {
        peer.send_on(word.channel(), serde_json::to_string(&word)?)?;
    }
    let roster = rules.roster();
    talk.tell(vec![roster])
}

/// Moves our own figure at once and tells the host where it is, so that it never waits for the network.
fn walk(mut talk: Talk, heading: Res<Heading>, time: Res<Time>, mut since_last: Local<f32>) -> Result {
    talk.table.seconds_left = (talk.table.seconds_left - time.delta_secs()).max(0.0);
    let Some(me) = talk.table.me else { return Ok(()) };
    let Some(at) = talk.table.figures.get_mut(&me) else { return Ok(()) };
    *at = rules::held_inside(*at + heading.0 * SPEED * time.delta_secs());
    let Vec2 { x, y } = *at;
    *since_last += time.delta_secs();
    if *since_last >= 1.0 / rules::POSITION_RATE {
        *since_last = 0.0;
        talk.say(FromPlayer::Move { x, y })?;
    }
    Ok(())
}

/// As a player: looks for how long we have missed the host.
fn miss_the_host(session: Res<Session>, peers: Query<&UhstPeer>, mut table: ResMut<Table>) {
    let host = session.host.and_then(|host| peers.get(host).ok());
    let away = host.and_then(UhstPeer::interrupted).map(|since| since.as_secs() as u32);
    if table.host_away != away {
        table.host_away = away;
    }
}

/// As the host: looks how each player is connected.
fn measure(rules: Option<ResMut<Rules>>, peers: Query<(&UhstPeer, &Seat)>) {
    let Some(mut rules) = rules else { return };
    for (peer, seat) in &peers {
        let rates = peer.rates();
        rules.note(
            seat.0,
            Connection {
                way: way_of(peer),
                ping: peer.rtt().map(|rtt| rtt.as_millis() as u32),
                away: peer.interrupted().map(|since| since.as_secs() as u32),
                rate: (rates.sent_bytes + rates.received_bytes) as u32,
                // Less than one is still one that somebody may have noticed.
                lost: peer.is_native().then_some(rates.lost.ceil() as u32),
            },
        );
    }
}

fn way_of(peer: &UhstPeer) -> Way {
    match peer.path() {
        Path::Direct => Way::Direct,
        _ => Way::Relay,
    }
}

/// As the host: lets time pass in the arena and sends everyone a fresh roster now and then.
fn tick(mut talk: Talk, time: Res<Time>, mut since_roster: Local<f32>) -> Result {
    let Some(rules) = &mut talk.rules else { return Ok(()) };
    let mut words = rules.tick(time.delta_secs());
    *since_roster += time.delta_secs();
    if *since_roster >= ROSTER_SECONDS {
        *since_roster = 0.0;
        words.push(rules.roster());
    }
    talk.tell(words)
}
