//! The types of both sides must be the same, and a registration that cannot work panics.

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork},
};

use crate::{Chat, Move, Tick, apps, chat, connected, ended, game, got, older, send, support::until};

#[test_log::test]
fn the_order_of_registration_does_not_matter_nor_does_the_plugin() {
    let network = TestNetwork::memory();
    let mut host = network.app();
    game(&mut host);
    let mut client = App::new();
    client
        .add_uhst_message::<Tick>(UhstChannel::UnreliableSequenced)
        .add_uhst_message::<Move>(UhstChannel::ReliableUnordered)
        .add_plugins((MinimalPlugins, UhstPlugin::default().ice_servers([]).relay(network.relay())))
        .add_uhst_message::<Chat>(UhstChannel::Reliable)
        .add_uhst_message::<Chat>(UhstChannel::Reliable);
    bevy_uhst::test_app::record(&mut client);
    host.world_mut().spawn(UhstHost::new("game"));
    until(&mut [&mut host], |apps| TestLog::of(apps[0]).has(|event| matches!(event, TestEvent::Ready(_))));
    client.world_mut().spawn(UhstClient::join("game"));
    until(&mut [&mut host, &mut client], |apps| connected(apps[1]) == 1);
    send::<Chat, _>(&mut client, |sender| sender.to_host(&chat("hello"))).unwrap();
    until(&mut [&mut host, &mut client], |apps| got::<Chat>(apps[0]) == [chat("hello")]);
}

#[test_log::test]
fn another_version_of_the_game_is_refused_with_the_reason() {
    let others: [fn(&mut App); 5] = [
        |_| {},
        |app| {
            app.add_uhst_message::<Chat>(UhstChannel::Reliable);
        },
        |app| {
            app.add_uhst_message::<Chat>(UhstChannel::Unreliable)
                .add_uhst_message::<Move>(UhstChannel::ReliableUnordered)
                .add_uhst_message::<Tick>(UhstChannel::UnreliableSequenced);
        },
        |app| {
            app.add_uhst_message_json::<Chat>(UhstChannel::Reliable)
                .add_uhst_message::<Move>(UhstChannel::ReliableUnordered)
                .add_uhst_message::<Tick>(UhstChannel::UnreliableSequenced);
        },
        |app| {
            game(app);
            app.add_uhst_message_as::<u8>("more", UhstChannel::Reliable, Encoding::Binary);
        },
    ];
    for other in others {
        for set_up in [[game, other], [other, game]] {
            let [mut host, mut client] = apps(set_up);
            until(&mut [&mut host, &mut client], |apps| ended(apps[1]).is_some());
            let reason = ended(&client).unwrap();
            assert!(matches!(reason, EndReason::GameMismatch(_)), "{reason}");
            assert!(reason.to_string().contains("another version of the game"), "{reason}");
            assert_eq!((connected(&host), connected(&client)), (0, 0));
        }
    }
}

#[test_log::test]
fn a_version_that_differs_is_named() {
    let network = TestNetwork::memory();
    let app = |version: &str| {
        let mut app = App::new();
        let plugin = UhstPlugin::default().ice_servers([]).relay(network.relay()).version(version);
        app.add_plugins((MinimalPlugins, plugin));
        bevy_uhst::test_app::record(&mut app);
        app
    };
    let mut host = app("7");
    host.world_mut().spawn(UhstHost::new("game"));
    until(&mut [&mut host], |apps| TestLog::of(apps[0]).has(|event| matches!(event, TestEvent::Ready(_))));
    let mut old = app("6");
    old.world_mut().spawn(UhstClient::join("game"));
    let mut same = app("7");
    same.world_mut().spawn(UhstClient::join("game"));
    until(&mut [&mut host, &mut old, &mut same], |apps| ended(apps[1]).is_some() && connected(apps[2]) == 1);
    let reason = ended(&old).unwrap().to_string();
    assert_eq!(reason, "another version of the game: the host has “7”, the joiner has “6”");
}

#[test]
#[should_panic(expected = "both have the name `Chat`")]
fn two_types_of_one_name_are_refused() {
    App::new().add_uhst_message::<Chat>(UhstChannel::Reliable).add_uhst_message::<older::Chat>(UhstChannel::Reliable);
}

#[test]
#[should_panic(expected = "registered twice")]
fn one_type_on_two_channels_is_refused() {
    App::new().add_uhst_message::<Chat>(UhstChannel::Reliable).add_uhst_message::<Chat>(UhstChannel::Unreliable);
}

#[test]
#[should_panic(expected = "after a session has started")]
fn a_type_that_comes_too_late_is_refused() {
    let mut app = TestNetwork::memory().app();
    app.world_mut().spawn(UhstHost::new("game"));
    app.add_uhst_message::<Chat>(UhstChannel::Reliable);
}

#[test]
#[should_panic(expected = "is no name for")]
fn a_name_that_json_would_have_to_escape_is_refused() {
    App::new().add_uhst_message_as::<Chat>("say \"hi\"", UhstChannel::Reliable, Encoding::Json);
}
