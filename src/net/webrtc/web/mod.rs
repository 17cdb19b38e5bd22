//! Direct paths on the browser's own `RTCPeerConnection`.
//!
//! Callbacks of the browser only queue what they learn. The tasks of a link take it from there.

mod addresses;
mod channel;
mod connection;

use wasm_bindgen::{JsCast, JsValue};

pub(crate) use self::addresses::AddressWatch;
pub(super) use self::{
    channel::Channel,
    connection::{Connection, connect},
};

/// The message of an exception.
fn text(exception: JsValue) -> String {
    match exception.dyn_ref::<js_sys::Error>() {
        Some(error) => error.message().into(),
        None => format!("{exception:?}"),
    }
}
