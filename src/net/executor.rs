//! Runs the background tasks: on a tokio runtime of our own, on the app's, or on the loop of a browser.

#[cfg(not(target_family = "wasm"))]
pub(super) use self::native::Executor;
#[cfg(target_family = "wasm")]
pub(super) use self::web::Executor;

#[cfg(not(target_family = "wasm"))]
mod native {
    use std::thread;

    use tokio::{runtime::Handle, sync::oneshot};

    /// A tokio runtime: our own, or the app's.
    #[derive(Debug)]
    pub struct Executor {
        handle: Handle,
        /// Ends our own thread when dropped. Absent if the app supplied its runtime.
        own: Option<oneshot::Sender<()>>,
    }

    impl Executor {
        /// Uses the app's runtime if there is one, and otherwise starts one on a thread of its own.
        ///
        /// One thread is enough: a message passes several tasks, and waking another thread for each costs more than their
        /// work.
        ///
        /// # Errors
        ///
        /// The error of the system if it cannot start the runtime or its thread.
        pub fn new(handle: Option<Handle>) -> std::io::Result<Self> {
            if let Some(handle) = handle {
                return Ok(Executor { handle, own: None });
            }
            let own = tokio::runtime::Builder::new_current_thread().thread_name("bevy_uhst").enable_all().build()?;
            let handle = own.handle().clone();
            let (end, ended) = oneshot::channel();
            thread::Builder::new().name("bevy_uhst".to_owned()).spawn(move || {
                let _: Result<(), _> = own.block_on(ended);
                // Without a wait for name lookups in progress.
                own.shutdown_background();
            })?;
            Ok(Executor { handle, own: Some(end) })
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
