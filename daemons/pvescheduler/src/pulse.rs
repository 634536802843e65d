//! When the next round is: at second 0 of a minute.
//!
//! Upstream looks at the clock every thousandth round and counts 60 s in between; looking each time is as good, and
//! stays in step when the clock is set (reference 05 §1.2).

use std::time::Duration;

/// From round to round.
const MINUTE: i64 = 60;
/// Nearer than this the next minute is skipped: that round has just been.
const TOO_SOON: i64 = 5;

/// How long to wait for the next round; `now` in Unix seconds. Up to a second long, since the clock tells whole ones:
/// a round before its minute would not see what is due in it.
pub(crate) fn until_next(now: i64) -> Duration {
    let left = MINUTE - now.rem_euclid(MINUTE);
    let left = if left < TOO_SOON { left + MINUTE } else { left };
    Duration::from_secs(left.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_at_the_beginning_of_minutes() {
        for (now, seconds) in [
            (0, 60),
            (1, 59),
            (30, 30),
            (55, 5),
            (56, 64),
            (59, 61),
            (-1, 61),
            (1_795_305_607, 53),
        ] {
            assert_eq!(until_next(now), Duration::from_secs(seconds), "{now}");
        }
    }
}
