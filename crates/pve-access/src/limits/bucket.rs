//! The arithmetic of one bucket: so many places, of which one comes back every few seconds.
//!
//! All that need be kept of it is one number, the second at which all its places are free again.

/// The rules of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bucket {
    /// How many places it has.
    pub(super) places: u32,
    /// After how many seconds one comes back.
    pub(super) seconds: u32,
}

impl Bucket {
    /// Whether a place is free now.
    pub(super) fn has_room(self, full_at: i64, now: i64) -> bool {
        self.debt(full_at, now) + i64::from(self.seconds) <= self.whole()
    }

    /// When all places are free again if one is taken now.
    pub(super) fn take(self, full_at: i64, now: i64) -> i64 {
        now.saturating_add(self.debt(full_at, now) + i64::from(self.seconds))
    }

    /// When all places are free again if one is given back.
    pub(super) fn give_back(self, full_at: i64) -> i64 {
        full_at.saturating_sub(i64::from(self.seconds))
    }

    /// How many seconds it takes until all places are free.
    fn debt(self, full_at: i64, now: i64) -> i64 {
        full_at.saturating_sub(now).max(0)
    }

    /// The seconds after which all places are free, whatever happened before. A `full_at` that is further off was told
    /// by a clock that has been set back since.
    pub(super) fn whole(self) -> i64 {
        i64::from(self.places).saturating_mul(i64::from(self.seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUCKET: Bucket = Bucket { places: 3, seconds: 60 };

    #[test]
    fn places_are_taken_and_come_back() {
        let mut full_at = 0;
        for _ in 0..3 {
            assert!(BUCKET.has_room(full_at, 1000));
            full_at = BUCKET.take(full_at, 1000);
        }
        assert_eq!(full_at, 1180);
        assert!(!BUCKET.has_room(full_at, 1000) && !BUCKET.has_room(full_at, 1059));
        assert!(BUCKET.has_room(full_at, 1060));
        assert!(BUCKET.has_room(BUCKET.give_back(full_at), 1000));
        assert_eq!(BUCKET.take(full_at, 5000), 5060, "rest is not saved up");
    }

    #[test]
    fn a_bucket_without_places_never_has_room() {
        let none = Bucket { places: 0, ..BUCKET };
        assert!(!none.has_room(0, 1000));
    }
}
