//! What the lobby does in every frame: figures walk, connections are measured, and the rules move on.

use bevy::prelude::*;
use bevy_uhst::prelude::*;

use super::{
    super::{
        rules::{self, Rules},
        table::Table,
        words::*,
    },
    Heading, Lobby, Seat, Session,
};

/// Units of the arena per second.
const SPEED: f32 = 5.0;
/// How often everyone learns pings and paths anew.
const ROSTER_SECONDS: f32 = 1.0;

/// Moves our own figure at once and tells the host where it is, so that it never waits for the network.
pub(super) fn walk(
    mut table: ResMut<Table>,
    heading: Res<Heading>,
    time: Res<Time>,
    to_host: UhstSender<Position>,
    mut since_last: Local<f32>,
) -> Result {
    table.seconds_left = (table.seconds_left - time.delta_secs()).max(0.0);
    let Some(me) = table.me else { return Ok(()) };
    let Some(at) = table.figures.get_mut(&me) else { return Ok(()) };
    *at = rules::held_inside(*at + heading.0 * SPEED * time.delta_secs());
    let Vec2 { x, y } = *at;
    *since_last += time.delta_secs();
    if *since_last >= 1.0 / rules::POSITION_RATE {
        *since_last = 0.0;
        to_host.to_host(&Position { x, y })?;
    }
    Ok(())
}

/// As a player: looks for how long we have missed the host, and what protects our words to it.
pub(super) fn look_for_the_host(
    session: Res<Session>,
    clients: Query<&UhstClient>,
    peers: Query<&UhstPeer>,
    mut table: ResMut<Table>,
) {
    let client = session.client.and_then(|client| clients.get(client).ok());
    let host = client.and_then(UhstClient::host).and_then(|host| peers.get(host).ok());
    let away = host.and_then(UhstPeer::interrupted).map(|since| since.as_secs() as u32);
    let seal = host.map(Seal::of);
    if (table.host_away, table.host_seal) != (away, seal) {
        (table.host_away, table.host_seal) = (away, seal);
    }
}

/// As the host: looks how each player is connected.
pub(super) fn measure(rules: Option<ResMut<Rules>>, peers: Query<(&UhstPeer, &Seat)>) {
    let Some(mut rules) = rules else { return };
    for (peer, seat) in &peers {
        let rates = peer.rates();
        rules.note(
            seat.0,
            Connection {
                way: way_of(peer),
                ping: peer.rtt().map(|rtt| rtt.as_millis() as u32),
                away: peer.interrupted().map(|since| since.as_secs() as u32),
                seal: Some(Seal::of(peer)),
                rate: (rates.sent_bytes + rates.received_bytes) as u32,
                // Less than one is still one that somebody may have noticed.
                lost: peer.is_native().then_some(rates.lost.ceil() as u32),
            },
        );
    }
}

pub(super) fn way_of(peer: &UhstPeer) -> Way {
    match peer.path() {
        _ if peer.is_local() => Way::Host,
        Path::Direct => Way::Direct,
        _ => Way::Relay,
    }
}

/// As the host: lets time pass in the arena and sends everyone a fresh roster now and then.
pub(super) fn tick(mut lobby: Lobby, to_players: UhstSender<Positions>, time: Res<Time>, mut since_roster: Local<f32>) {
    let Some(rules) = &mut lobby.rules else { return };
    if let Some(positions) = rules.positions(time.delta_secs()) {
        to_players.broadcast(&positions);
    }
    let mut words = rules.tick(time.delta_secs());
    *since_roster += time.delta_secs();
    if *since_roster >= ROSTER_SECONDS {
        *since_roster = 0.0;
        words.push(rules.roster());
    }
    lobby.tell(words);
}
