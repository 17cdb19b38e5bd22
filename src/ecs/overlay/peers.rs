//! The list of sessions and their peers.

use bevy::prelude::*;

use super::{events::name, graph, history::Histories, numbers, style};
use crate::{
    connection::Path,
    ecs::{Peers, UhstClient, UhstHost, UhstPeer},
};

/// The most peers in the list. A longer list would cover the game.
const MOST_PEERS: usize = 6;
/// The most characters of a peer's name that are shown. A game may allow longer names.
const LONGEST_NAME: usize = 26;
/// The width of a queue's meter in pixels.
const METER: f32 = 58.0;

type AnySession = Or<(With<UhstHost>, With<UhstClient>)>;

/// The node that contains the list.
#[derive(Component)]
pub(super) struct Sessions;

/// The sessions in the list, each with its listed peers and the number of its other peers. A component of the panel.
#[derive(Component, Default, PartialEq)]
pub(super) struct Listed(Vec<(Entity, Vec<Entity>, usize)>);

/// A text about a session or a peer.
#[derive(Component, Clone, Copy)]
pub(super) struct Line {
    about: Entity,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Session,
    State,
    Peer,
    Path,
    RoundTrip,
    In,
    Out,
    Lost,
    Queue,
}

/// The filled part of a peer's meter.
#[derive(Component, Clone, Copy)]
pub(super) struct Meter(Entity);

/// Builds the list again when a session or a peer has come or gone.
pub(super) fn lay_out(
    sessions: Query<(Entity, Option<&Peers>), AnySession>,
    peers: Query<(), With<UhstPeer>>,
    list: Single<Entity, With<Sessions>>,
    panel: Single<(&mut Listed, &mut Histories)>,
    mut commands: Commands,
) {
    let (mut before, mut histories) = panel.into_inner();
    let mut room = MOST_PEERS;
    let listed: Vec<_> = sessions
        .iter()
        .map(|(session, of)| {
            let of = of.map_or(&[][..], |of| of);
            let here: Vec<_> = of.iter().copied().filter(|peer| peers.contains(*peer)).take(room).collect();
            room -= here.len();
            let more = of.len() - here.len();
            (session, here, more)
        })
        .collect();
    if listed == before.0 {
        return;
    }
    histories.follow(listed.iter().flat_map(|(_, peers, _)| peers).copied().collect());
    commands.entity(*list).despawn_children().with_children(|list| {
        for (session, peers, more) in &listed {
            spawn_session(list, *session, peers, *more);
        }
        if listed.is_empty() {
            list.spawn(style::text("no session", style::DIM));
        }
    });
    before.0 = listed;
}

fn spawn_session(list: &mut ChildSpawnerCommands, session: Entity, peers: &[Entity], more: usize) {
    let line = |kind| Line { about: session, kind };
    list.spawn((style::column(8.0), Pickable::IGNORE)).with_children(|block| {
        block.spawn((style::row(8.0), Pickable::IGNORE)).with_children(|head| {
            head.spawn((line(Kind::Session), style::text("", style::TEXT)));
            head.spawn(style::spring());
            head.spawn((line(Kind::State), style::text("", style::DIM)));
        });
        for peer in peers {
            spawn_peer(block, *peer);
        }
        if more > 0 {
            block.spawn(style::text(format!("and {more} more"), style::DIM));
        }
    });
}

fn spawn_peer(block: &mut ChildSpawnerCommands, peer: Entity) {
    let line = |kind, colour| (Line { about: peer, kind }, style::text("", colour));
    block.spawn((style::column(2.0), Pickable::IGNORE)).with_children(|block| {
        block.spawn((style::row(8.0), Pickable::IGNORE)).with_children(|head| {
            head.spawn(line(Kind::Peer, style::TEXT));
            head.spawn(style::spring());
            head.spawn(line(Kind::Path, style::DIM));
            head.spawn(line(Kind::RoundTrip, style::TEXT));
        });
        block.spawn((style::row(12.0), Pickable::IGNORE)).with_children(|body| {
            graph::spawn(body, peer);
            body.spawn((style::column(0.0), Pickable::IGNORE)).with_children(|numbers| {
                numbers.spawn(line(Kind::In, style::DIM));
                numbers.spawn(line(Kind::Out, style::DIM));
                numbers.spawn((style::row(8.0), Pickable::IGNORE)).with_children(|last| {
                    last.spawn(line(Kind::Lost, style::DIM));
                    last.spawn(line(Kind::Queue, style::DIM));
                    spawn_meter(last, peer);
                });
            });
        });
    });
}

