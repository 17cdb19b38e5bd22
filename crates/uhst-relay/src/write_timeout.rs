//! A time limit for a peer that does not read.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

use super::watched::Watch;

/// Fails a write when the peer has read nothing for the time limit while data is waiting.
pub(super) struct WriteTimeout {
    limit: Duration,
    /// The timer, started when a write found no room.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl WriteTimeout {
    pub(super) fn new(limit: Duration) -> Self {
        WriteTimeout { limit, stalled: None }
    }
}

impl Watch for WriteTimeout {
    fn wrote(
        &mut self,
        context: &mut Context,
        written: Poll<io::Result<usize>>,
        _wanted: usize,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::watched::Watched;

    #[tokio::test(start_paused = true)]
    async fn only_a_peer_that_reads_nothing_times_out() {
        let limit = Duration::from_secs(30);
        let (near, mut far) = duplex(10);
        let mut near = Watched::new(near, WriteTimeout::new(limit));
        let reading = async {
            for _ in 0..5 {
                sleep(limit / 2).await;
                far.read_exact(&mut [0; 10]).await.expect("bytes");
            }
        };
        let (written, ()) = tokio::join!(near.write_all(&[0; 60]), reading);
        assert!(written.is_ok(), "it reads slowly");
        let since = tokio::time::Instant::now();
        let error = near.write_all(&[0; 60]).await.expect_err("it does not read");
        assert_eq!((error.kind(), since.elapsed().as_secs()), (io::ErrorKind::TimedOut, 30));
    }
}
