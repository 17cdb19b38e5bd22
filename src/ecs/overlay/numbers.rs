//! Formats numbers as text of a constant width, so that nothing moves when they change.

use std::time::Duration;

/// Formats bytes per second in 11 characters.
pub(super) fn bytes_per_second(bytes: f32) -> String {
    match bytes {
        ..999.5 => format!("{bytes:>6.0}  B/s"),
        ..999_950.0 => format!("{:>6.1} kB/s", bytes / 1e3),
        _ => format!("{:>6.1} MB/s", bytes / 1e6),
    }
}

/// Formats a count per second, in 7 characters up to 99,999.
pub(super) fn per_second(count: f32) -> String {
    // A rate below one per second must not look like zero.
    let decimals = usize::from(count > 0.0 && count < 9.95);
    format!("{count:>5.decimals$}/s")
}

/// Formats a round-trip time, in 7 characters up to ten seconds.
pub(super) fn round_trip(rtt: Option<Duration>) -> String {
    match rtt.map(|rtt| rtt.as_secs_f32() * 1000.0) {
        None => "     --".to_owned(),
        Some(ms) if ms < 9.95 => format!("{ms:>4.1} ms"),
        Some(ms) => format!("{ms:>4.0} ms"),
    }
}

/// Formats the age of an event, in 5 characters up to a hundred hours.
pub(super) fn ago(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..60 => format!("{seconds:>3} s"),
        seconds @ ..3600 => format!("{:>3} m", seconds / 60),
        seconds => format!("{:>3} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_width() {
        for bytes in [0.0, 12.0, 999.0, 999.6, 1234.0, 999_940.0, 999_960.0, 5e8] {
            assert_eq!(bytes_per_second(bytes).len(), 11, "{bytes}");
        }
        for count in [0.0, 0.3, 9.94, 9.96, 60.0, 99_999.0] {
            assert_eq!(per_second(count).len(), 7, "{count}");
        }
        for micros in [None, Some(80), Some(9_940), Some(9_960), Some(9_999_000)] {
            assert_eq!(round_trip(micros.map(Duration::from_micros)).len(), 7, "{micros:?}");
        }
        for seconds in [0, 59, 60, 3599, 3600, 359_999] {
            assert_eq!(ago(Duration::from_secs(seconds)).len(), 5, "{seconds}");
        }
    }

    #[test]
    fn a_loss_now_and_then_is_not_none() {
        assert_eq!((per_second(0.0), per_second(0.5)), ("    0/s".to_owned(), "  0.5/s".to_owned()));
    }
}
