//! The rules, which the host alone applies: what a player asks for goes in, what everyone is told comes out.
//! Nothing here knows about the network, so a game can be tried without one.

use std::collections::BTreeMap;

use bevy::prelude::*;

use super::words::*;

/// The arena in its own units, the origin in a corner.
pub const ARENA: Vec2 = Vec2::new(16.0, 9.0);
/// Figures stay this far inside, with room for their names above them.
const WALKABLE: Rect = Rect { min: Vec2::new(0.6, 1.0), max: Vec2::new(ARENA.x - 0.6, ARENA.y - 0.6) };
/// Distance from a figure at which a spark is caught.
const REACH: f32 = 0.7;
/// Positions per second: often enough to look smooth once interpolated.
pub const POSITION_RATE: f32 = 20.0;

const LONGEST_NAME: usize = 16;
const LONGEST_CHAT: usize = 200;
pub const COLOURS: usize = 8;

/// How many players are known again when they come back.
const KNOWN: usize = 64;

#[derive(Resource)]
pub struct Rules {
    players: Vec<Player>,
    max: usize,
    /// How long a round lasts.
    round_seconds: f32,
    next_id: PlayerId,
    round: Option<Round>,
    /// Those who were here, the latest last.
    known: Vec<Known>,
}

/// How a player is known again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// By an identity, which is proved but no secret.
    Identity(String),
    /// By what a page has made up and keeps to itself.
    Ticket(String),
}

/// A player who is here or was, and may come back.
struct Known {
    who: Who,
    id: PlayerId,
    colour: usize,
    score: u32,
}

struct Round {
    seconds_left: f32,
    until_positions: f32,
    figures: BTreeMap<PlayerId, Vec2>,
    spark: Vec2,
    sparks: u32,
}

impl Rules {
    /// An empty lobby.
    pub fn new(max: usize, round_seconds: f32) -> Self {
        Rules { players: Vec::new(), max, round_seconds, next_id: HOST + 1, round: None, known: Vec::new() }
    }

    /// Gives a newcomer a seat, a colour of their own and a name nobody else has. Who comes back has the score of before,
    /// and the seat too if it is not free yet.
    pub fn enter(&mut self, name: &str, way: Way, who: Option<Who>) -> PlayerId {
        let known = who.as_ref().and_then(|who| self.known.iter().position(|known| known.who == *who));
        let known = known.map(|index| self.known.remove(index));
        let id = known.as_ref().map_or(if way == Way::Host { HOST } else { self.next_id }, |known| known.id);
        self.next_id = self.next_id.max(id + 1);
        let free = |colour: &usize| self.players.iter().all(|p| p.id == id || p.colour != *colour);
        let former = known.as_ref().map(|known| known.colour);
        let colour = former.into_iter().chain(0..COLOURS).find(free).unwrap_or_default();
        let score = known.map_or(0, |known| known.score);
        if let Some(who) = who {
            self.known.drain(..self.known.len().saturating_sub(KNOWN - 1));
            self.known.push(Known { who, id, colour, score });
        }
        if self.players.iter().any(|p| p.id == id) {
            return id;
        }
        let name = self.free_name(name);
        self.players.push(Player { id, name, colour, ready: false, score, connection: Connection::new(way) });
        if let Some(round) = &mut self.round {
            round.figures.insert(id, start_of(colour));
        }
        id
    }

    /// What a newcomer has to know beside the roster.
    pub fn briefing(&self) -> Vec<FromHost> {
        let round = self.round.iter();
        round.flat_map(|r| [FromHost::Start { seconds: r.seconds_left }, r.spark_word(None)]).collect()
    }

    pub fn leave(&mut self, id: PlayerId, how: String) -> Vec<FromHost> {
        if !self.players.iter().any(|p| p.id == id) {
            return Vec::new();
        }
        let score = self.players.iter().find(|p| p.id == id).map_or(0, |p| p.score);
        self.known.iter_mut().filter(|known| known.id == id).for_each(|known| known.score = score);
        self.players.retain(|p| p.id != id);
        if let Some(round) = &mut self.round {
            round.figures.remove(&id);
        }
        vec![FromHost::Gone { id, how }, self.roster()]
    }

    /// Applies what a player says. What makes no sense now is ignored: it may have crossed a change on its way.
    pub fn hear(&mut self, from: PlayerId, word: FromPlayer) -> Vec<FromHost> {
        let Some(player) = self.players.iter_mut().find(|p| p.id == from) else { return Vec::new() };
        match word {
            FromPlayer::Hello { .. } => Vec::new(),
            FromPlayer::Ready { ready } => {
                player.ready = ready;
                vec![self.roster()]
            }
            FromPlayer::Chat { text } => match clean(&text, LONGEST_CHAT) {
                text if text.is_empty() => Vec::new(),
                text => vec![FromHost::Chat { from, text }],
            },
        }
    }

    /// Moves a player's figure. Players are trusted with their own speed: a game with something to win would check it
    /// here.
    pub fn walk(&mut self, from: PlayerId, Position { x, y }: Position) {
        if let Some(round) = &mut self.round
            && x.is_finite()
            && y.is_finite()
            && self.players.iter().any(|p| p.id == from)
        {
            round.figures.insert(from, held_inside(Vec2::new(x, y)));
        }
    }

