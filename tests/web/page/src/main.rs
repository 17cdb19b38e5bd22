//! A game without a picture, in a page: the page gives it commands as JSON, and is told what happens.

#![expect(clippy::needless_pass_by_value, reason = "systems take their parameters by value")]

mod speed;

use std::{cell::RefCell, rc::Rc, time::Duration};

use bevy::{app::PluginsState, prelude::*};
use bevy_uhst::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use speed::{Measurement, Speed};
use wasm_bindgen::{JsCast, prelude::*};

thread_local! {
    static COMMANDS: RefCell<Vec<Command>> = const { RefCell::new(Vec::new()) };
}

#[wasm_bindgen]
extern "C" {
    /// Tells the page what happened.
    #[wasm_bindgen(js_name = "happened")]
    fn happened(event: &str);
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Command {
    Host {
        id: String,
        relay: Option<String>,
        password: Option<String>,
    },
    /// Join by this link, or else by that of the page. `resume_timeout`: in seconds.
    Join {
        link: Option<String>,
        password: Option<String>,
        resume_timeout: Option<u64>,
        /// The bytes of messages that may wait, and the largest one is a quarter of it.
        receive_buffer: Option<usize>,
        /// The secret bytes of the player.
        identity: Option<[u8; 32]>,
    },
    /// Send a text, or this many bytes, to all peers.
    Send {
        channel: String,
        text: Option<String>,
        bytes: Option<usize>,
    },
    /// Send numbered messages to all peers, some in each frame.
    Number {
        count: u32,
        each_frame: u32,
    },
    /// Whether to send each message back.
    Echo(bool),
    /// Measure the speed of the connection.
    Speed(Measurement),
    Kick,
    Leave,
    Exit,
}

/// Queues a command for the next frame.
#[wasm_bindgen]
pub fn command(json: &str) -> Result<(), String> {
    let command = serde_json::from_str(json).map_err(|error| error.to_string())?;
    COMMANDS.with_borrow_mut(|commands| commands.push(command));
    Ok(())
}

/// The numbered messages of both ways.
#[derive(Resource, Default)]
struct Numbers {
    next: u32,
    end: u32,
    each_frame: u32,
    received: u32,
}

#[derive(Resource, Default)]
struct Echo(bool);

fn main() {
    console_error_panic_hook::set_once();
    App::new()
        .add_plugins((MinimalPlugins, UhstPlugin::default().ice_servers([])))
        .set_runner(run_in_frames)
        .init_resource::<Numbers>()
        .init_resource::<Echo>()
        .init_resource::<Speed>()
        .add_observer(|event: On<UhstReady>| report("ready", json!(event.id)))
        .add_observer(|event: On<UhstConnected>, peers: Query<&UhstPeer>| {
            report("connected", json!(peers.get(event.entity).is_ok_and(UhstPeer::is_native)));
        })
        .add_observer(|event: On<UhstPathChanged>| report("path", json!(format!("{:?}", event.path))))
        .add_observer(|event: On<UhstInterrupted>| report("interrupted", json!(format!("{:?}", event.reason))))
        .add_observer(|_: On<UhstResumed>| report("resumed", Value::Null))
        .add_observer(|event: On<UhstDisconnected>| report("disconnected", json!(format!("{:?}", event.reason))))
        .add_observer(|event: On<UhstEnded>| report("ended", json!(format!("{:?}", event.reason))))
        .add_observer(|event: On<UhstDiagnostic>| report("diagnostic", json!(event.text)))
        .add_systems(Update, (receive, obey, number, speed::send).chain())
        .run();
}

/// Updates the app in each frame of the page, as a game with a picture does.
fn run_in_frames(mut app: App) -> AppExit {
    assert_eq!(app.plugins_state(), PluginsState::Ready);
    app.finish();
    app.cleanup();
    let frame = Rc::new(RefCell::new(None::<Closure<dyn FnMut()>>));
    let next = {
        let frame = frame.clone();
        move || {
            if let (Some(window), Some(frame)) = (web_sys::window(), &*frame.borrow()) {
                window.request_animation_frame(frame.as_ref().unchecked_ref()).expect("the page has frames");
            }
        }
    };
    let begin = next.clone();
    frame.replace(Some(Closure::new(move || {
        app.update();
        if app.should_exit().is_none() {
            next();
        }
    })));
    begin();
    AppExit::Success
}

fn report(event: &str, value: Value) {
    happened(&json!({ "event": event, "value": value }).to_string());
}

/// Reports each message, and numbered ones once they are all there.
fn receive(
    mut messages: MessageReader<UhstMessage>,
    mut numbers: ResMut<Numbers>,
    echo: Res<Echo>,
    mut speed: ResMut<Speed>,
    peers: Query<&UhstPeer>,
) {
    for message in messages.read() {
        if speed.receive() {
            continue;
        }
        let channel = format!("{:?}", message.channel);
        if echo.0
            && let Ok(peer) = peers.get(message.peer)
            && let Err(error) = peer.send_on(message.channel, message.payload.clone())
        {
            report("diagnostic", json!(error.to_string()));
        }
        let Some(text) = message.payload.as_text() else {
            let bytes = message.payload.as_bytes();
            let is_whole = bytes.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8);
            report("bytes", json!({ "channel": channel, "len": bytes.len(), "is_whole": is_whole }));
            continue;
        };
        let Some(number) = text.strip_prefix("number ") else {
            report("text", json!({ "channel": channel, "text": text }));
            continue;
        };
        match number.split_once(" of ") {
            Some((number, of)) if number == numbers.received.to_string() => {
                numbers.received += 1;
                if of == numbers.received.to_string() {
                    report("numbers", json!(numbers.received));
                }
            }
            _ => report("misplaced", json!({ "text": text, "after": numbers.received })),
        }
    }
}

