//! Typed messages: registered types arrive, and messages that do not decode do no harm.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

#[cfg(feature = "relay")]
mod original;
#[path = "typed/registration.rs"]
mod registration;
mod support;

use std::collections::BTreeMap;

use bevy::{ecs::system::RunSystemOnce, prelude::*};
use bevy_uhst::{
    TypedMessage,
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, link},
};
use serde::{Deserialize, Serialize};
use support::until;

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Chat {
    text: String,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
enum Move {
    To { x: f32, y: f32 },
    Jump,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Tick(u64);

/// Every message of one type that this app has received.
#[derive(Resource)]
struct Got<T: TypedMessage>(Vec<FromPeer<T>>);

fn log<T: TypedMessage + Clone>(app: &mut App) {
    app.insert_resource(Got::<T>(Vec::new()))
        .add_systems(Update, |mut messages: MessageReader<FromPeer<T>>, mut got: ResMut<Got<T>>| {
            got.0.extend(messages.read().cloned())
        });
}

fn got<T: TypedMessage + Clone>(app: &App) -> Vec<T> {
    app.world().resource::<Got<T>>().0.iter().map(|from| from.message.clone()).collect()
}

fn send<T: TypedMessage, R: 'static>(app: &mut App, send: impl Fn(&UhstSender<T>) -> R + Send + Sync + 'static) -> R {
    app.world_mut().run_system_once(move |sender: UhstSender<T>| send(&sender)).unwrap()
}

fn game(app: &mut App) {
    app.add_uhst_message::<Chat>(UhstChannel::Reliable)
        .add_uhst_message::<Move>(UhstChannel::ReliableUnordered)
        .add_uhst_message::<Tick>(UhstChannel::UnreliableSequenced);
    log::<Chat>(app);
    log::<Move>(app);
    log::<Tick>(app);
}

fn connected(app: &App) -> usize {
    TestLog::of(app).count(|event| matches!(event, TestEvent::Connected(_)))
}

fn diagnostics(app: &App) -> Vec<String> {
    let text = |event: &TestEvent| match event {
        TestEvent::Diagnostic(event) => Some(event.text.clone()),
        _ => None,
    };
    TestLog::of(app).0.iter().filter_map(text).collect()
}

fn ended(app: &App) -> Option<EndReason> {
    TestLog::of(app).0.iter().find_map(|event| match event {
        TestEvent::Ended(event) => Some(event.reason.clone()),
        _ => None,
    })
}

/// Creates a host by the first function and clients by the others. None of them is updated.
fn apps<const N: usize>(set_up: [fn(&mut App); N]) -> [App; N] {
    let network = TestNetwork::memory();
    let mut host = None;
    set_up.map(|set_up| {
        let mut app = network.app();
        set_up(&mut app);
        match &host {
            None => {
                app.world_mut().spawn(UhstHost::new("game"));
                until(&mut [&mut app], |apps| {
                    apps[0].world_mut().query::<&UhstHost>().iter(apps[0].world()).all(UhstHost::is_ready)
                });
                host = Some(link(&app));
            }
            Some(link) => drop(app.world_mut().spawn(UhstClient::from(link.clone()))),
        }
        app
    })
}

/// Creates a host and clients that are connected.
fn session<const N: usize>(set_up: [fn(&mut App); N]) -> [App; N] {
    let mut apps = apps(set_up);
    let mut all: Vec<_> = apps.iter_mut().collect();
    until(&mut all, |apps| connected(apps[0]) == N - 1 && apps[1..].iter().all(|app| connected(app) == 1));
    apps
}

fn entity<C: Component>(app: &mut App) -> Entity {
    app.world_mut().query_filtered::<Entity, With<C>>().single(app.world()).unwrap()
}

fn chat(text: &str) -> Chat {
    Chat { text: text.to_owned() }
}

#[test_log::test]
fn what_a_client_sends_arrives_as_its_type_with_who_sent_it() {
    let [mut host, mut client] = session([game; 2]);
    let moves = [Move::To { x: 1.5, y: -2.0 }, Move::Jump];
    send::<Chat, _>(&mut client, |sender| sender.to_host(&chat("größe 🎲"))).unwrap();
    for one in moves.clone() {
        send::<Move, _>(&mut client, move |sender| sender.to_host(&one)).unwrap();
    }
    send::<Tick, _>(&mut client, |sender| sender.to_host(&Tick(u64::MAX))).unwrap();
    until(&mut [&mut host, &mut client], |apps| {
        got::<Chat>(apps[0]).len() == 1 && got::<Move>(apps[0]).len() == 2 && got::<Tick>(apps[0]).len() == 1
    });
    assert_eq!(got::<Chat>(&host), [chat("größe 🎲")]);
    assert!(moves.iter().all(|one| got::<Move>(&host).contains(one)));
    assert_eq!(got::<Tick>(&host), [Tick(u64::MAX)]);
    let (session, peer) = (entity::<UhstHost>(&mut host), entity::<UhstPeer>(&mut host));
    let from = &host.world().resource::<Got<Chat>>().0[0];
    assert_eq!((from.session, from.peer), (session, peer));
    assert_eq!(TestLog::of(&host).count(|event| matches!(event, TestEvent::Message(_))), 0);
}

#[test_log::test]
fn a_host_sends_to_one_to_all_and_to_all_but_one() {
    let [mut host, mut first, mut second] = session([game; 3]);
    send::<Chat, _>(&mut first, |sender| sender.to_host(&chat("I am first"))).unwrap();
    until(&mut [&mut host, &mut first], |apps| got::<Chat>(apps[0]).len() == 1);
    let of_first = host.world().resource::<Got<Chat>>().0[0].peer;
    send::<Chat, _>(&mut host, move |sender| -> Result {
        sender.to(of_first, &chat("to one"))?;
        sender.broadcast(&chat("to all"));
        sender.broadcast_except(of_first, &chat("to the other"));
        sender.broadcast(&chat("end"));
        Ok(())
    })
    .unwrap();
    until(&mut [&mut host, &mut first, &mut second], |apps| {
        apps[1..].iter().all(|app| got::<Chat>(app).last() == Some(&chat("end")))
    });
    assert_eq!(got::<Chat>(&first), [chat("to one"), chat("to all"), chat("end")]);
    assert_eq!(got::<Chat>(&second), [chat("to all"), chat("to the other"), chat("end")]);
}

#[test_log::test]
fn one_type_keeps_its_order_and_untyped_messages_go_on_beside_it() {
    let [mut host, mut client] = session([game; 2]);
    for number in 0..500 {
        let text = number.to_string();
        send::<Chat, _>(&mut client, move |sender| sender.to_host(&chat(&text))).unwrap();
        let untyped = client.world_mut().query::<&UhstClient>().single(client.world()).unwrap();
        untyped.send(format!("untyped {number}")).unwrap();
    }
    until(&mut [&mut host, &mut client], |apps| {
        got::<Chat>(apps[0]).len() == 500 && TestLog::of(apps[0]).texts().len() == 500
    });
    assert!(got::<Chat>(&host).iter().zip(0..).all(|(chat, number)| chat.text == number.to_string()));
    assert!(TestLog::of(&host).texts().iter().zip(0..).all(|(text, number)| *text == format!("untyped {number}")));
}

#[test_log::test]
fn large_messages_and_many_types_find_their_way() {
    let [mut host, mut client] = session([game; 2]);
    let large = "x".repeat(1 << 20);
    let sent = large.clone();
    send::<Chat, _>(&mut client, move |sender| sender.to_host(&chat(&sent))).unwrap();
    send::<Chat, _>(&mut client, |sender| sender.to_host(&chat("small"))).unwrap();
    until(&mut [&mut host, &mut client], |apps| got::<Chat>(apps[0]).len() == 2);
    assert!(got::<Chat>(&host) == [chat(&large), chat("small")]);
}

/// Types of the same names with other fields, as in a build whose author forgot to change the version.
mod older {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub struct Chat(pub u64);

    #[derive(Serialize, Deserialize)]
    pub struct Move(pub Vec<u8>);

    pub fn game(app: &mut App) {
        app.add_uhst_message::<Chat>(UhstChannel::Reliable)
            .add_uhst_message::<Move>(UhstChannel::ReliableUnordered)
            .add_uhst_message::<Tick>(UhstChannel::UnreliableSequenced);
    }
}

#[test_log::test]
fn what_does_not_decode_is_told_once_for_each_type_and_disconnects_nobody() {
    let [mut host, mut client] = session([game, older::game]);
    for _ in 0..50 {
        // A text of an enormous length, and an enum that has no such variant.
        send::<older::Chat, _>(&mut client, |sender| sender.to_host(&older::Chat(u64::MAX))).unwrap();
        send::<older::Move, _>(&mut client, |sender| sender.to_host(&older::Move(vec![1; 9]))).unwrap();
        // A variant without fields, and more behind it.
        send::<older::Move, _>(&mut client, |sender| sender.to_host(&older::Move(vec![7]))).unwrap();
    }
    let untyped = client.world_mut().query::<&UhstClient>().single(client.world()).unwrap();
    untyped.send("still here").unwrap();
    until(&mut [&mut host, &mut client], |apps| {
        TestLog::of(apps[0]).texts() == ["still here"] && diagnostics(apps[0]).len() >= 2
    });
    let told = diagnostics(&host);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().any(|text| text.contains("`Chat`")) && told.iter().any(|text| text.contains("`Move`")));
    assert!(got::<Chat>(&host).is_empty() && got::<Move>(&host).is_empty());
    assert_eq!((ended(&host), ended(&client)), (None, None));
    // And they still understand each other where they agree.
    send::<Tick, _>(&mut client, |sender| sender.to_host(&Tick(1))).unwrap();
    until(&mut [&mut host, &mut client], |apps| got::<Tick>(apps[0]) == [Tick(1)]);
}

