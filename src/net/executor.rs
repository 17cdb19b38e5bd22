//! Runs the background tasks: on a tokio runtime of our own, on the app's, or on the loop of a browser.

#[cfg(not(target_family = "wasm"))]
pub(super) use self::native::Executor;
#[cfg(target_family = "wasm")]
pub(super) use self::web::Executor;

#[cfg(not(target_family = "wasm"))]
mod native {
    use std::sync::Arc;

    use tokio::runtime::Handle;

    use crate::net::network_thread::NetworkThread;

    /// A tokio runtime: our own, or the app's.
    #[derive(Debug)]
    pub struct Executor {
        handle: Handle,
        /// Our own thread. Absent if the app supplied its runtime.
        own: Option<Arc<NetworkThread>>,
    }

    impl Executor {
        /// Uses the app's runtime if there is one, and otherwise one of our own threads.
        ///
        /// # Errors
        ///
        /// The error of the system if it cannot start the runtime or its thread.
        pub fn new(handle: Option<Handle>) -> std::io::Result<Self> {
            if let Some(handle) = handle {
                return Ok(Executor { handle, own: None });
            }
            let own = NetworkThread::assign()?;
            Ok(Executor { handle: own.handle().clone(), own: Some(own) })
        }

        /// Whether tasks stand still while this thread waits, since it is the only thread of the app's runtime.
        pub fn runs_on_this_thread(&self) -> bool {
            self.own.is_none()
                && self.handle.metrics().num_workers() == 1
                && Handle::try_current().is_ok_and(|current| current.id() == self.handle.id())
        }

        /// Starts a task.
        pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
            self.handle.spawn(task);
        }
    }
}

#[cfg(target_family = "wasm")]
mod web {
    use std::io;

    use tokio::runtime::Handle;

    /// The loop of a browser, which runs the app, too.
    #[derive(Debug)]
    pub struct Executor(());

    impl Executor {
        /// Uses the browser's loop.
        ///
        /// # Errors
        ///
        /// An app cannot supply a runtime in a browser.
        pub fn new(handle: Option<Handle>) -> io::Result<Self> {
            match handle {
                None => Ok(Executor(())),
                Some(_) => Err(io::Error::other("a browser has one loop for all tasks: set no runtime there")),
            }
        }

        /// Whether tasks stand still while this thread waits. A browser has only one.
        pub fn runs_on_this_thread(&self) -> bool {
            true
        }

        /// Starts a task.
        pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
            n0_future::task::spawn(task);
        }
    }
}
