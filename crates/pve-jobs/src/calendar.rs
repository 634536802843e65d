//! When a calendar event comes next (reference 05 §5.2).
//!
//! A broken-down local time is moved forward field by field, from the year to the second, until all fields match:
//!
//! ```text
//! after + 1 s ─▶ year ─▶ month ─▶ day ─▶ weekday ─▶ hour ─▶ minute ─▶ second ─▶ that is it
//!    ▲             │ none left in the list: never
//!    └─ any field that does not match: jump to its next value, make it a real time, and look again
//! ```
//!
//! A jump may land on a time that clocks skip or show twice. A skipped time moves forward by the gap, so what is due in
//! the gap is left out that day. A time shown twice keeps the offset of the time before the jump if it can, so the
//! repeated hour counts once.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{Timestamp, ToSpan};
pub use pve_schema::calendar::{Event, Field, InvalidEvent};

/// Looks after which an event counts as one that never comes: `02-30`, for one.
const MAX_LOOKS: usize = 1001;

/// The first time after `after` at which an event happens, both in Unix seconds; `None` if it never does. `zone` is the
/// node's; an event with the suffix `UTC` does not ask for it.
pub fn next_event(event: &Event, zone: &TimeZone, after: i64) -> Option<i64> {
    let utc = TimeZone::UTC;
    let zone = if event.utc { &utc } else { zone };
    let mut time = Local::at(zone, after.checked_add(1)?)?;
    for _ in 0..MAX_LOOKS {
        match look(event, time.clock)? {
            Look::Match => return Some(time.epoch),
            Look::Jump(clock) => time = time.jump(zone, clock)?,
        }
    }
    None
}

/// The next times of an event, each after the one before; fewer than `count` if there are no more.
pub fn upcoming(event: &Event, zone: &TimeZone, after: i64, count: usize) -> Vec<i64> {
    let following = |last: &i64| next_event(event, zone, *last);
    std::iter::successors(following(&after), following)
        .take(count)
        .collect()
}

/// A time as `schedule-analyze` shows it, in UTC: `Sat Aug  1 06:00:00 2026` (reference 05 §3).
pub fn utc_text(epoch: i64) -> Option<String> {
    let time = Timestamp::from_second(epoch).ok()?.to_zoned(TimeZone::UTC);
    Some(time.strftime("%a %b %e %H:%M:%S %Y").to_string())
}

/// A moment, and what the clock on the wall shows then.
struct Local {
    epoch: i64,
    clock: DateTime,
    offset: Offset,
}

impl Local {
    fn at(zone: &TimeZone, epoch: i64) -> Option<Self> {
        let moment = Timestamp::from_second(epoch).ok()?;
        let offset = zone.to_offset(moment);
        Some(Self {
            epoch,
            clock: offset.to_datetime(moment),
            offset,
        })
    }

    /// The moment at which the clock shows another time.
    fn jump(&self, zone: &TimeZone, clock: DateTime) -> Option<Self> {
        let offset = match zone.to_ambiguous_timestamp(clock).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Gap { before, .. } => before,
            AmbiguousOffset::Fold { after, .. } if after == self.offset => after,
            AmbiguousOffset::Fold { before, .. } => before,
        };
        let moment = offset.to_timestamp(clock).ok()?;
        Self::at(zone, moment.as_second())
    }
}

/// What an event says to a time.
enum Look {
    /// That is it.
    Match,
    /// Not before the clock shows this.
    Jump(DateTime),
}

/// Looks at the fields of a time from the largest on; `None` if there is nothing to wait for.
fn look(event: &Event, clock: DateTime) -> Option<Look> {
    let date = clock.date();
    let jump = look_at_date(event, date)?;
    let jump = match jump {
        Some(date) => Some(date.to_datetime(Time::midnight())),
        None => look_at_time(event, clock)?,
    };
    Some(jump.map_or(Look::Match, Look::Jump))
}

/// The date to jump to; `Some(None)` if this one fits.
fn look_at_date(event: &Event, date: Date) -> Option<Option<Date>> {
    let year = u16::try_from(date.year()).ok()?;
    if !event.year.contains(year) {
        let next = event.year.next(year)?;
        return Some(Some(Date::new(i16::try_from(next).ok()?, 1, 1).ok()?));
    }
    let month = u16::try_from(date.month()).ok()?;
    if !event.month.contains(month) {
        return Some(Some(match event.month.next(month) {
            Some(next) => Date::new(date.year(), i8::try_from(next).ok()?, 1).ok()?,
            None => Date::new(date.year().checked_add(1)?, 1, 1).ok()?,
        }));
    }
    let day = u16::try_from(date.day()).ok()?;
    if !event.day.contains(day) {
        return Some(Some(match event.day.next(day) {
            // The 31st of a month of 30 days is the first of the next.
            Some(next) => forward(date, i64::from(next) - i64::from(day))?,
            None => date.last_of_month().tomorrow().ok()?,
        }));
    }
    Some(match days_to_weekday(&event.weekdays, date) {
        Some(0) => None,
        Some(days) => Some(forward(date, days)?),
        None => Some(forward(date, 7 - monday_offset(date))?),
    })
}

fn forward(date: Date, days: i64) -> Option<Date> {
    date.checked_add(days.days()).ok()
}

/// Days since Monday.
fn monday_offset(date: Date) -> i64 {
    date.weekday().to_monday_zero_offset().into()
}

/// Days to the next listed day of this week, Monday to Sunday; `None` if it is not in this week. No day listed means
/// any.
fn days_to_weekday(weekdays: &[bool; 7], date: Date) -> Option<i64> {
    if !weekdays.contains(&true) {
        return Some(0);
    }
    let today = monday_offset(date);
    let listed = weekdays.iter().zip(0_i64..).filter(|(listed, _)| **listed);
    listed.map(|(_, day)| day - today).find(|days| *days >= 0)
}

/// The time to jump to; `Some(None)` if this one fits.
fn look_at_time(event: &Event, clock: DateTime) -> Option<Option<DateTime>> {
    let at = |hour: u16, minute: u16, second: u16| {
        let [hour, minute, second] = [hour, minute, second].map(i8::try_from);
        let time = Time::new(hour.ok()?, minute.ok()?, second.ok()?, 0).ok()?;
        Some(clock.date().to_datetime(time))
    };
    let field = |value: i8| u16::try_from(value).ok();
    let (hour, minute, second) = (field(clock.hour())?, field(clock.minute())?, field(clock.second())?);
    if !event.hour.contains(hour) {
        return Some(Some(match event.hour.next(hour) {
            Some(next) => at(next, 0, 0)?,
            None => clock.date().tomorrow().ok()?.to_datetime(Time::midnight()),
        }));
    }
    if !event.minute.contains(minute) {
        return Some(Some(match event.minute.next(minute) {
            Some(next) => at(hour, next, 0)?,
            None => at(hour, 0, 0)?.checked_add(1.hour()).ok()?,
        }));
    }
    if !event.second.contains(second) {
        return Some(Some(match event.second.next(second) {
            Some(next) => at(hour, minute, next)?,
            None => at(hour, minute, 0)?.checked_add(1.minute()).ok()?,
        }));
    }
    Some(None)
}
