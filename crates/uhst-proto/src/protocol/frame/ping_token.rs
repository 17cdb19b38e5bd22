//! What a ping tells in its token, beside its number.

/// Marks a token that tells losses. The numbers of pings never reach it.
const HAS_LOSSES: u64 = 1 << 61;
const LOSSES_AT: u32 = 24;
const NUMBER: u64 = (1 << LOSSES_AT) - 1;

/// The token of the ping with this number, whose sender has missed so many fragments of unreliable channels so far. A
/// side that does not know what it tells sends it back like any other.
pub(crate) const fn with_losses(number: u64, losses: u32) -> u64 {
    HAS_LOSSES | (losses as u64) << LOSSES_AT | number & NUMBER
}

/// How many fragments of unreliable channels the sender of this ping has missed so far, modulo 2^32. `None`: it does not
/// tell.
pub(crate) const fn losses(token: u64) -> Option<u32> {
    if token & HAS_LOSSES == 0 { None } else { Some((token >> LOSSES_AT) as u32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_survive_the_wire_and_plain_numbers_tell_none() {
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
