//! Measures the time of an echo between threads without a network or an app: from a thread to a network thread, to another
//! thread, and back, over the queues that this crate uses.

use std::{thread, time::Instant};

use crossbeam_channel::unbounded;
use tokio::sync::mpsc;

use crate::{apps::PATIENCE, report::Outcome};

/// Returns the time of this many echoes in seconds.
pub fn echoes(count: usize) -> Outcome<Vec<f64>> {
    let (to_network, mut from_client) = mpsc::unbounded_channel::<()>();
    let (back_to_network, mut from_host) = mpsc::unbounded_channel::<()>();
    let (to_host, at_host) = unbounded::<()>();
    let (to_client, at_client) = unbounded::<()>();
    let network = tokio::runtime::Builder::new_current_thread().build()?;
    let networking = thread::spawn(move || {
        network.block_on(async {
            tokio::join!(
                async move { while from_client.recv().await.is_some_and(|()| to_host.send(()).is_ok()) {} },
                async move { while from_host.recv().await.is_some_and(|()| to_client.send(()).is_ok()) {} },
            )
        })
    });
    let echoing = thread::spawn(move || while at_host.recv().is_ok() && back_to_network.send(()).is_ok() {});
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        to_network.send(())?;
        at_client.recv_timeout(PATIENCE)?;
        times.push(start.elapsed().as_secs_f64());
    }
    drop(to_network);
    drop(at_client);
    networking.join().map_err(|_| "the network's thread panicked")?;
    echoing.join().map_err(|_| "the echoing thread panicked")?;
    Ok(times)
}
