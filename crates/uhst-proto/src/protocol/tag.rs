//! Tags: the receiver of a message within the game.

/// The receiver of a message within the game. Only messages between native peers have tags.
///
/// Tags do not affect ordering: messages of one channel keep their order, whatever their tags. Messages of the original
/// protocol are always [`Untyped`](Tag::Untyped).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tag {
    /// The game itself, which reads bytes and text. This tag takes no bytes on the wire.
    #[default]
    Untyped,
    /// A message type, by its index among the types that both games have registered.
    Typed(u16),
    /// A channel of the replication backend, by its index.
    Replication(u16),
}

/// The first number above those of tags.
const END: u64 = 2 * (u16::MAX as u64 + 1) + 1;

impl Tag {
    /// The encoded number; `None` is not written. The two kinds alternate, so that the first 31 of each take one byte.
    pub(crate) const fn number(self) -> Option<u64> {
        match self {
            Tag::Untyped => None,
            Tag::Typed(index) => Some(2 * index as u64 + 1),
            Tag::Replication(index) => Some(2 * index as u64 + 2),
        }
    }

    /// The tag with this encoded number.
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
    fn other_numbers_are_not_tags() {
        let last = Tag::Replication(u16::MAX).number().unwrap();
        for number in [0, last + 1, u64::MAX] {
            assert_eq!(Tag::from_number(number), None);
        }
    }
}