fn obey(
    mut commands: Commands,
    sessions: Query<Entity, With<UhstSession>>,
    peers: Query<&UhstPeer>,
    mut numbers: ResMut<Numbers>,
    mut echo: ResMut<Echo>,
    mut speed: ResMut<Speed>,
    mut exit: MessageWriter<AppExit>,
) {
    for command in COMMANDS.take() {
        match command {
            Command::Host { id, relay, password } => {
                let host = UhstHost::new(id).relay(relay.map_or_else(Relay::default, Relay::Url));
                commands.spawn(match password {
                    Some(password) => host.password(password),
                    None => host,
                });
            }
            Command::Join { link, password, resume_timeout, receive_buffer, identity } => {
                if let Some(bytes) = identity {
                    commands.insert_resource(UhstIdentity::from_bytes(bytes));
                }
                let mut config = ConnectionConfig::default();
                if let Some(seconds) = resume_timeout {
                    config.resume_timeout = Duration::from_secs(seconds);
                }
                if let Some(bytes) = receive_buffer {
                    (config.receive_buffer, config.max_message) = (bytes, bytes / 4);
                }
                let client = match link {
                    Some(link) => UhstClient::join(link),
                    None => match JoinLink::of_page() {
                        Some(link) => UhstClient::from(link),
                        None => {
                            report("diagnostic", json!("the page has no link"));
                            continue;
                        }
                    },
                };
                let client = client.connection(config);
                commands.spawn(match password {
                    Some(password) => client.password(password),
                    None => client,
                });
            }
            Command::Send { channel, text, bytes } => send(&peers, &channel, text, bytes),
            Command::Number { count, each_frame } => {
                *numbers = Numbers { end: count, each_frame, received: numbers.received, ..default() };
            }
            Command::Echo(on) => {
                echo.0 = on;
                report("echoes", json!(on));
            }
            Command::Speed(measurement) => {
                *speed = Speed::of(measurement);
                report("measures", Value::Null);
            }
            Command::Kick => peers.iter().for_each(|peer| {
                peer.kick("enough").unwrap_or_else(|error| report("diagnostic", json!(error.to_string())))
            }),
            Command::Leave => sessions.iter().for_each(|session| commands.entity(session).despawn()),
            Command::Exit => {
                exit.write(AppExit::Success);
            }
        }
    }
}

fn send(peers: &Query<&UhstPeer>, channel: &str, text: Option<String>, bytes: Option<usize>) {
    let payload = match (text, bytes) {
        (Some(text), _) => Payload::from(text),
        (None, len) => Payload::from((0..len.unwrap_or_default()).map(|at| (at % 251) as u8).collect::<Vec<_>>()),
    };
    let channels = [
        UhstChannel::Reliable,
        UhstChannel::ReliableUnordered,
        UhstChannel::Unreliable,
        UhstChannel::UnreliableSequenced,
    ];
    let Some(channel) = channels.into_iter().find(|known| format!("{known:?}") == channel) else {
        return report("diagnostic", json!(format!("no channel {channel}")));
    };
    for peer in peers {
        if let Err(error) = peer.send_on(channel, payload.clone()) {
            report("diagnostic", json!(error.to_string()));
        }
    }
}

fn number(peers: Query<&UhstPeer>, mut numbers: ResMut<Numbers>) {
    for _ in 0..numbers.each_frame {
        if numbers.next == numbers.end {
            return;
        }
        let text = format!("number {} of {}", numbers.next, numbers.end);
        if peers.iter().any(|peer| peer.send(text.clone()).is_err()) {
            // Its queue is full. The next frame tries again.
            return;
        }
        numbers.next += 1;
    }
}
