//! The tokio runtime of the background tasks: our own, or the app's.

use std::thread;

use tokio::sync::oneshot;

#[cfg(all(feature = "discovery", not(target_family = "wasm")))]
use super::discovery::{self, AnnounceTask, BrowseHandle, Discovery, RelayPlace};
use super::{
    client,
    contract::{ClientOptions, Event, HostOptions, SessionHandle, SessionKey},
    host,
};

/// The runtime of all sessions of an app.
#[derive(Debug)]
pub(crate) struct Runtime {
    handle: tokio::runtime::Handle,
    /// Ends our own thread when dropped. Absent if the app supplied its runtime.
    own: Option<oneshot::Sender<()>>,
}

impl Runtime {
    /// Uses the app's runtime if there is one, and otherwise starts one on a thread of its own.
    ///
    /// One thread is enough: a message passes several tasks, and waking another thread for each costs more than their work.
    ///
    /// # Errors
    ///
    /// The error of the system if it cannot start the runtime or its thread.
    pub fn new(handle: Option<tokio::runtime::Handle>) -> std::io::Result<Self> {
        if let Some(handle) = handle {
            return Ok(Runtime { handle, own: None });
        }
        let own = tokio::runtime::Builder::new_current_thread().thread_name("bevy_uhst").enable_all().build()?;
        let handle = own.handle().clone();
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name("bevy_uhst".to_owned()).spawn(move || {
            let _: Result<(), _> = own.block_on(ended);
            // Without a wait for name lookups in progress.
            own.shutdown_background();
        })?;
        Ok(Runtime { handle, own: Some(end) })
    }

    /// Whether tasks stand still while this thread waits, since it is the only thread of the app's runtime.
    #[cfg(not(target_family = "wasm"))]
    pub fn runs_on_this_thread(&self) -> bool {
        self.own.is_none()
            && self.handle.metrics().num_workers() == 1
            && tokio::runtime::Handle::try_current().is_ok_and(|current| current.id() == self.handle.id())
    }

    /// Starts a host. It sends `events` under the key `session`, with [`EventKind::Ended`] as the last one.
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

    /// Starts a client. It sends events as a host does.
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

    /// Announces a session until the announcement is withdrawn.
    #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
    pub fn announce(&self, scope: Discovery, place: RelayPlace, task: AnnounceTask) {
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
