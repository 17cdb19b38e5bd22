//! A set of numbers in bounded memory.

use crate::protocol::frame::MAX_RANGES;

/// A set of numbers from 0: all below `next`, and a few ranges above it.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    next: u64,
    /// Half-open and ascending. They touch neither each other nor `next`.
    above: Vec<(u64, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Insert {
    New,
    Seen,
    /// The number would start one range too many. It is not inserted.
    Full,
}

impl Ranges {
    /// Every number below it is in the set.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn above(&self) -> &[(u64, u64)] {
        &self.above
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        if number < self.next {
            return true;
        }
        let at = self.above.partition_point(|range| range.1 <= number);
        self.above.get(at).is_some_and(|range| range.0 <= number)
    }

    pub(super) fn insert(&mut self, number: u64) -> Insert {
        if number < self.next {
            return Insert::Seen;
        }
        if number == self.next {
            self.next += 1;
            self.absorb();
            return Insert::New;
        }
        let at = self.above.partition_point(|range| range.1 < number);
        // `at` is the first range that ends at or after the number.
        match self.above.get(at).copied() {
            Some((start, end)) if start <= number && number < end => return Insert::Seen,
            Some((_, end)) if end == number => {
                self.above[at].1 += 1;
                if self.above.get(at + 1).is_some_and(|range| range.0 == number + 1) {
                    self.above[at].1 = self.above.remove(at + 1).1;
                }
            }
            Some((start, _)) if start == number + 1 => self.above[at].0 = number,
            _ if self.above.len() == MAX_RANGES => return Insert::Full,
            _ => self.above.insert(at, (number, number + 1)),
        }
        Insert::New
    }

    /// Inserts a range, and calls `new` for the parts of it that were not in the set. Does nothing if there is no room
    /// for it.
    pub(super) fn insert_range(&mut self, start: u64, end: u64, mut new: impl FnMut(u64, u64)) {
        let start = start.max(self.next);
        let first = self.above.partition_point(|range| range.1 < start);
        if start >= end || self.above.get(first).is_some_and(|range| range.0 <= start && end <= range.1) {
            return;
        }
        let behind = first + self.above[first..].partition_point(|range| range.0 <= end);
        if first == behind && self.above.len() == MAX_RANGES {
            return;
        }
        let mut at = start;
        for (known_start, known_end) in &self.above[first..behind] {
            if at < *known_start {
                new(at, *known_start);
            }
            at = at.max(*known_end);
        }
        if at < end {
            new(at, end);
        }
        let merged = match self.above.get(first..behind) {
            Some([only]) => (only.0.min(start), only.1.max(end)),
            Some([low, .., high]) => (low.0.min(start), high.1.max(end)),
            _ => (start, end),
        };
        self.above.splice(first..behind, [merged]);
        self.absorb();
    }

    /// Inserts every number below `next`.
    pub(super) fn advance(&mut self, next: u64) {
        if next > self.next {
            self.next = next;
            self.absorb();
        }
    }

    fn absorb(&mut self) {
        let mut covered = 0;
        for (start, end) in &self.above {
            if *start > self.next {
                break;
            }
            self.next = self.next.max(*end);
            covered += 1;
        }
        if covered > 0 {
            self.above.drain(..covered);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn check(ranges: &Ranges, model: &BTreeSet<u64>) {
        for number in 0..220 {
            assert_eq!(ranges.contains(number), model.contains(&number), "{number} in {ranges:?}");
        }
        let mut last = ranges.next();
        for (start, end) in ranges.above() {
            assert!(*start > last && end > start, "{ranges:?}");
            last = *end;
        }
        assert!(ranges.above().len() <= MAX_RANGES);
    }

    proptest! {
        #[test]
        fn ranges_are_the_set_of_what_was_inserted(
            steps in prop::collection::vec((0_u64..200, 1_u64..12, 0_u8..8), 0..80),
        ) {
            let mut ranges = Ranges::default();
            let mut model = BTreeSet::new();
            for (number, len, kind) in steps {
                match kind {
                    0 => {
                        ranges.advance(number);
                        model.extend(0..number);
                    }
                    1..4 => {
                        let mut new = Vec::new();
                        ranges.insert_range(number, number + len, |start, end| new.extend(start..end));
                        let expected: Vec<_> = (number..number + len).filter(|n| !model.contains(n)).collect();
                        prop_assert_eq!(new, expected);
                        model.extend(number..number + len);
                    }
                    _ => {
                        let expected = if model.insert(number) { Insert::New } else { Insert::Seen };
                        prop_assert_eq!(ranges.insert(number), expected);
                    }
                }
                check(&ranges, &model);
            }
        }
    }

    #[test]
    fn too_many_holes_are_refused() {
        let mut ranges = Ranges::default();
        for hole in 0..MAX_RANGES as u64 {
            assert_eq!(ranges.insert(1 + 2 * hole), Insert::New);
        }
        assert_eq!(ranges.insert(1000), Insert::Full);
        assert!(!ranges.contains(1000));
        assert_eq!(ranges.insert(0), Insert::New);
        assert_eq!(ranges.insert(1000), Insert::New);
    }
}
