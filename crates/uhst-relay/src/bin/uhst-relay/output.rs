//! Standard output and standard error, each written by a thread of its own. A closed reader, a full disk or a reader
//! that does not read cannot stop or stall the service.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

/// The most bytes that wait to be written. Further lines are dropped.
const MAX_WAITING: usize = 1 << 20;
/// The longest time [`Output::wait_written`] waits for a reader.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// An output stream to which writing always succeeds at once. Clones write to the same stream, in order.
#[derive(Clone)]
pub struct Output {
    pieces: Sender<Piece>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    /// The bytes that wait to be written.
    waiting: AtomicUsize,
    /// The number of dropped lines that have not been reported.
    dropped: AtomicU64,
}

enum Piece {
    Line(Vec<u8>),
    /// A request to signal once everything before it is written.
    Flush(Sender<()>),
}

impl Output {
    /// Starts the thread that writes to `stream`.
    ///
    /// # Errors
    ///
    /// Returns an error if the operating system cannot start the thread.
    pub fn to(stream: impl Write + Send + 'static) -> io::Result<Output> {
        let (pieces, waiting) = unbounded();
        let counts = Arc::<Counts>::default();
        let of_thread = counts.clone();
        thread::Builder::new().name("output".to_owned()).spawn(move || write(stream, &waiting, &of_thread))?;
        Ok(Output { pieces, counts })
    }

    /// Writes a line, or drops it if 1 MiB is waiting.
    pub fn write_line(&self, line: &str) {
        self.put(format!("{line}\n").into_bytes());
    }

    /// Waits until all earlier lines are written, for one second at most.
    pub fn wait_written(&self) {
        let (done, flushed) = bounded(1);
        if self.pieces.send(Piece::Flush(done)).is_ok() {
            let _ = flushed.recv_timeout(WRITE_TIMEOUT);
        }
    }

    fn put(&self, line: Vec<u8>) {
        let Counts { waiting, dropped } = &*self.counts;
        let length = line.len();
        if waiting.fetch_add(length, Ordering::Relaxed) + length > MAX_WAITING {
            waiting.fetch_sub(length, Ordering::Relaxed);
            dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            // The thread runs as long as a sender exists.
            let _ = self.pieces.send(Piece::Line(line));
        }
    }
}

impl Write for Output {
    /// Accepts a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(mut stream: impl Write, pieces: &Receiver<Piece>, counts: &Counts) {
    for piece in pieces {
        match piece {
            Piece::Line(line) => {
                let _ = stream.write_all(&line).and_then(|()| stream.flush());
                counts.waiting.fetch_sub(line.len(), Ordering::Relaxed);
            }
            Piece::Flush(done) => {
                let _ = done.send(());
            }
        }
        if pieces.is_empty() {
            let lines = counts.dropped.swap(0, Ordering::Relaxed);
            if lines > 0 {
                tracing::warn!(lines, "dropped lines of this log: its reader is too slow");
            }
        }
    }
}
