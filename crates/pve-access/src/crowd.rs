//! How many may be at one thing at once, in this process: for waits that hold a thread each.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A limit, to be a `static`.
#[derive(Debug)]
pub(crate) struct Crowd {
    inside: AtomicUsize,
    most: usize,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a Crowd);

impl Crowd {
    pub(crate) const fn new(most: usize) -> Self {
        Self {
            inside: AtomicUsize::new(0),
            most,
        }
    }

    /// A place, if there is one.
    pub(crate) fn enter(&self) -> Option<Place<'_>> {
        let before = self.inside.fetch_add(1, Ordering::Relaxed);
        // One that is too many goes at once.
        let place = Place(self);
        (before < self.most).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_places_and_no_more() {
        let crowd = Crowd::new(2);
        let (first, second) = (crowd.enter(), crowd.enter());
        assert!(first.is_some() && second.is_some());
        assert!(crowd.enter().is_none() && crowd.enter().is_none());
        drop(first);
        assert!(crowd.enter().is_some());
    }
}
