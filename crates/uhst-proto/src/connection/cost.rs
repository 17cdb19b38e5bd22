//! What a message costs in the limits of memory.

use crate::protocol::frame::FRAGMENT;

/// What every fragment costs beside its payload: about what it was measured to take in our queues, which keep room to
/// grow. On its way out it is a command and then a slot of its stream, on its way in an event and then a message of the
/// game. So a limit in bytes also bounds the memory of small messages and the number of empty ones.
pub const OVERHEAD: usize = 160;

/// The cost of one fragment.
pub(super) const fn fragment_cost(payload: usize) -> usize {
    payload + OVERHEAD
}

/// The cost of a whole message.
pub const fn message_cost(size: usize) -> usize {
    let fragments = size.div_ceil(FRAGMENT);
    size + OVERHEAD * if fragments == 0 { 1 } else { fragments }
}
