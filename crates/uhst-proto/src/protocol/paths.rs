//! Path policies: which paths a connection may use.

/// Which paths a connection between two native peers may use.
///
/// The stricter side decides. Where one side allows only the relay and the other only direct paths, the connection ends
/// with [`NoDirectPath`](super::EndReason::NoDirectPath).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathPolicy {
    /// Starts on the relay, uses a direct path once one is up, and falls back to the relay when it breaks.
    #[default]
    Automatic,
    /// Uses only the relay. Peers never learn each other's addresses.
    RelayOnly,
    /// Uses only direct paths: the relay carries the handshake and signals, but no messages. Peers are connected once a
    /// direct path is up. When it breaks, messages wait for the next one. Without a direct path for 15 s at the
    /// beginning, or for the `resume_timeout` of the connection later, it ends with
    /// [`NoDirectPath`](super::EndReason::NoDirectPath).
    DirectOnly,
}

impl PathPolicy {
    const ALL: [Self; 3] = [Self::Automatic, Self::RelayOnly, Self::DirectOnly];

    /// Returns the policy of a connection between sides with these two policies. `None` if they exclude each other.
    #[must_use]
    pub fn with(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Automatic, stricter) | (stricter, Self::Automatic) => Some(stricter),
            (one, other) => (one == other).then_some(one),
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Automatic => 0,
            Self::RelayOnly => 1,
            Self::DirectOnly => 2,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_side_counts_unless_both_are_strict() {
        let [automatic, relay, direct] = PathPolicy::ALL;
        for policy in PathPolicy::ALL {
            assert_eq!((policy.with(automatic), automatic.with(policy)), (Some(policy), Some(policy)));
            assert_eq!(policy.with(policy), Some(policy));
            assert_eq!(PathPolicy::from_code(policy.code()), Some(policy));
        }
        assert_eq!((relay.with(direct), direct.with(relay)), (None, None));
        assert_eq!(PathPolicy::from_code(3), None);
    }
}