fn json_game(app: &mut App) {
    app.add_uhst_message_json::<Chat>(UhstChannel::Reliable);
    log::<Chat>(app);
}

#[test_log::test]
fn a_text_that_has_the_shape_of_a_type_is_one_and_others_stay_texts() {
    let [mut host, mut client] = session([json_game; 2]);
    send::<Chat, _>(&mut client, |sender| sender.to_host(&chat("typed"))).unwrap();
    let untyped = client.world_mut().query::<&UhstClient>().single(client.world()).unwrap();
    untyped.send(r#"{"Chat":{"text":"by hand"}}"#).unwrap();
    let others = [r#"{"Chat":{"text":1}}"#, r#"{"Chat":{"text":"a"},"more":1}"#, r#"{"Other":1}"#, "hello", "{", ""];
    // The error would quote all of it.
    let quoted = format!(r#"{{"Chat":"{}"}}"#, "ä".repeat(100_000));
    untyped.send(quoted.clone()).unwrap();
    others.iter().for_each(|text| untyped.send(*text).unwrap());
    untyped.send(br#"{"Chat":{"text":"bytes"}}"#.to_vec()).unwrap();
    let count = |app: &App| TestLog::of(app).count(|event| matches!(event, TestEvent::Message(_)));
    until(&mut [&mut host, &mut client], |apps| count(apps[0]) == others.len() + 2);
    assert_eq!(got::<Chat>(&host), [chat("typed"), chat("by hand")]);
    assert!(TestLog::of(&host).texts() == [&[quoted.as_str()][..], &others[..]].concat());
    let told = diagnostics(&host);
    assert!(told.len() == 1 && told[0].contains("`Chat`") && told[0].len() < 300, "{told:?}");
}

#[cfg(feature = "relay")]
#[test_log::test]
fn an_original_takes_part_in_json_and_is_not_asked_for_its_version() {
    let network = TestNetwork::loopback();
    let mut host = network.app();
    json_game(&mut host);
    host.add_uhst_message::<Tick>(UhstChannel::Unreliable);
    host.world_mut().spawn(UhstHost::new("plain"));
    until(&mut [&mut host], |apps| TestLog::of(apps[0]).has(|event| matches!(event, TestEvent::Ready(_))));
    let original = original::Original::join(&support::address(&host), "plain");
    assert_eq!(original.send(&original.token, r#"{"Chat":{"text":"from a page"}}"#), 200);
    until(&mut [&mut host], |apps| got::<Chat>(apps[0]) == [chat("from a page")]);
    assert!(TestLog::of(&host).texts().is_empty());
    send::<Chat, _>(&mut host, |sender| sender.broadcast(&chat("to “all”")));
    assert_eq!(original.next_text().1, r#"{"Chat":{"text":"to “all”"}}"#);
    let report = send::<Tick, _>(&mut host, |sender| sender.broadcast(&Tick(1)));
    assert_eq!(report, BroadcastReport { peers: 1, missed: 1, cause: Some(SendError::NativeOnly) });
}

#[test_log::test]
fn sending_what_cannot_be_sent_is_an_error_that_says_why() {
    let [mut host, mut client] = session([game; 2]);
    let error = send::<String, _>(&mut client, |sender| sender.to_host(&String::new())).unwrap_err();
    assert!(error.to_string().contains("String is not registered"), "{error}");
    let nobody = entity::<UhstHost>(&mut host);
    let error = send::<Chat, _>(&mut host, move |sender| sender.to(nobody, &chat("who?")));
    assert_eq!(error, Err(SendError::Disconnected));
    let error = send::<Chat, _>(&mut host, |sender| sender.to_host(&chat("I am the host"))).unwrap_err();
    assert_eq!(error, SendError::NotConnected);
    let error = send::<Chat, _>(&mut client, |sender| sender.to_host(&chat(&"x".repeat(17 << 20)))).unwrap_err();
    assert!(matches!(error, SendError::TooLarge { .. }), "{error}");

    type Unkeyed = BTreeMap<(u8, u8), u8>;
    let mut app = TestNetwork::memory().app();
    app.add_uhst_message_json::<Unkeyed>(UhstChannel::Reliable);
    app.world_mut().spawn(UhstHost::new("game"));
    let report = send::<Unkeyed, _>(&mut app, |sender| sender.broadcast(&BTreeMap::from([((1, 2), 3)])));
    assert!(matches!(report.cause, Some(SendError::NotSerializable(_))), "{report:?}");
}

#[test_log::test]
fn the_helpers_make_apps_of_a_game_and_a_message_goes_to_those_who_are_chosen() {
    #[derive(Resource, Default)]
    struct Heard(usize);
    let network = TestNetwork::memory().game(|app| {
        app.add_uhst_message::<Tick>(UhstChannel::Reliable)
            .init_resource::<Heard>()
            .add_systems(Update, |mut ticks: MessageReader<FromPeer<Tick>>, mut heard: ResMut<Heard>| {
                heard.0 += ticks.read().count()
            });
    });
    let (mut host, mut first) = network.pair("game");
    let mut others = [network.join(&host), network.join(&host)];
    let [second, third] = &mut others;
    until(&mut [&mut host, &mut first, second, third], |apps| {
        let world = apps[0].world_mut();
        world.query::<&UhstPeer>().iter(world).count() == 3
    });
    let world = host.world_mut();
    let peers: Vec<Entity> = world.query_filtered::<Entity, With<UhstPeer>>().iter(world).collect();
    let chosen = [peers[0], peers[2], Entity::PLACEHOLDER];
    send::<Tick, _>(&mut host, move |sender| sender.to_each(chosen, &Tick(1)));
    // Whoever gets this has had what was sent before.
    send::<Tick, _>(&mut host, |sender| sender.broadcast(&Tick(2)));
    let heard = |app: &App| app.world().resource::<Heard>().0;
    until(&mut [&mut host, &mut first, second, third], |apps| {
        apps[1..].iter().map(|app| heard(app)).sum::<usize>() == 5
    });
    assert!([&first, second, third].iter().all(|app| heard(app) >= 1));
}
