//! Replication while the path changes. Nothing is lost, and nothing is duplicated.

use std::process::Command;

use bevy::prelude::*;
use bevy_replicon::prelude::*;
use bevy_uhst::prelude::*;

use super::{apps::*, support::StandaloneRelay};

/// The traffic of a test. Each step spawns, changes and despawns entities, and sends a numbered message each way.
struct Traffic {
    steps: u32,
    living: Vec<Entity>,
}

impl Traffic {
    fn step(&mut self, host: &mut App, client: &mut App) {
        let world = host.world_mut();
        self.living.push(world.spawn((Replicated, Number(self.steps))).id());
        if self.living.len() > 50 {
            let oldest = self.living.remove(0);
            world.despawn(oldest);
        }
        for entity in self.living.iter().step_by(3) {
            world.get_mut::<Number>(*entity).unwrap().0 += 1;
        }
        tell(host, self.steps);
        ask(client, self.steps);
        self.steps += 1;
    }

    /// Runs steps until a condition holds, and 20 more.
    #[track_caller]
    fn run(&mut self, host: &mut App, client: &mut App, condition: impl Fn(&mut App, &mut App) -> bool) {
        let mut after = 0;
        until(&mut [host, client], |apps| {
            let [host, client] = apps else { unreachable!() };
            self.step(host, client);
            after += u32::from(after > 0 || condition(host, client));
            after > 20
        });
    }

    /// Waits until everything has arrived, and checks it.
    #[track_caller]
    fn arrives(&self, host: &mut App, client: &mut App) {
        let all = self.steps as usize;
        until(&mut [host, client], |apps| {
            let [host, client] = apps else { unreachable!() };
            heard(client).told.len() >= all && heard(host).asked.len() >= all && numbers(client) == numbers(host)
        });
        assert!(heard(client).told.iter().copied().eq(0..self.steps));
        assert!(heard(host).asked.iter().copied().eq(0..self.steps));
        assert_eq!((remotes(client), clients(host)), (self.living.len(), 1));
        assert!(heard(client).states.iter().filter(|state| *state == "Connected").count() == 1);
    }
}

fn both_are(path: Path) -> impl Fn(&mut App, &mut App) -> bool {
    move |host, client| [host, client].into_iter().all(|app| super::apps::path(app) == path)
}

/// Creates a host and a client that replicate over this relay. A direct path may follow.
fn pair(relay: &StandaloneRelay) -> (App, App) {
    let network = Way::Direct.network();
    let (mut host, mut client) = (app(&network), app(&network));
    host.world_mut().spawn(UhstHost::new("replicon").relay(relay.relay()));
    until(&mut [&mut host], |apps| server_state(apps[0]) == ServerState::Running);
    client.world_mut().spawn(UhstClient::join("replicon").relay(relay.relay()));
    until(&mut [&mut host, &mut client], |apps| authorized(apps[0]) == 1 && replicating(apps[1]));
    (host, client)
}

#[test_log::test]
fn replication_moves_from_the_relay_to_a_direct_path() {
    let relay = StandaloneRelay::start();
    // On a busy machine, the direct path may open before the first frame.
    let still_on_the_relay = |_| Some(pair(&relay)).filter(|(_, client)| last_path(client).is_none());
    let (mut host, mut client) = (0..20).find_map(still_on_the_relay).unwrap();
    let mut traffic = Traffic { steps: 0, living: Vec::new() };
    traffic.run(&mut host, &mut client, both_are(Path::Direct));
    traffic.arrives(&mut host, &mut client);
}

#[test_log::test]
fn replication_goes_on_directly_when_the_relay_dies() {
    let mut relay = StandaloneRelay::start();
    let (mut host, mut client) = pair(&relay);
    let mut traffic = Traffic { steps: 0, living: Vec::new() };
    traffic.run(&mut host, &mut client, both_are(Path::Direct));
    relay.kill();
    traffic.run(&mut host, &mut client, |host, client| {
        [host, client].into_iter().all(|app| super::support::diagnostics(app).iter().any(|text| text.contains("lost")))
    });
    traffic.arrives(&mut host, &mut client);
}

/// Changes from the relay to a direct path, back when UDP is blocked, and to a direct path again.
///
/// `unshare -rn sh -c 'ip link set lo up && cargo test --features replicon --test replicon udp -- --ignored'`
#[test_log::test]
#[ignore = "blocks UDP, and needs a network namespace of its own"]
fn replication_survives_the_loss_of_udp() {
    let relay = StandaloneRelay::start();
    let (mut host, mut client) = pair(&relay);
    let mut traffic = Traffic { steps: 0, living: Vec::new() };
    traffic.run(&mut host, &mut client, both_are(Path::Direct));

    // These rules precede the one that delivers to this machine.
    for family in ["-4", "-6"] {
        ip(&format!("{family} rule add pref 10 lookup local"));
        ip(&format!("{family} rule del pref 0"));
        ip(&format!("{family} rule add pref 5 ipproto udp blackhole"));
    }
    traffic.run(&mut host, &mut client, both_are(Path::Relay));
    traffic.arrives(&mut host, &mut client);

    for family in ["-4", "-6"] {
        ip(&format!("{family} rule del pref 5"));
    }
    traffic.run(&mut host, &mut client, both_are(Path::Direct));
    traffic.arrives(&mut host, &mut client);
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}: {status}");
}