    pub fn name(&self, id: PlayerId) -> Option<&str> {
        self.players.iter().find(|p| p.id == id).map(|p| p.name.as_str())
    }

    pub fn everyone_ready(&self) -> bool {
        self.players.len() > 1 && self.players.iter().all(|p| p.ready)
    }

    pub fn start(&mut self) -> Vec<FromHost> {
        if self.round.is_some() || !self.everyone_ready() {
            return Vec::new();
        }
        self.players.iter_mut().for_each(|p| p.score = 0);
        self.known.iter_mut().for_each(|known| known.score = 0);
        let round = Round {
            seconds_left: self.round_seconds,
            until_positions: 0.0,
            figures: self.players.iter().map(|p| (p.id, start_of(p.colour))).collect(),
            spark: ARENA / 2.0,
            sparks: 0,
        };
        let words = vec![self.roster(), FromHost::Start { seconds: self.round_seconds }, round.spark_word(None)];
        self.round = Some(round);
        words
    }

    /// Ends the round; everyone has to say again that they are ready.
    pub fn finish(&mut self) -> Vec<FromHost> {
        if self.round.take().is_none() {
            return Vec::new();
        }
        self.players.iter_mut().for_each(|p| p.ready = false);
        let best = self.players.iter().map(|p| p.score).max().unwrap_or(0);
        let mut first = self.players.iter().filter(|p| p.score == best && best > 0);
        let winner = first.next().filter(|_| first.next().is_none()).map(|p| p.id);
        vec![FromHost::Finish { winner }, self.roster()]
    }

    /// Where every figure is, as often as everyone is told.
    pub fn positions(&mut self, seconds: f32) -> Option<Positions> {
        let round = self.round.as_mut()?;
        round.until_positions -= seconds;
        if round.until_positions > 0.0 {
            return None;
        }
        round.until_positions = 1.0 / POSITION_RATE;
        Some(round.positions())
    }

    /// Lets time pass in the arena.
    pub fn tick(&mut self, seconds: f32) -> Vec<FromHost> {
        let Some(round) = &mut self.round else { return Vec::new() };
        let mut words = Vec::new();
        let away = |at: &Vec2| at.distance(round.spark);
        let nearest = round.figures.iter().min_by(|(_, a), (_, b)| away(a).total_cmp(&away(b)));
        if let Some((&catcher, _)) = nearest.filter(|(_, at)| away(at) < REACH) {
            self.players.iter_mut().filter(|p| p.id == catcher).for_each(|p| p.score += 1);
            round.sparks += 1;
            round.spark = place_of(round.sparks);
            words.push(round.spark_word(Some(catcher)));
        }
        round.seconds_left -= seconds;
        if round.seconds_left <= 0.0 {
            words.extend(self.finish());
        }
        words
    }

    /// Notes how a player is connected. Goes out with the next roster.
    pub fn note(&mut self, id: PlayerId, connection: Connection) {
        if let Some(player) = self.players.iter_mut().find(|p| p.id == id) {
            player.connection = connection;
        }
    }

    pub fn roster(&self) -> FromHost {
        FromHost::Roster { players: self.players.clone(), max: self.max }
    }

    fn free_name(&self, wish: &str) -> String {
        let wish = match clean(wish, LONGEST_NAME) {
            wish if wish.is_empty() => "Player".to_owned(),
            wish => wish,
        };
        let taken = |name: &str| self.players.iter().any(|p| p.name == name);
        let numbered = (2..).map(|n| format!("{wish} {n}"));
        std::iter::once(wish.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(wish)
    }
}

impl Round {
    fn spark_word(&self, caught_by: Option<PlayerId>) -> FromHost {
        FromHost::Spark { x: self.spark.x, y: self.spark.y, caught_by }
    }

    fn positions(&self) -> Positions {
        // Two decimals are finer than a pixel and half the text.
        let short = |v: f32| (v * 100.0).round() / 100.0;
        Positions { figures: self.figures.iter().map(|(id, at)| (*id, short(at.x), short(at.y))).collect() }
    }
}

/// The nearest place where a figure may stand.
pub fn held_inside(place: Vec2) -> Vec2 {
    place.clamp(WALKABLE.min, WALKABLE.max)
}

/// Where a figure starts: on a ring around the middle, so that nobody stands on the first spark.
pub fn start_of(colour: usize) -> Vec2 {
    ARENA / 2.0 + Vec2::from_angle(std::f32::consts::TAU * colour as f32 / COLOURS as f32) * 3.0
}

/// The place of the n-th spark: spread evenly and without a pattern, by steps of irrational numbers.
fn place_of(n: u32) -> Vec2 {
    let fraction = Vec2::new(n as f32 * 0.754_877_7 + 0.5, n as f32 * 0.569_840_3 + 0.5).fract();
    WALKABLE.min + fraction * WALKABLE.size()
}

fn clean(text: &str, longest: usize) -> String {
    let visible: String = text.chars().filter(|c| !c.is_control()).take(longest).collect();
    visible.trim().to_owned()
}
