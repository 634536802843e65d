//! The clock, injected so that tests decide what time it is.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What stands for a time that the machine's clock does not reach: nobody waits for so long.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The moment until which something is waited for that may take so long. Clients name limits of any size, and adding one
/// to an [`Instant`] panics where that ends.
pub fn deadline(limit: Duration) -> Instant {
    Instant::now() + limit.min(FAR)
}

/// Tells the time of day.
pub trait Clock: std::fmt::Debug + Send + Sync {
    /// Seconds since the Unix epoch.
    fn now(&self) -> i64;
}

/// The machine's own clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            // A machine whose clock stands before 1970 has no battery; zero is as good as any time it could tell.
            Err(_) => 0,
        }
    }
}

/// A clock that stands still until it is told otherwise.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `now` (Unix seconds).
    pub fn at(now: i64) -> Self {
        Self(AtomicI64::new(now))
    }

    /// Sets the time (Unix seconds).
    pub fn set(&self, now: i64) {
        self.0.store(now, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_too_long() {
        let begin = Instant::now();
        let short = deadline(Duration::from_secs(5));
        assert!((5..100).contains(&(short - begin).as_secs()));
        assert!(deadline(Duration::MAX) >= begin + FAR);
    }
}
