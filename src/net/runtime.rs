//! Where the background tasks run: a runtime of our own, or the app's.

use std::thread;

use tokio::sync::oneshot;

#[cfg(all(feature = "discovery", not(target_family = "wasm")))]
use super::discovery::{self, AnnounceTask, BrowseHandle, Discovery, Place};
use super::{
    client,
    contract::{ClientOptions, Event, HostOptions, SessionHandle, SessionKey},
    host,
};

/// Runs sessions.
#[derive(Debug)]
pub(crate) struct Runtime {
    handle: tokio::runtime::Handle,
    /// The thread ends with this value; none when the app handed in its own runtime.
    own: Option<oneshot::Sender<()>>,
}

impl Runtime {
    /// On the app's runtime if it hands one in, else on a thread of our own.
    ///
    /// A single one: a message passes several tasks on its way, and to wake another thread for each costs more than
    /// what they do.
    pub fn new(handle: Option<tokio::runtime::Handle>) -> std::io::Result<Self> {
        if let Some(handle) = handle {
            return Ok(Runtime { handle, own: None });
        }
        let own = tokio::runtime::Builder::new_current_thread().thread_name("bevy_uhst").enable_all().build()?;
        let handle = own.handle().clone();
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name("bevy_uhst".to_owned()).spawn(move || {
            let _: Result<(), _> = own.block_on(ended);
            // A lookup of a name that is under way is not waited for.
            own.shutdown_background();
        })?;
        Ok(Runtime { handle, own: Some(end) })
    }

    /// Whether nothing runs here while this thread waits: it is the only one of the app's own runtime.
    #[cfg(not(target_family = "wasm"))]
    pub fn runs_on_this_thread(&self) -> bool {
        self.own.is_none()
            && self.handle.metrics().num_workers() == 1
            && tokio::runtime::Handle::try_current().is_ok_and(|current| current.id() == self.handle.id())
    }

    /// Starts a host; everything it has to say comes up `events` under `session`, [`EventKind::Ended`] last.
    ///
    /// [`EventKind::Ended`]: super::contract::EventKind::Ended
    pub fn host(
        &self,
        session: SessionKey,
        options: HostOptions,
        events: crossbeam_channel::Sender<Event>,
    ) -> SessionHandle {
        let (handle, commands) = SessionHandle::new();
        self.handle.spawn(host::run(session, options, events, commands));
        handle
    }

    /// Starts a client, likewise.
    pub fn join(
        &self,
        session: SessionKey,
        options: ClientOptions,
        events: crossbeam_channel::Sender<Event>,
    ) -> SessionHandle {
        let (handle, commands) = SessionHandle::new();
        self.handle.spawn(client::run(session, options, events, commands));
        handle
    }

    /// Announces a session until its announcement is taken back.
    #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
    pub fn announce(&self, scope: Discovery, place: Place, task: AnnounceTask) {
        self.handle.spawn(discovery::run_announcement(scope, place, task));
    }

    /// Lists the sessions of a game until the handle is dropped.
    #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
    pub fn browse(&self, scope: Discovery, game: String) -> BrowseHandle {
        let (handle, events, dropped) = BrowseHandle::new();
        self.handle.spawn(discovery::run_browser(scope, game, events, dropped));
        handle
    }
}
