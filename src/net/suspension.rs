//! Tells a process that was suspended from others that are silent.

use std::time::Duration;

/// A timer that fires this late shows that this process was suspended, or its machine. What was due meanwhile is not late
/// for that.
pub(super) const SUSPENDED: Duration = Duration::from_millis(500);
