//! The data channels of the browser, in the form that links use.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use js_sys::{ArrayBuffer, JsString, Uint8Array};
use n0_future::time::sleep;
use tokio::sync::Notify;
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{MessageEvent, RtcDataChannel, RtcDataChannelState, RtcDataChannelType};

use super::text;
use crate::{
    net::webrtc::{NotUtf8, SEND_BUFFER, SendFailure, channel_queue::MESSAGE_OVERHEAD},
    protocol::Payload,
};

/// The received bytes that may wait for their reader. A browser receives without backpressure, but the reader takes a
/// message before the next one arrives, unless the peer sends more than a connection allows. Such a channel is closed.
const MAX_WAITING: usize = 32 * 1024 * 1024;

/// The poll interval while a closing channel waits until its buffer is empty.
const SENT_CHECK: Duration = Duration::from_millis(2);

/// One data channel. Dropping it closes it.
pub(in crate::net::webrtc) struct Channel {
    channel: RtcDataChannel,
    state: Rc<State>,
    _changed: Closure<dyn FnMut()>,
    _room: Closure<dyn FnMut()>,
    _message: Closure<dyn FnMut(MessageEvent)>,
}

/// What the callbacks share with the tasks. Each notification has one waiter.
#[derive(Default)]
struct State {
    received: RefCell<VecDeque<Payload>>,
    waiting: Cell<usize>,
    /// The channel has opened, received a message, or closed.
    changed: Notify,
    /// The buffer of the channel has room again, or the channel has closed.
    room: Notify,
}

impl State {
    fn push(&self, payload: Payload) {
        self.waiting.set(self.waiting.get() + payload.len() + MESSAGE_OVERHEAD);
        self.received.borrow_mut().push_back(payload);
        self.changed.notify_one();
    }

    fn pop(&self) -> Option<Payload> {
        let payload = self.received.borrow_mut().pop_front()?;
        self.waiting.set(self.waiting.get() - payload.len() - MESSAGE_OVERHEAD);
        Some(payload)
    }
}

impl Channel {
    /// Wraps a channel. A channel of the peer is wrapped in the callback that announces it: messages that arrive before it
    /// has a callback of its own are lost.
    pub(super) fn new(channel: RtcDataChannel) -> Self {
        let state = Rc::<State>::default();
        channel.set_binary_type(RtcDataChannelType::Arraybuffer);
        channel.set_buffered_amount_low_threshold(SEND_BUFFER as u32 / 2);
        let both = state.clone();
        let changed = Closure::new(move || {
            both.changed.notify_one();
            both.room.notify_one();
        });
        channel.set_onopen(Some(changed.as_ref().unchecked_ref()));
        channel.set_onclose(Some(changed.as_ref().unchecked_ref()));
        let sender = state.clone();
        let room = Closure::new(move || sender.room.notify_one());
        channel.set_onbufferedamountlow(Some(room.as_ref().unchecked_ref()));
        let (receiver, of) = (state.clone(), channel.clone());
        let message = Closure::new(move |event: MessageEvent| {
            let Some(payload) = payload(&event) else { return };
            if receiver.waiting.get() + payload.len() > MAX_WAITING {
                of.close();
            } else {
                receiver.push(payload);
            }
        });
        channel.set_onmessage(Some(message.as_ref().unchecked_ref()));
        Channel { channel, state, _changed: changed, _room: room, _message: message }
    }

    /// Whether the channel has this label.
    pub async fn has_label(&self, label: &str) -> bool {
        self.channel.label() == label
    }

    fn is_closed(&self) -> bool {
        matches!(self.channel.ready_state(), RtcDataChannelState::Closing | RtcDataChannelState::Closed)
    }

    /// Waits until the channel is open. Returns `false` if it will not open.
    pub async fn opened(&self) -> bool {
        while !self.is_closed() {
            if self.channel.ready_state() == RtcDataChannelState::Open {
                return true;
            }
            self.state.changed.notified().await;
        }
        false
    }

    /// Waits for a message of the peer; `None` once the channel is closed. Browsers replace what is not UTF-8.
    pub async fn receive(&self) -> Option<Result<Payload, NotUtf8>> {
        loop {
            if let Some(payload) = self.state.pop() {
                return Some(Ok(payload));
            }
            if self.is_closed() {
                return None;
            }
            self.state.changed.notified().await;
        }
    }

    /// Sends a message, once the buffer of the channel has room for it.
    pub async fn send(&self, payload: Payload) -> Result<(), SendFailure> {
        while self.channel.buffered_amount() as usize > SEND_BUFFER && !self.is_closed() {
            self.state.room.notified().await;
        }
        let sent = match payload {
            Payload::Text(text) => self.channel.send_with_str(&text),
            Payload::Binary(bytes) => self.channel.send_with_u8_array(&bytes),
        };
        sent.map_err(|error| if self.is_closed() { SendFailure::Closed } else { SendFailure::Refused(text(error)) })
    }

    /// Waits until the peer has what was sent: it closes the channel in turn, after the last message.
    pub async fn flush(&self) {
        while self.channel.buffered_amount() > 0 && !self.is_closed() {
            sleep(SENT_CHECK).await;
        }
        self.channel.close();
        while self.channel.ready_state() != RtcDataChannelState::Closed {
            self.state.room.notified().await;
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.channel.set_onopen(None);
        self.channel.set_onclose(None);
        self.channel.set_onbufferedamountlow(None);
        self.channel.set_onmessage(None);
        self.channel.close();
    }
}

fn payload(event: &MessageEvent) -> Option<Payload> {
    match event.data().dyn_into::<ArrayBuffer>() {
        Ok(buffer) => Some(Payload::Binary(Bytes::from(Uint8Array::new(&buffer).to_vec()))),
        Err(other) => other.dyn_into::<JsString>().ok().map(|text| Payload::Text(String::from(text).into())),
    }
}
