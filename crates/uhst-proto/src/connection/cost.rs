//! The memory cost of messages, which limits are checked against.

use crate::protocol::frame::FRAGMENT;

/// The cost of each fragment in addition to its payload, as measured in our queues. With it, a limit in bytes also
/// bounds the memory of small messages and the number of empty ones.
pub const OVERHEAD: usize = 160;

/// The cost of one fragment.
pub(super) const fn fragment_cost(payload: usize) -> usize {
    payload + OVERHEAD
}

/// Returns the cost of a message of `size` bytes, with the overhead of its fragments.
#[must_use]
pub const fn message_cost(size: usize) -> usize {
    let fragments = size.div_ceil(FRAGMENT);
    size + OVERHEAD * if fragments == 0 { 1 } else { fragments }
}
