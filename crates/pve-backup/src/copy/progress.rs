//! The lines of the log (reference 05 §8, points 5 and 6).

use std::time::Duration;

use crate::text::{binary, duration_words, rate};

/// Least time between two lines, but for the last.
const INTERVAL: Duration = Duration::from_secs(3);

/// What has been copied so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Bytes.
    pub(super) bytes: u64,
    /// Bytes among them that were zero.
    pub(super) zero: u64,
}

/// Decides when a line is due, and writes it.
#[derive(Debug)]
pub(super) struct Progress {
    total: u64,
    /// The last line: percent, counts and time. The first line compares with the start.
    percent: Option<u64>,
    counts: Counts,
    time: Duration,
}

impl Progress {
    /// Nothing copied of so many bytes.
    pub(super) fn new(total: u64) -> Self {
        Self {
            total,
            percent: None,
            counts: Counts::default(),
            time: Duration::ZERO,
        }
    }

    /// The line at a time since the start, if one is due: the percentage changed, and the last line is old enough.
    pub(super) fn line(&mut self, counts: Counts, time: Duration) -> Option<String> {
        let is_new = self.percent != Some(self.percent_of(counts.bytes));
        let is_due = time.saturating_sub(self.time) >= INTERVAL && is_new;
        is_due.then(|| self.write(counts, time))
    }

    /// The last line.
    pub(super) fn last(&mut self, counts: Counts, time: Duration) -> String {
        self.write(counts, time)
    }

    fn percent_of(&self, bytes: u64) -> u64 {
        percent(bytes, self.total)
    }

    fn write(&mut self, counts: Counts, time: Duration) -> String {
        let percent = self.percent_of(counts.bytes);
        let passed = time.saturating_sub(self.time);
        let read = counts.bytes.saturating_sub(self.counts.bytes);
        let zero = counts.zero.saturating_sub(self.counts.zero);
        (self.percent, self.counts, self.time) = (Some(percent), counts, time);
        format!(
            "{percent:3}% ({} of {}) in {}, read: {}, write: {}",
            binary(counts.bytes, 1),
            binary(self.total, 1),
            duration_words(time.as_secs()),
            rate(read, passed),
            rate(read.saturating_sub(zero), passed),
        )
    }
}

/// The two lines at the end.
pub(super) fn totals(counts: Counts, time: Duration) -> Vec<String> {
    let mut lines = Vec::new();
    if counts.zero > 0 {
        let (zero, percent) = (binary(counts.zero, 2), percent(counts.zero, counts.bytes));
        lines.push(format!("backup is sparse: {zero} ({percent}%) total zero data"));
    }
    let bytes = binary(counts.bytes, 2);
    lines.push(match time.as_secs() {
        0 => format!("transferred {bytes} in <1 seconds"),
        seconds => {
            let rate = rate(counts.bytes, Duration::from_secs(seconds));
            format!("transferred {bytes} in {seconds} seconds ({rate})")
        }
    });
    lines
}

/// How many hundredths, rounded down.
fn percent(part: u64, whole: u64) -> u64 {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    u64::try_from(percent).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_line_needs_a_new_percentage_and_three_seconds() {
        let mut progress = Progress::new(32 * GIB);
        let at = |bytes, zero| Counts { bytes, zero };
        assert_eq!(progress.line(at(GIB, 0), seconds(2)), None);
        assert_eq!(
            progress.line(at(1_827_667_968, 1_102_893_056), seconds(3)).unwrap(),
            "  5% (1.7 GiB of 32.0 GiB) in 3s, read: 581.0 MiB/s, write: 230.4 MiB/s"
        );
        assert_eq!(progress.line(at(1_827_667_969, 0), seconds(9)), None);
        assert_eq!(progress.line(at(4 * GIB, 0), seconds(5)), None);
        let zeros = at(1_827_667_968 + 3 * GIB, 1_102_893_056 + 3 * GIB);
        assert_eq!(
            progress.line(zeros, seconds(63)).unwrap(),
            " 14% (4.7 GiB of 32.0 GiB) in 1m 3s, read: 51.2 MiB/s, write: 0 B/s"
        );
        assert_eq!(
            progress.last(at(32 * GIB, 0), seconds(63)),
            "100% (32.0 GiB of 32.0 GiB) in 1m 3s, read: 0 B/s, write: 0 B/s"
        );
    }

    #[test]
    fn totals_are_told_at_the_end() {
        let counts = Counts {
            bytes: 32 * GIB,
            zero: 30_601_641_984,
        };
        assert_eq!(
            totals(counts, Duration::from_millis(45_900)),
            [
                "backup is sparse: 28.50 GiB (89%) total zero data",
                "transferred 32.00 GiB in 45 seconds (728.2 MiB/s)"
            ]
        );
        let counts = Counts { zero: 0, ..counts };
        assert_eq!(
            totals(counts, Duration::from_millis(999)),
            ["transferred 32.00 GiB in <1 seconds"]
        );
    }
}
