//! An event, encoded once for all streams.

use bytes::Bytes;

use super::budget::Charge;

/// The longest size line of a chunk: eight digits and a line break.
const MAX_SIZE_LINE: usize = 8 + 2;

/// An event, encoded once as an HTTP/1.1 chunk and shared by all streams that receive it.
#[derive(Clone, Debug)]
pub(super) struct EncodedEvent {
    chunk: Bytes,
    /// The offset of the event in the chunk.
    start: usize,
}

/// The bytes of an event, charged to its sender until no stream needs them any longer.
struct Charged {
    bytes: Vec<u8>,
    _charge: Charge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl EncodedEvent {
    /// Encodes an event of about `size` bytes, which `write` appends to the buffer.
    pub(super) fn write<E>(size: usize, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<Self, E> {
        EncodedEvent::build(size, write, Bytes::from)
    }

    /// Encodes an event like [`write`](Self::write), and holds `charge` until no stream needs it.
    pub(super) fn charged<E>(
        size: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
        charge: Charge,
    ) -> Result<Self, E> {
        EncodedEvent::build(size, write, |bytes| Bytes::from_owner(Charged { bytes, _charge: charge }))
    }

    fn build<E>(
        size: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
        keep: impl FnOnce(Vec<u8>) -> Bytes,
    ) -> Result<Self, E> {
        let mut chunk = Vec::with_capacity(MAX_SIZE_LINE + size + 2);
        chunk.resize(MAX_SIZE_LINE, 0);
        write(&mut chunk)?;
        let size_line = format!("{:x}\r\n", chunk.len() - MAX_SIZE_LINE);
        let unused = MAX_SIZE_LINE - size_line.len();
        chunk[unused..MAX_SIZE_LINE].copy_from_slice(size_line.as_bytes());
        chunk.extend_from_slice(b"\r\n");
        Ok(EncodedEvent { chunk: keep(chunk).slice(unused..), start: size_line.len() })
    }

    /// Encodes an event from a text.
    pub(super) fn text(text: &str) -> Self {
        let Ok(event) = EncodedEvent::write(text.len(), |out| {
            out.extend_from_slice(text.as_bytes());
            Ok::<_, std::convert::Infallible>(())
        });
        event
    }

    /// The event as a chunk, for HTTP/1.1.
    pub(super) fn chunk(&self) -> Bytes {
        self.chunk.clone()
    }

    /// The event without the chunk around it, for HTTP/1.0.
    pub(super) fn bare(&self) -> Bytes {
        self.chunk.slice(self.start..self.chunk.len() - 2)
    }

    /// The length of the event in bytes, without the chunk around it.
    pub(super) fn len(&self) -> usize {
        self.chunk.len() - 2 - self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_encoded_as_a_chunk() {
        for (text, chunk) in
            [("a", "1\r\na\r\n".to_owned()), (&*"b".repeat(300), format!("12c\r\n{}\r\n", "b".repeat(300)))]
        {
            let event = EncodedEvent::text(text);
            assert_eq!(event.chunk(), chunk);
            assert_eq!(event.bare(), text);
            assert_eq!(event.len(), text.len());
        }
    }
}
