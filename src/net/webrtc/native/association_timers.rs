//! When the timers of an SCTP association may be due.
//!
//! The library names only the earliest of all its timers, and that is usually one of its ICE agent that has nothing to do.

use std::time::{Duration, Instant};

/// The delay of an acknowledgement in the library.
const ACK_DELAY: Duration = Duration::from_millis(200);
/// The time from the arrival of a datagram until the library has processed it, at most. Its timer begins only then.
const PROCESSING: Duration = Duration::from_millis(50);
/// The time from the arrival of a datagram until the library has processed it, usually.
const USUAL_PROCESSING: Duration = Duration::from_millis(5);
/// The shortest timeout of a retransmission in the library.
const RETRANSMISSION: Duration = Duration::from_secs(1);

/// The size of a datagram that only acknowledges data, in the first cipher suite of the library: the headers of DTLS, the
/// header of SCTP and the chunk. One with data is larger.
const ACKNOWLEDGEMENT: usize = (13 + 8 + 16) + 12 + 16;

/// Whether a datagram may hold data, which this side acknowledges after a delay.
pub(super) fn may_hold_data(datagram: &[u8]) -> bool {
    match datagram {
        // A binding request of STUN, or the response to one.
        [0 | 1, 1, ..] => false,
        // A record of DTLS with application data.
        [23, ..] => datagram.len() != ACKNOWLEDGEMENT,
        _ => true,
    }
}

/// When the timers of one association may be due.
#[derive(Debug, Default)]
pub(super) struct AssociationTimers {
    /// When the first and the last of the datagrams arrived that may be unacknowledged.
    data: Option<(Instant, Instant)>,
    /// Since when sent data has been unacknowledged.
    unacknowledged_since: Option<Instant>,
}

impl AssociationTimers {
    /// Records a datagram that may hold data.
    pub fn data_received(&mut self, now: Instant) {
        let first = self.data.map_or(now, |(first, _)| first);
        self.data = Some((first, now));
    }

    /// The earliest time at which a timer may be due, not considering `library`, the earliest timer that the library knows;
    /// `None` if no timer runs. Called before each sleep.
    pub fn earliest(&mut self, has_unacknowledged: bool, library: Instant, now: Instant) -> Option<Instant> {
        // The retransmission timer runs only while data is unacknowledged.
        self.unacknowledged_since = has_unacknowledged.then(|| self.unacknowledged_since.unwrap_or(now));
        let retransmission = self.unacknowledged_since.map(|since| since + RETRANSMISSION);
        // If an acknowledgement were due, the library would know a timer before this time.
        self.data = self.data.filter(|(_, last)| library <= *last + ACK_DELAY + PROCESSING);
        let acknowledgement = self.data.map(|(first, _)| first + ACK_DELAY + USUAL_PROCESSING);
        [retransmission, acknowledgement].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_message_is_acknowledged_in_time_and_then_nothing_is_due() {
        let (mut timers, start) = (AssociationTimers::default(), Instant::now());
        timers.data_received(start);
        // A timer of the ICE agent is due before.
        let due = timers.earliest(false, start + 10 * MS, start + MS);
        assert_eq!(due, Some(start + ACK_DELAY + USUAL_PROCESSING));
        assert_eq!(timers.earliest(false, start + 405 * MS, start + 205 * MS), None);
    }

    #[test]
    fn an_acknowledgement_that_became_due_later_is_waited_for() {
        let (mut timers, start) = (AssociationTimers::default(), Instant::now());
        timers.data_received(start);
        timers.data_received(start + 150 * MS);
        assert!(timers.earliest(false, start + 350 * MS, start + 205 * MS).is_some_and(|due| due <= start + 350 * MS));
        assert_eq!(timers.earliest(false, start + 550 * MS, start + 351 * MS), None);
    }

    #[test]
    fn unacknowledged_data_is_sent_again_in_time() {
        let (mut timers, start) = (AssociationTimers::default(), Instant::now());
        assert_eq!(timers.earliest(true, start + 200 * MS, start), Some(start + RETRANSMISSION));
        let later = start + 900 * MS;
        assert_eq!(timers.earliest(true, start + 920 * MS, later), Some(start + RETRANSMISSION));
        assert_eq!(timers.earliest(false, later + 200 * MS, later), None, "acknowledged");
        assert_eq!(timers.earliest(true, later + 200 * MS, later), Some(later + RETRANSMISSION));
    }

    #[test]
    fn acknowledgements_and_consent_checks_hold_no_data() {
        let record = |len: usize| vec![23; len];
        assert!(!may_hold_data(&record(ACKNOWLEDGEMENT)));
        assert!(may_hold_data(&record(ACKNOWLEDGEMENT + 4)) && may_hold_data(&record(ACKNOWLEDGEMENT - 8)));
        assert!(!may_hold_data(&[0, 1, 0, 80]) && !may_hold_data(&[1, 1, 0, 44]));
        // A data indication of TURN, and data on a channel of TURN.
        assert!(may_hold_data(&[0, 0x17, 0, 80]) && may_hold_data(&[0x40, 0, 0, 65]));
        assert!(may_hold_data(&[]));
    }
}
