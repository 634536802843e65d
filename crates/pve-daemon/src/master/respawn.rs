//! When the next worker may be forked: at once, unless workers keep dying as soon as they live.

use std::time::{Duration, Instant};

/// A worker that lived shorter than this died at its start.
const QUICK: Duration = Duration::from_secs(1);
/// Pauses after one, two, … such deaths in a row: one may be chance, and a broken worker must not become a fork bomb.
const PAUSES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// The state of the back-off.
#[derive(Debug)]
pub(crate) struct Respawn {
    quick_deaths: usize,
    not_before: Instant,
}

impl Respawn {
    pub(crate) fn new() -> Self {
        Self {
            quick_deaths: 0,
            not_before: Instant::now(),
        }
    }

    /// Whether a worker may be forked now.
    pub(crate) fn may_spawn(&self, now: Instant) -> bool {
        now >= self.not_before
    }

    /// When the next worker may be forked.
    pub(crate) fn not_before(&self) -> Instant {
        self.not_before
    }

    /// A worker ended after it had lived that long.
    pub(crate) fn worker_ended(&mut self, now: Instant, lived: Duration) {
        if lived >= QUICK {
            self.quick_deaths = 0;
            return;
        }
        let pause = PAUSES
            .get(self.quick_deaths)
            .or(PAUSES.last())
            .copied()
            .unwrap_or_default();
        self.quick_deaths += 1;
        self.not_before = now + pause;
    }

    /// There was no process to be had.
    pub(crate) fn fork_failed(&mut self, now: Instant) {
        self.not_before = now + Duration::from_secs(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_death_is_chance_and_many_are_not() {
        let now = Instant::now();
        let mut respawn = Respawn::new();
        for pause in [0, 1, 2, 5, 5] {
            respawn.worker_ended(now, Duration::from_millis(10));
            assert_eq!(respawn.not_before(), now + Duration::from_secs(pause));
        }
        respawn.worker_ended(now, Duration::from_secs(60));
        let later = now + Duration::from_secs(10);
        respawn.worker_ended(later, Duration::from_millis(10));
        assert!(respawn.may_spawn(later), "a long life makes up for it");
    }
}
