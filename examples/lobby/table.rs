//! What everyone at the table sees, the host too: the host's words, applied in order.

use std::{collections::BTreeMap, fmt};

use bevy::prelude::*;

use super::{rules, words::*};

/// Where this game is. Views show one page for each.
#[derive(States, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Page {
    #[default]
    Start,
    Joining,
    Lobby,
    Arena,
}

/// Something a player would want to know happened.
#[derive(Message, Clone, Debug, PartialEq)]
pub enum News {
    /// We are in, under this code and link.
    Entered {
        code: String,
        link: String,
    },
    Joined {
        name: String,
    },
    Gone {
        name: String,
        how: String,
    },
    Said {
        from: PlayerId,
        name: String,
        text: String,
    },
    Ready {
        name: String,
        ready: bool,
    },
    /// As many as fit in.
    Full {
        players: usize,
        max: usize,
    },
    RoundStarted,
    Caught {
        by: PlayerId,
        name: String,
        score: u32,
    },
    RoundFinished {
        winner: Option<String>,
    },
    /// The connection is in trouble, and being mended.
    Trouble,
    /// Back on the start page, with a sentence that says why.
    Ended {
        why: String,
    },
}

/// A line of the chat, with the colour of who wrote it; news have none.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatLine {
    pub from: Option<(String, usize)>,
    pub text: String,
}

/// The state of the lobby as this player knows it.
#[derive(Resource, Default)]
pub struct Table {
    /// Our own id, once the host welcomed us.
    pub me: Option<PlayerId>,
    pub code: String,
    pub link: String,
    pub players: Vec<Player>,
    pub max: usize,
    pub chat: Vec<ChatLine>,
    pub seconds_left: f32,
    /// For how many seconds we have missed the host, if we do.
    pub host_away: Option<u32>,
    /// What protects our words to the host, once we are connected.
    pub host_seal: Option<Seal>,
    pub spark: Vec2,
    /// The last known place of each figure; our own is ahead of what the host knows.
    pub figures: BTreeMap<PlayerId, Vec2>,
    /// Why we are back on the start page.
    pub notice: Option<String>,
}

impl Table {
    pub fn player(&self, id: PlayerId) -> Option<&Player> {
        self.players.iter().find(|p| p.id == id)
    }

    pub fn myself(&self) -> Option<&Player> {
        self.me.and_then(|me| self.player(me))
    }

    pub fn is_host(&self) -> bool {
        self.me == Some(HOST)
    }

    /// What protects this player's words. Of the host, each other player knows it better than the host does. Nobody is
    /// between the host and the player at its machine.
    pub fn seal(&self, player: &Player) -> Option<Seal> {
        match player.connection.way {
            Way::Host => self.host_seal.filter(|_| !self.is_host()),
            _ => player.connection.seal,
        }
    }

    pub fn is_full(&self) -> bool {
        self.max > 0 && self.players.len() >= self.max
    }

    pub fn everyone_ready(&self) -> bool {
        self.players.len() > 1 && self.players.iter().all(|p| p.ready)
    }

    /// Applies a word from the host and returns what is new.
    pub fn apply(&mut self, word: FromHost) -> Vec<News> {
        if self.me.is_none() && !matches!(word, FromHost::Welcome { .. }) {
            // Sent to everyone before the host knew us.
            return Vec::new();
        }
        let news = match word {
            FromHost::Welcome { you, code, link } => {
                *self = Table { me: Some(you), code: code.clone(), link: link.clone(), ..default() };
                vec![News::Entered { code, link }]
            }
            FromHost::Roster { players, max } => self.seat(players, max),
            FromHost::Gone { id, how } => {
                let name = self.name(id);
                self.players.retain(|p| p.id != id);
                self.figures.remove(&id);
                vec![News::Gone { name, how }]
            }
            FromHost::Chat { from, text } => vec![News::Said { from, name: self.name(from), text }],
            FromHost::Start { seconds } => {
                self.seconds_left = seconds;
                self.figures = self.players.iter().map(|p| (p.id, rules::start_of(p.colour))).collect();
                vec![News::RoundStarted]
            }
            FromHost::Spark { x, y, caught_by } => {
                self.spark = Vec2::new(x, y);
                let catcher = self.players.iter_mut().find(|p| Some(p.id) == caught_by);
                let score = catcher.map(|p| {
                    p.score += 1;
                    News::Caught { by: p.id, name: p.name.clone(), score: p.score }
                });
                score.into_iter().collect()
            }
            FromHost::Finish { winner } => {
                self.figures.clear();
                vec![News::RoundFinished { winner: winner.map(|id| self.name(id)) }]
            }
        };
        let lines: Vec<_> = news.iter().filter_map(|n| self.chat_line(n)).collect();
        self.chat.extend(lines);
        news
    }

    /// Moves everyone's figure but our own, which is ahead of what the host knows.
    pub fn place(&mut self, positions: &Positions) {
        if self.me.is_none() {
            return;
        }
        let others = positions.figures.iter().filter(|(id, ..)| Some(*id) != self.me);
        self.figures.extend(others.map(|(id, x, y)| (*id, Vec2::new(*x, *y))));
    }

    fn seat(&mut self, players: Vec<Player>, max: usize) -> Vec<News> {
        let was_full = self.is_full();
        let first = self.players.is_empty();
        let mut news = Vec::new();
        for player in &players {
            let name = player.name.clone();
            match self.player(player.id) {
                // Whoever was here before us did not join now.
                None if !first => news.push(News::Joined { name }),
                Some(old) if old.ready != player.ready => news.push(News::Ready { name, ready: player.ready }),
                _ => {}
            }
        }
        (self.players, self.max) = (players, max);
        if self.is_full() && !was_full {
            news.push(News::Full { players: self.players.len(), max });
        }
        news
    }

    fn name(&self, id: PlayerId) -> String {
        self.player(id).map_or_else(|| "Someone".to_owned(), |p| p.name.clone())
    }

    fn chat_line(&self, news: &News) -> Option<ChatLine> {
        match news {
            News::Said { from, name, text } => {
                let colour = self.player(*from).map_or(0, |p| p.colour);
                Some(ChatLine { from: Some((name.clone(), colour)), text: text.clone() })
            }
            News::Joined { .. } | News::Gone { .. } | News::RoundFinished { .. } => {
                Some(ChatLine { from: None, text: news.to_string() })
            }
            _ => None,
        }
    }
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            News::Entered { code, link } => write!(f, "in the lobby {code}, {link}"),
            News::Joined { name } => write!(f, "{name} joined"),
            News::Gone { name, how } => write!(f, "{name} {how}"),
            News::Said { name, text, .. } => write!(f, "{name}: {text}"),
            News::Ready { name, ready: true } => write!(f, "{name} is ready"),
            News::Ready { name, ready: false } => write!(f, "{name} is not ready"),
            News::Full { players, max } => write!(f, "lobby full: {players} of {max}"),
            News::RoundStarted => f.write_str("the round begins"),
            News::Caught { name, score: 1, .. } => write!(f, "{name} caught a spark"),
            News::Caught { name, score, .. } => write!(f, "{name} caught a spark and has {score}"),
            News::RoundFinished { winner: Some(name) } => write!(f, "{name} won the round"),
            News::RoundFinished { winner: None } => f.write_str("the round ended without a winner"),
            News::Trouble => f.write_str("trouble with the connection, trying again …"),
            News::Ended { why } => f.write_str(why),
        }
    }
}
