//! A session between machines.

use std::time::Duration;

use crate::{
    PATIENCE,
    net::{Machine, Net, Player},
    status::Status,
};

/// A relay with a host and a client that are connected.
pub struct Game {
    /// The process of the relay; `None` if the host embeds the relay.
    pub relay: Option<Player>,
    pub host: Player,
    pub client: Player,
}

impl Game {
    pub fn start(net: &Net) -> Self {
        let relay = net.start(Machine::Relay, "relay", &[]);
        relay.wait_for("no relay", PATIENCE, |status| status.ready);
        let host = net.start(Machine::Host, "host", &[("BEVY_UHST_TEST_RELAY", "http://10.77.2.3:8080/")]);
        host.wait_for("does not listen", PATIENCE, |status| status.ready);
        let client = net.start(Machine::Client, "client", &[("BEVY_UHST_TEST_RELAY", "http://10.77.3.3:8080/")]);
        let game = Game { relay: Some(relay), host, client };
        game.both("not connected", PATIENCE, |status| status.connected == 1);
        game
    }

    /// Starts a game whose host embeds the relay, over the direct wire.
    pub fn embedded(net: &Net, settings: &[(&str, &str)]) -> Self {
        let host = net.start(Machine::Host, "host", settings);
        host.wait_for("does not listen", PATIENCE, |status| status.ready);
        let relay = [("BEVY_UHST_TEST_RELAY", "http://10.77.1.1:8080/")];
        let client = net.start(Machine::Client, "client", &[settings, &relay].concat());
        let game = Game { relay: None, host, client };
        game.both("not connected", PATIENCE, |status| status.connected == 1);
        game
    }

    pub fn direct(net: &Net) -> Self {
        let game = Game::start(net);
        game.both("not direct", PATIENCE, |status| status.direct);
        game
    }

    /// Starts a game with a direct path and traffic in both directions. Gaps count from now on.
    pub fn talking(net: &Net) -> Self {
        let mut game = Game::direct(net);
        game.say("talk");
        game.goes_on(PATIENCE);
        game.say("reset");
        game
    }

    pub fn both(&self, what: &str, patience: Duration, such: impl Fn(&Status) -> bool) -> Duration {
        let first = self.host.wait_for(what, patience, &such);
        first + self.client.wait_for(what, patience.saturating_sub(first), &such)
    }

    pub fn say(&mut self, words: &str) {
        self.host.say(words);
        self.client.say(words);
    }

    /// Waits until both sides have received more messages.
    pub fn goes_on(&self, patience: Duration) -> Duration {
        let before = [self.host.status().received.reliable, self.client.status().received.reliable];
        let mut slowest = Duration::ZERO;
        for (player, before) in [&self.host, &self.client].into_iter().zip(before) {
            slowest = slowest
                .max(player.wait_for("nothing arrives", patience, |status| status.received.reliable > before + 10));
        }
        slowest
    }

    /// Stops sending, and waits until all reliable messages have arrived. Both sides have checked their order.
    pub fn nothing_is_lost(&mut self) {
        self.say("silent");
        for (from, to) in [(&self.host, &self.client), (&self.client, &self.host)] {
            from.wait_for("still sending", PATIENCE, |status| status.silent);
            let sent = from.status().sent.reliable;
            to.wait_for(&format!("{sent} were sent"), PATIENCE, |status| status.received.reliable == sent);
        }
        for player in [&self.host, &self.client] {
            let Status { connected, disconnected, ended, broken, .. } = player.status();
            assert_eq!((connected, disconnected, ended, broken), (1, 0, 0, false));
        }
    }
}
