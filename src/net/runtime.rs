//! Where the background tasks run: a runtime of our own, or the app's.

#[cfg(all(feature = "discovery", not(target_family = "wasm")))]
use super::discovery::{self, AnnounceHandle, BrowseHandle, Discovery, Place};
use super::{
    client,
    contract::{ClientOptions, Event, HostOptions, SessionHandle, SessionKey},
    host,
};
#[cfg(all(feature = "discovery", not(target_family = "wasm")))]
use crate::protocol::Announcement;

/// Runs sessions.
#[derive(Debug)]
pub(crate) struct Runtime {
    handle: tokio::runtime::Handle,
    /// Ends with this value; none when the app handed in its own.
    own: Option<tokio::runtime::Runtime>,
}

impl Runtime {
    /// On the app's runtime if it hands one in, else on one of our own.
    pub fn new(handle: Option<tokio::runtime::Handle>) -> std::io::Result<Self> {
        if let Some(handle) = handle {
            return Ok(Runtime { handle, own: None });
        }
        let own = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("bevy_uhst")
            .enable_all()
            .build()?;
        Ok(Runtime { handle: own.handle().clone(), own: Some(own) })
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

    /// Announces a session until the handle is dropped.
    #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
    pub fn announce(&self, scope: Discovery, place: Place, first: Announcement) -> AnnounceHandle {
        let (handle, latest, done) = AnnounceHandle::new(first);
        self.handle.spawn(discovery::run_announcement(scope, place, latest, done));
        handle
    }

    /// Lists the sessions of a game until the handle is dropped.
    #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
    pub fn browse(&self, scope: Discovery, game: String) -> BrowseHandle {
        let (handle, events, dropped) = BrowseHandle::new();
        self.handle.spawn(discovery::run_browser(scope, game, events, dropped));
        handle
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // The app may itself run inside a runtime, where waiting for another one to end would panic.
        if let Some(own) = self.own.take() {
            own.shutdown_background();
        }
    }
}
