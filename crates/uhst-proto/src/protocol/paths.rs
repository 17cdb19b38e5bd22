//! Which ways a connection may take, and what its two sides agree on.

/// Which ways a connection between two native peers may take.
///
/// Both sides have a say: where one allows the relay only, or direct paths only, the connection keeps to that. Where
/// the two exclude each other, it ends with [`NoDirectPath`](super::EndReason::NoDirectPath).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathPolicy {
    /// Over the relay first, directly as soon as that works, and back when it breaks.
    #[default]
    Automatic,
    /// Over the relay only: peers never learn each other's addresses.
    RelayOnly,
    /// Directly only: the relay introduces the two and carries their signals, but never a message. They are connected
    /// once a direct path is open, and messages wait for the next one when it breaks. Without one for
    /// 15 s at the beginning, or for [`resume_timeout`](crate::connection::ConnectionConfig::resume_timeout) later on, the
    /// connection ends with [`NoDirectPath`](super::EndReason::NoDirectPath).
    DirectOnly,
}

impl PathPolicy {
    const ALL: [Self; 3] = [Self::Automatic, Self::RelayOnly, Self::DirectOnly];

    /// What holds for a connection between this side and another. `None`: they exclude each other.
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
