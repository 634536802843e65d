//! Which backups a retention keeps (reference 05 §11.2, 08 §8.3). Pure: archives in, marks out.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::config::Retention;

/// What becomes of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It stays.
    Keep,
    /// It goes.
    Remove,
    /// It stays, and counts for nothing.
    Protected,
    /// Its name is not one that `vzdump` writes: it stays, and counts for nothing.
    Renamed,
}

impl Mark {
    /// The word that stands for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Remove => "remove",
            Self::Protected => "protected",
            Self::Renamed => "renamed",
        }
    }
}

/// The period that a time lies in, as text.
type Period = fn(&Zoned) -> String;

/// Marks the backups of one guest, in the order in which they were given. `times` are Unix seconds; periods are those
/// of `zone`.
pub fn mark(retention: &Retention, times: &[i64], zone: &TimeZone) -> Vec<Mark> {
    let mut order: Vec<usize> = (0..times.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(times.get(*at).copied()));
    let mut marks: Vec<Option<Mark>> = vec![None; times.len()];
    if *retention == Retention::ALL {
        marks.fill(Some(Mark::Keep));
    }
    let local: Vec<Zoned> = times.iter().map(|time| local(*time, zone)).collect();
    let rules: [(u64, Period); 6] = [
        (retention.last, |time| time.timestamp().as_second().to_string()),
        (retention.hourly, |time| time.strftime("%Y-%m-%d %H").to_string()),
        (retention.daily, |time| time.strftime("%Y-%m-%d").to_string()),
        (retention.weekly, |time| time.strftime("%G-%V").to_string()),
        (retention.monthly, |time| time.strftime("%Y-%m").to_string()),
        (retention.yearly, |time| time.strftime("%Y").to_string()),
    ];
    for (count, period) in rules {
        let periods: Vec<String> = local.iter().map(period).collect();
        apply(count, &periods, &order, &mut marks);
    }
    marks.into_iter().map(|mark| mark.unwrap_or(Mark::Remove)).collect()
}

/// A time beyond what calendars reach counts as the epoch: such a file has no honest time.
fn local(time: i64, zone: &TimeZone) -> Zoned {
    let timestamp = Timestamp::from_second(time).unwrap_or(Timestamp::UNIX_EPOCH);
    timestamp.to_zoned(zone.clone())
}

/// Keeps the newest unmarked backup of each of `count` periods that have none yet, and removes the others of those.
fn apply(count: u64, periods: &[String], order: &[usize], marks: &mut [Option<Mark>]) {
    let kept = |at: &usize| marks.get(*at).copied().flatten() == Some(Mark::Keep);
    let covered: BTreeSet<&String> = order
        .iter()
        .filter(|at| kept(at))
        .filter_map(|at| periods.get(*at))
        .collect();
    let mut seen = BTreeSet::new();
    for at in order {
        let (Some(period), Some(mark)) = (periods.get(*at), marks.get_mut(*at)) else {
            continue;
        };
        if mark.is_some() || covered.contains(period) {
            continue;
        }
        if seen.contains(period) {
            *mark = Some(Mark::Remove);
            continue;
        }
        if u64::try_from(seen.len()).unwrap_or(u64::MAX) >= count {
            return;
        }
        seen.insert(period);
        *mark = Some(Mark::Keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `2024-12-30`, `01-03 09:00` (of 2026) as Unix seconds.
    fn time(text: &str) -> i64 {
        let (date, clock) = text.split_once(' ').unwrap_or((text, "00:00"));
        let date = if date.len() == 5 {
            format!("2026-{date}")
        } else {
            date.to_owned()
        };
        format!("{date}T{clock}:00Z").parse::<Timestamp>().unwrap().as_second()
    }

    /// Reference 08, vector V8; oldest first.
    #[test]
    fn retention_marks() {
        let vectors = [
            ("keep-last=2", vec!["01-01", "01-02", "01-03"], "remove keep keep"),
            (
                "keep-daily=2",
                vec!["01-01 01:00", "01-01 09:00", "01-02", "01-03"],
                "remove remove keep keep",
            ),
            (
                "keep-last=1,keep-daily=2",
                vec!["01-01", "01-02", "01-03 01:00", "01-03 09:00"],
                "keep keep remove keep",
            ),
            (
                "keep-weekly=1,keep-yearly=2",
                vec!["2024-12-30", "2025-06-01", "2025-12-31", "2026-01-01"],
                "keep keep remove keep",
            ),
            ("", vec!["01-01", "01-02"], "keep keep"),
            ("keep-last=0", vec!["01-01"], "keep"),
        ];
        for (retention, times, expected) in vectors {
            let times: Vec<i64> = times.into_iter().map(time).collect();
            let marks = mark(&retention.parse().unwrap(), &times, &TimeZone::UTC);
            let words: Vec<&str> = marks.into_iter().map(Mark::as_str).collect();
            assert_eq!(words.join(" "), expected, "{retention}");
        }
    }

    #[test]
    fn of_two_backups_of_one_second_keep_last_keeps_one() {
        let marks = mark(&"keep-last=2".parse().unwrap(), &[5, 5, 4], &TimeZone::UTC);
        assert_eq!(marks.iter().filter(|mark| **mark == Mark::Keep).count(), 2);
        assert_eq!(marks[2], Mark::Keep);
    }
}
