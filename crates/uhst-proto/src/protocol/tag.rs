//! Whom in the game a message is for.

/// Whom in the game a message between native peers is for.
///
/// Tags travel beside the channel and have no part in its promise: messages of one channel keep their order, whatever
/// their tags. The original protocol has none, so that all of its messages are [`Untyped`](Tag::Untyped).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tag {
    /// For the game itself, which reads bytes and text. Costs nothing.
    #[default]
    Untyped,
    /// The type of this index among those that both games have registered.
    Typed(u16),
    /// The replication backend's channel of this index.
    Replication(u16),
}

/// Above every number of a tag.
const END: u64 = 2 * (u16::MAX as u64 + 1) + 1;

impl Tag {
    /// On the wire both kinds take turns, so that the first 31 of each cost one byte. `None`: nothing is written.
    pub(crate) const fn number(self) -> Option<u64> {
        match self {
            Tag::Untyped => None,
            Tag::Typed(index) => Some(2 * index as u64 + 1),
            Tag::Replication(index) => Some(2 * index as u64 + 2),
        }
    }

    /// The tag of a number from the wire.
    pub(crate) const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 | END.. => None,
            _ if number % 2 == 1 => Some(Tag::Typed((number / 2) as u16)),
            _ => Some(Tag::Replication((number / 2 - 1) as u16)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_has_a_number_of_its_own() {
        for index in [0, 1, 30, 31, u16::MAX] {
            for tag in [Tag::Typed(index), Tag::Replication(index)] {
                assert_eq!(tag.number().and_then(Tag::from_number), Some(tag));
            }
        }
        assert_eq!(Tag::Untyped.number(), None);
    }

    #[test]
    fn other_numbers_are_no_tags() {
        let last = Tag::Replication(u16::MAX).number().unwrap();
        for number in [0, last + 1, u64::MAX] {
            assert_eq!(Tag::from_number(number), None);
        }
    }
}
