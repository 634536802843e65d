//! At most so many bytes a second.

use std::time::{Duration, Instant};

/// How far behind its limit a stream may be and still catch up: a long pause of the other side is not made good by a
/// burst.
const CATCH_UP: Duration = Duration::from_secs(1);
/// So many bytes it may always catch up with: an extent of an archive, which is read as a whole before it is written.
/// Otherwise a limit on both sides would halve the rate.
const BURST: f64 = 4.0 * 1024.0 * 1024.0;

/// A limit, and how far it is used up.
#[derive(Debug)]
pub(super) struct Throttle {
    bytes_per_second: f64,
    catch_up: Duration,
    /// When all that went through may have gone through.
    due: Instant,
}

impl Throttle {
    /// A limit in KiB per second.
    pub(super) fn new(kib_per_second: f64, now: Instant) -> Self {
        let bytes_per_second = (kib_per_second * 1024.0).max(1.0);
        let burst = Duration::try_from_secs_f64(BURST / bytes_per_second).unwrap_or(CATCH_UP);
        Self {
            bytes_per_second,
            catch_up: CATCH_UP.max(burst),
            due: now,
        }
    }

    /// Notes bytes that went through; how long to wait before the next ones.
    pub(super) fn pause(&mut self, bytes: usize, now: Instant) -> Duration {
        if let Some(earliest) = now.checked_sub(self.catch_up) {
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
        const MIB: usize = 1 << 20;
        let start = Instant::now();
        let mut throttle = Throttle::new(8192.0, start);
        assert_eq!(throttle.pause(4 * MIB, start), Duration::from_millis(500));
        assert_eq!(throttle.pause(4 * MIB, start), Duration::from_secs(1));
        assert_eq!(throttle.pause(0, start + Duration::from_secs(2)), Duration::ZERO);
        // An hour without bytes is worth a second of them.
        let later = start + Duration::from_secs(3600);
        assert_eq!(throttle.pause(8 * MIB, later), Duration::ZERO);
        assert_eq!(throttle.pause(8 * MIB, later), Duration::from_secs(1));
        // At a low rate it is worth an extent.
        let mut slow = Throttle::new(1024.0, start);
        assert_eq!(slow.pause(4 * MIB, later), Duration::ZERO);
        assert_eq!(slow.pause(MIB, later), Duration::from_secs(1));
    }
}
