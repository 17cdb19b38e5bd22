//! The runtime of the background tasks.

#[cfg(all(feature = "discovery", not(target_family = "wasm")))]
use super::discovery::{self, AnnounceTask, BrowseHandle, Discovery, RelayPlace};
use super::executor::Executor;
use super::{
    client,
    contract::{ClientOptions, Event, HostOptions, SessionHandle, SessionKey},
    host,
    page_end::leave_with_page,
};

/// The runtime of all sessions of an app.
#[derive(Debug)]
pub(crate) struct Runtime(Executor);

impl Runtime {
    /// Uses the app's runtime if there is one, and otherwise starts one.
    ///
    /// # Errors
    ///
    /// See [`Executor::new`].
    pub fn new(handle: Option<tokio::runtime::Handle>) -> std::io::Result<Self> {
        Executor::new(handle).map(Runtime)
    }

    /// Whether tasks stand still while this thread waits.
    pub fn runs_on_this_thread(&self) -> bool {
        self.0.runs_on_this_thread()
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
        self.0.spawn(leave_with_page(handle.leave_later(), host::run(session, options, events, commands)));
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
        self.0.spawn(leave_with_page(handle.leave_later(), client::run(session, options, events, commands)));
        handle
    }

    /// Announces a session until the announcement is withdrawn.
    #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
    pub fn announce(&self, scope: Discovery, place: RelayPlace, task: AnnounceTask) {
        self.0.spawn(discovery::run_announcement(scope, place, task));
    }

    /// Lists the sessions of a game until the handle is dropped.
    #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
    pub fn browse(&self, scope: Discovery, game: String) -> BrowseHandle {
        let (handle, events, dropped) = BrowseHandle::new();
        self.0.spawn(discovery::run_browser(scope, game, events, dropped));
        handle
    }
}
