//! A limit on the bytes of messages in memory, in total and for each address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The limit and the bytes counted against it.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    total: usize,
    by_network: HashMap<IpAddr, usize>,
}

/// Bytes that count against the budget until this is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Arc<Budget>,
    network: IpAddr,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Budget { limit, used: Mutex::default() })
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of bytes counted now.
    pub(super) fn total(&self) -> usize {
        self.used().total
    }

    /// Counts the bytes of a sender in this network. Returns `None` if they do not fit. One network gets at most half
    /// of the budget, so that it cannot take all of it from the others.
    pub(super) fn charge(self: &Arc<Self>, network: IpAddr, bytes: usize) -> Option<Charge> {
        let mut charge = Charge { budget: self.clone(), network, bytes: 0 };
        charge.grow(bytes).then_some(charge)
    }
}

impl Charge {
    /// Counts more bytes. Returns `false`, and counts nothing, if they do not fit.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let mut used = self.budget.used();
        let Used { total, by_network } = &mut *used;
        let own = by_network.entry(self.network).or_default();
        let fits = *total + bytes <= self.budget.limit && *own + bytes <= self.budget.limit.div_ceil(2);
        if fits {
            *total += bytes;
            *own += bytes;
        }
        if *own == 0 {
            by_network.remove(&self.network);
        }
        drop(used);
        self.bytes += if fits { bytes } else { 0 };
        fits
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut used = self.budget.used();
        used.total -= self.bytes;
        if let Some(own) = used.by_network.get_mut(&self.network) {
            *own -= self.bytes;
            if *own == 0 {
                used.by_network.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_gets_half_of_the_budget() {
        let [one, two, three] = [1, 2, 3].map(|n| IpAddr::from([192, 0, 2, n]));
        let budget = Budget::new(100);
        let mut first = budget.charge(one, 40).expect("room");
        assert!(!first.grow(11), "more than half");
        assert!(first.grow(10));
        let second = budget.charge(two, 45).expect("room");
        assert!(budget.charge(three, 6).is_none(), "more than all");
        assert_eq!(budget.total(), 95);
        drop((first, second));
        assert_eq!(budget.total(), 0);
        assert!(budget.used().by_network.is_empty(), "nobody is remembered");
    }
}
