//! Tokens of pings: a number, and optionally a loss report.

/// Marks a token with a loss report. Plain ping numbers never reach it.
const HAS_LOSSES: u64 = 1 << 61;
const LOSSES_AT: u32 = 24;
const NUMBER: u64 = (1 << LOSSES_AT) - 1;

/// Returns the token of the ping with this number, which reports the fragments of unreliable channels that its sender
/// has missed so far. A receiver that does not know the report returns the token like any other.
pub(crate) const fn with_losses(number: u64, losses: u32) -> u64 {
    HAS_LOSSES | (losses as u64) << LOSSES_AT | number & NUMBER
}

/// Returns the fragments of unreliable channels that the sender of this ping has missed so far, modulo 2^32. `None` if
/// the token has no loss report.
pub(crate) const fn losses(token: u64) -> Option<u32> {
    if token & HAS_LOSSES == 0 { None } else { Some((token >> LOSSES_AT) as u32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_survive_the_wire_and_plain_numbers_have_none() {
        for count in [0, 1, 77, u32::MAX] {
            for number in [0, 1, NUMBER, u64::MAX >> 2] {
                let token = with_losses(number, count);
                assert!(token < 1 << 62);
                assert_eq!(losses(token), Some(count));
            }
        }
        assert_eq!(losses(1 << 60), None);
        assert_ne!(with_losses(1, 5), with_losses(2, 5));
    }
}
