//! The threads of the background tasks. All apps of a process share them.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
};

use tokio::sync::oneshot;

/// The threads that apps use now. A process has no more of them than cores, however many apps it has: each thread costs
/// memory, and waking one more thread for a message costs more than the work that it does.
static RUNNING: Mutex<Vec<Weak<NetworkThread>>> = Mutex::new(Vec::new());

/// A thread with a tokio runtime. It ends when the last app that uses it is gone.
///
/// An app uses one thread: a message passes several tasks, and waking another thread for each costs more than their work.
#[derive(Debug)]
pub(super) struct NetworkThread {
    handle: tokio::runtime::Handle,
    /// Ends the thread when dropped.
    _end: oneshot::Sender<()>,
}

impl NetworkThread {
    /// Returns the thread with the fewest apps, or a new one if each has an app and there are fewer threads than cores.
    ///
    /// # Errors
    ///
    /// The error of the system if it cannot start the runtime or its thread.
    pub fn assign() -> io::Result<Arc<Self>> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        assign(&mut RUNNING.lock().unwrap_or_else(PoisonError::into_inner), cores)
    }

    fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("bevy_uhst".to_owned()).spawn(move || {
            let _ = runtime.block_on(ended);
            // Without a wait for name lookups in progress.
            runtime.shutdown_background();
        })?;
        Ok(NetworkThread { handle, _end: end })
    }

    /// The runtime of this thread.
    pub fn handle(&self) -> &tokio::runtime::Handle {
        &self.handle
    }
}

fn assign(running: &mut Vec<Weak<NetworkThread>>, limit: usize) -> io::Result<Arc<NetworkThread>> {
    running.retain(|thread| thread.strong_count() > 0);
    if running.len() >= limit
        && let Some(thread) = running.iter().min_by_key(|thread| thread.strong_count()).and_then(Weak::upgrade)
    {
        return Ok(thread);
    }
    let thread = Arc::new(NetworkThread::start()?);
    running.push(Arc::downgrade(&thread));
    Ok(thread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_spread_over_as_many_threads_as_allowed() {
        let mut running = Vec::new();
        let mut apps: Vec<_> = (0..6).map(|_| assign(&mut running, 2).expect("a thread")).collect();
        assert!(apps.iter().skip(2).all(|app| Arc::ptr_eq(app, &apps[0]) || Arc::ptr_eq(app, &apps[1])));
        assert_eq!(Arc::strong_count(&apps[0]), 3, "as many apps on each thread");
        apps.truncate(1);
        let second = assign(&mut running, 2).expect("a thread");
        assert!(!Arc::ptr_eq(&apps[0], &second), "the other thread ended with its last app");
        assert_eq!(running.len(), 2);
    }

    #[test]
    fn a_thread_ends_with_its_last_app_and_not_before() {
        let mut running = Vec::new();
        let apps = [assign(&mut running, 1).expect("a thread"), assign(&mut running, 1).expect("a thread")];
        let (dropped, ended) = std::sync::mpsc::channel::<()>();
        apps[0].handle().spawn(async move {
            let _dropped = dropped;
            std::future::pending::<()>().await;
        });
        let [first, second] = apps;
        drop(first);
        second.handle().block_on(async { tokio::task::yield_now().await });
        assert_eq!(ended.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty));
        drop(second);
        assert_eq!(ended.recv(), Err(std::sync::mpsc::RecvError), "its tasks are dropped");
    }
}
