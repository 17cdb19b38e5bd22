//! What a message costs in the limits of memory.

use crate::protocol::frame::FRAGMENT;

/// What every fragment costs beside its payload, about what it takes in our queues: so that a limit in bytes also
/// bounds the number of empty messages.
pub const OVERHEAD: usize = 64;

/// The cost of one fragment.
pub(super) const fn fragment_cost(payload: usize) -> usize {
    payload + OVERHEAD
}

/// The cost of a whole message.
pub const fn message_cost(size: usize) -> usize {
    let fragments = size.div_ceil(FRAGMENT);
    size + OVERHEAD * if fragments == 0 { 1 } else { fragments }
}