fn spawn_meter(line: &mut ChildSpawnerCommands, peer: Entity) {
    let shape = |width| Node { width, height: px(6), border_radius: BorderRadius::all(px(2)), ..default() };
    line.spawn((shape(px(METER)), BackgroundColor(style::WELL), Pickable::IGNORE)).with_child((
        Meter(peer),
        shape(px(0)),
        BackgroundColor(style::GOOD),
        Pickable::IGNORE,
    ));
}

pub(super) fn write(
    mut lines: Query<(&Line, &mut Text, &mut TextColor)>,
    names: Query<&Name>,
    hosts: Query<&UhstHost>,
    clients: Query<&UhstClient>,
    peers: Query<&UhstPeer>,
) {
    for (Line { about, kind }, mut text, mut colour) in &mut lines {
        let (words, shade) = match (kind, peers.get(*about)) {
            (Kind::Session, _) => (shortened(name(*about, &names)), style::TEXT),
            (Kind::State, _) => state(hosts.get(*about).ok(), clients.get(*about).ok()),
            (Kind::Peer, _) => (shortened(name(*about, &names)), style::TEXT),
            (_, Ok(peer)) => of_peer(*kind, peer),
            // This entity is despawned at the end of the frame.
            (_, Err(_)) => continue,
        };
        style::set(&mut text, &mut colour, words, shade);
    }
}

fn shortened(mut name: String) -> String {
    if let Some((end, _)) = name.char_indices().nth(LONGEST_NAME) {
        name.truncate(end);
        name.push_str("..");
    }
    name
}

fn state(host: Option<&UhstHost>, client: Option<&UhstClient>) -> (String, Color) {
    match (host, client) {
        (Some(host), _) if host.is_ready() => {
            (format!("{} of {} peers", host.peer_count(), host.get_max_peers()), style::GOOD)
        }
        (Some(host), _) if host.is_running() => ("starting".to_owned(), style::WARN),
        (_, Some(client)) if client.is_connected() => ("connected".to_owned(), style::GOOD),
        (_, Some(client)) if client.is_running() => ("joining".to_owned(), style::WARN),
        _ => ("over".to_owned(), style::BAD),
    }
}

fn of_peer(kind: Kind, peer: &UhstPeer) -> (String, Color) {
    let rates = peer.rates();
    let flow = |way, bytes, messages| {
        let (bytes, messages) = (numbers::bytes_per_second(bytes), numbers::per_second(messages));
        (format!("{way:4}{bytes:>12}{messages:>11}"), style::TEXT)
    };
    match kind {
        Kind::Session | Kind::State | Kind::Peer => (String::new(), style::TEXT),
        Kind::Path => match peer.path() {
            _ if peer.interrupted().is_some() => {
                let since = peer.interrupted().unwrap_or_default().as_secs();
                (format!("reconnecting {since} s"), style::BAD)
            }
            _ if !peer.is_reachable() => ("no path".to_owned(), style::BAD),
            Path::Direct => ("direct".to_owned(), style::GOOD),
            _ => ("relay".to_owned(), style::WARN),
        },
        Kind::RoundTrip => (numbers::round_trip(peer.rtt()), style::TEXT),
        Kind::In => flow("in", rates.received_bytes, rates.received_messages),
        Kind::Out => flow("out", rates.sent_bytes, rates.sent_messages),
        // Peers of the original protocol report no losses.
        Kind::Lost if !peer.is_native() => ("lost      --".to_owned(), style::DIM),
        Kind::Lost => {
            let colour = if rates.lost > 0.0 { style::BAD } else { style::DIM };
            (format!("lost {}", numbers::per_second(rates.lost)), colour)
        }
        Kind::Queue => ("queue".to_owned(), style::DIM),
    }
}

pub(super) fn fill_queues(peers: Query<&UhstPeer>, mut meters: Query<(&Meter, &mut Node, &mut BackgroundColor)>) {
    for (Meter(peer), mut node, mut colour) in &mut meters {
        let Ok(peer) = peers.get(*peer) else { continue };
        let full = (peer.queued() as f32 / peer.max_queued().max(1) as f32).min(1.0);
        let width = px((full * METER).ceil());
        if node.width != width {
            node.width = width;
        }
        colour.set_if_neq(BackgroundColor(match full {
            ..0.5 => style::GOOD,
            ..0.9 => style::WARN,
            _ => style::BAD,
        }));
    }
}
