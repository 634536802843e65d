//! At most so many bytes a second.

use std::time::{Duration, Instant};

/// How far behind its limit a stream may be and still catch up: a pause of the other side is not made good by a burst.
const CATCH_UP: Duration = Duration::from_secs(1);

/// A limit, and how far it is used up.
#[derive(Debug)]
pub(super) struct Throttle {
    bytes_per_second: f64,
    /// When all that went through may have gone through.
    due: Instant,
}

impl Throttle {
    /// A limit in KiB per second.
    pub(super) fn new(kib_per_second: f64, now: Instant) -> Self {
        Self {
            bytes_per_second: (kib_per_second * 1024.0).max(1.0),
            due: now,
        }
    }

    /// Notes bytes that went through; how long to wait before the next ones.
    pub(super) fn pause(&mut self, bytes: usize, now: Instant) -> Duration {
        if let Some(earliest) = now.checked_sub(CATCH_UP) {
            self.due = self.due.max(earliest);
        }
        #[expect(clippy::cast_precision_loss, reason = "a part of a copy is far below 2^53 bytes")]
        let seconds = bytes as f64 / self.bytes_per_second;
        let share = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        self.due = self.due.checked_add(share).unwrap_or(self.due);
        self.due.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_at_the_rate() {
        let start = Instant::now();
        let mut throttle = Throttle::new(1.0, start);
        assert_eq!(throttle.pause(512, start), Duration::from_millis(500));
        assert_eq!(throttle.pause(512, start), Duration::from_secs(1));
        assert_eq!(throttle.pause(0, start + Duration::from_secs(2)), Duration::ZERO);
        // An hour without bytes is worth a second of them.
        let later = start + Duration::from_secs(3600);
        assert_eq!(throttle.pause(1024, later), Duration::ZERO);
        assert_eq!(throttle.pause(1024, later), Duration::from_secs(1));
    }
}
