//! Which clusters of a device came by.

use std::collections::BTreeMap;

/// Clusters of a page: 64 words of bits, 256 MiB of a device.
const PAGE: u64 = 64 * 64;

/// A set of clusters. What is complete from the start of the device on is forgotten but for its end, so that a device
/// whose clusters come roughly in order costs next to nothing, however large it is.
#[derive(Debug)]
pub(super) struct Seen {
    clusters: u64,
    /// The pages before this one are complete.
    complete: u64,
    pages: BTreeMap<u64, Page>,
}

#[derive(Debug)]
struct Page {
    bits: Box<[u64; 64]>,
    count: u64,
}

impl Seen {
    /// Nothing seen of a device of so many clusters.
    pub(super) fn new(clusters: u64) -> Self {
        Self {
            clusters,
            complete: 0,
            pages: BTreeMap::new(),
        }
    }

    /// Clusters of a page: fewer in the last one.
    fn page_len(&self, page: u64) -> u64 {
        self.clusters.saturating_sub(page * PAGE).min(PAGE)
    }

    /// Notes a cluster; `false` if it came by already. One that the device does not have is not the caller's to ask.
    pub(super) fn insert(&mut self, cluster: u32) -> bool {
        let cluster = u64::from(cluster);
        let number = cluster / PAGE;
        if number < self.complete {
            return false;
        }
        let page = self.pages.entry(number).or_insert_with(|| Page {
            bits: Box::new([0; 64]),
            count: 0,
        });
        let (word, bit) = (cluster % PAGE / 64, 1_u64 << (cluster % 64));
        // A page has 64 words, and `word` is below that.
        let Some(word) = usize::try_from(word).ok().and_then(|word| page.bits.get_mut(word)) else {
            return false;
        };
        if *word & bit != 0 {
            return false;
        }
        *word |= bit;
        page.count += 1;
        self.forget_complete();
        true
    }

    fn forget_complete(&mut self) {
        while let Some(first) = self.pages.first_entry() {
            let length = self.clusters.saturating_sub(*first.key() * PAGE).min(PAGE);
            if *first.key() != self.complete || first.get().count < length {
                return;
            }
            first.remove();
            self.complete += 1;
        }
    }

    /// The first cluster that did not come by.
    pub(super) fn first_missing(&self) -> Option<u64> {
        let start = self.complete * PAGE;
        if self.page_len(self.complete) == 0 {
            return None;
        }
        let Some(page) = self.pages.get(&self.complete) else {
            return Some(start);
        };
        let hole = page.bits.iter().zip(0_u64..).find(|(word, _)| **word != u64::MAX);
        hole.map(|(word, at)| start + at * 64 + u64::from(word.trailing_ones()))
    }

    #[cfg(test)]
    fn pages(&self) -> usize {
        self.pages.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    #[test]
    fn what_is_complete_costs_nothing() {
        let mut seen = Seen::new(10_000);
        for cluster in 0..10_000 {
            assert!(seen.insert(cluster) && seen.pages() <= 1);
        }
        assert_eq!((seen.pages(), seen.first_missing()), (0, None));
        assert!(!seen.insert(0) && !seen.insert(9_999));
    }

    proptest! {
        #[test]
        fn it_is_a_set(clusters in 1_u32..9000, numbers in prop::collection::vec(any::<u32>(), 0..200), all in any::<bool>()) {
            let mut seen = Seen::new(clusters.into());
            let mut known = BTreeSet::new();
            for number in numbers {
                prop_assert_eq!(seen.insert(number % clusters), known.insert(number % clusters));
            }
            if all {
                for number in (0..clusters).rev() {
                    prop_assert_eq!(seen.insert(number), known.insert(number));
                }
            }
            let missing = (0..clusters).find(|number| !known.contains(number));
            prop_assert_eq!(seen.first_missing(), missing.map(u64::from));
        }
    }
}
