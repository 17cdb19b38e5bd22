//! Changes of this machine's network. Browsers show no addresses, but report that they are online again.

use tokio::sync::mpsc;
use wasm_bindgen::{JsCast, closure::Closure};

use crate::net::webrtc::AddressChange;

/// The event of a window that has a network again.
const ONLINE: &str = "online";

/// Listens for the browser to come online.
#[derive(Debug)]
pub(crate) struct AddressWatch {
    events: mpsc::UnboundedReceiver<()>,
    online: Closure<dyn FnMut()>,
}

impl AddressWatch {
    /// Creates a watch that reports changes from now on.
    pub fn new() -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let online = Closure::new(move || {
            let _ = sender.send(());
        });
        if let Some(window) = web_sys::window() {
            let _ = window.add_event_listener_with_callback(ONLINE, online.as_ref().unchecked_ref());
        }
        AddressWatch { events, online }
    }

    /// Waits for a change. Cancel safe.
    pub async fn changed(&mut self) -> AddressChange {
        // The watch owns the sender.
        let _ = self.events.recv().await;
        AddressChange { gone: true }
    }
}

impl Drop for AddressWatch {
    fn drop(&mut self) {
        if let Some(window) = web_sys::window() {
            let _ = window.remove_event_listener_with_callback(ONLINE, self.online.as_ref().unchecked_ref());
        }
    }
}
