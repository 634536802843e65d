//! Calendar events: `mon..fri 21:00`, `*/15`, `monthly` (reference 05 §5.1).
//!
//! This module reads them. When an event comes next depends on the node's time zone and is the scheduler's affair.

use std::collections::BTreeSet;
use std::str::FromStr;

/// When something is to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The days of the week, Monday first; none set means any.
    pub weekdays: [bool; 7],
    /// The years.
    pub year: Field,
    /// The months, 1 to 12.
    pub month: Field,
    /// The days of the month, 1 to 31.
    pub day: Field,
    /// The hours.
    pub hour: Field,
    /// The minutes.
    pub minute: Field,
    /// The seconds.
    pub second: Field,
    /// Whether the times are UTC rather than the node's own.
    pub utc: bool,
}

/// The values of one part of a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// Every value.
    Any,
    /// These.
    Values(BTreeSet<u16>),
}

impl Field {
    /// Whether a value is among them.
    pub fn contains(&self, value: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Values(values) => values.contains(&value),
        }
    }

    /// The smallest of them that is `from` or above; for [`Field::Any`] that is `from`.
    pub fn next(&self, from: u16) -> Option<u16> {
        match self {
            Self::Any => Some(from),
            Self::Values(values) => values.range(from..).next().copied(),
        }
    }

    fn only(value: u16) -> Self {
        Self::Values(BTreeSet::from([value]))
    }
}

/// A text that is no calendar event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// Nothing there.
    #[error("unable to parse calendar event - event is empty")]
    Empty,
    /// From here on it makes no sense.
    #[error("unable to parse calendar event at '{0}' - unexpected text")]
    At(String),
}

/// One part of a time: where its values begin and end.
#[derive(Clone, Copy)]
struct Unit {
    /// What `*/n` counts from.
    start: u16,
    /// The first value that is too large.
    limit: u16,
}

const YEAR: Unit = Unit { start: 0, limit: 2200 };
const MONTH: Unit = Unit { start: 1, limit: 13 };
const DAY: Unit = Unit { start: 1, limit: 32 };
const HOUR: Unit = Unit { start: 0, limit: 24 };
const MINUTE: Unit = Unit { start: 0, limit: 60 };
const SECOND: Unit = Unit { start: 0, limit: 60 };

/// The words that stand for a whole event.
fn keyword(word: &str) -> Option<&'static str> {
    Some(match word {
        "minutely" => "*-*-* *:*:00",
        "hourly" => "*-*-* *:00:00",
        "daily" => "*-*-* 00:00:00",
        "weekly" => "mon *-*-* 00:00:00",
        "monthly" => "*-*-01 00:00:00",
        "quarterly" => "*-01,04,07,10-01 00:00:00",
        "semiannually" | "semi-annually" => "*-01,07-01 00:00:00",
        "yearly" | "annually" => "*-01-01 00:00:00",
        _ => return None,
    })
}

impl FromStr for Event {
    type Err = InvalidEvent;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (body, utc) = match text.strip_suffix("UTC") {
            Some(body) => (body.trim_end_matches([' ', '\t']), true),
            None => (text, false),
        };
        if body.is_empty() {
            return Err(InvalidEvent::Empty);
        }
        let mut cursor = Cursor(keyword(body).unwrap_or(body));
        let weekdays = cursor.optional(Cursor::weekdays).unwrap_or_default();
        cursor.blanks();
        let date = cursor.optional(Cursor::date);
        cursor.blanks();
        let time = cursor.optional(Cursor::time);
        if !cursor.0.is_empty() {
            return Err(InvalidEvent::At(cursor.0.to_owned()));
        }
        let [year, month, day] = date.unwrap_or([Field::Any, Field::Any, Field::Any]);
        let [hour, minute, second] = time.unwrap_or([Field::only(0), Field::only(0), Field::only(0)]);
        Ok(Self {
            weekdays,
            year,
            month,
            day,
            hour,
            minute,
            second,
            utc,
        })
    }
}

/// What is left to read.
#[derive(Clone, Copy)]
struct Cursor<'a>(&'a str);

impl Cursor<'_> {
    /// Reads something, or nothing if it is not there.
    fn optional<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<T> {
        let mut ahead = *self;
        let found = read(&mut ahead)?;
        *self = ahead;
        Some(found)
    }

    fn accept(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(token)?;
        Some(())
    }

    fn blanks(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn run(&mut self, fits: impl Fn(char) -> bool) -> &str {
        let (run, rest) = self
            .0
            .split_at_checked(self.0.find(|c| !fits(c)).unwrap_or(self.0.len()))
            .unwrap_or(("", ""));
        self.0 = rest;
        run
    }

    fn weekdays(&mut self) -> Option<[bool; 7]> {
        let mut days = [false; 7];
        loop {
            let first = self.weekday()?;
            let last = match self.accept("..") {
                Some(()) => self.weekday()?,
                None => first,
            };
            // Ranges wrap round the week.
            let mut day = first;
            loop {
                *days.get_mut(day)? = true;
                if day == last {
                    break;
                }
                day = (day + 1) % 7;
            }
            if self.accept(",").is_none() {
                return Some(days);
            }
        }
    }

    fn weekday(&mut self) -> Option<usize> {
        const NAMES: [&str; 7] = [
            "monday",
            "tuesday",
            "wednesday",
            "thursday",
            "friday",
            "saturday",
            "sunday",
        ];
        let word = self.run(|c| c.is_ascii_alphabetic()).to_ascii_lowercase();
        NAMES
            .iter()
            .position(|name| *name == word || name.get(..3) == Some(&word))
    }

    fn date(&mut self) -> Option<[Field; 3]> {
        self.optional(|cursor| {
            let year = cursor.list(YEAR)?;
            cursor.accept("-")?;
            let month = cursor.list(MONTH)?;
            cursor.accept("-")?;
            Some([year, month, cursor.list(DAY)?])
        })
        .or_else(|| {
            let month = self.list(MONTH)?;
            self.accept("-")?;
            Some([Field::Any, month, self.list(DAY)?])
        })
    }

    /// With an hour if that fits, else from the minute on: `24:00` is minute 24.
    fn time(&mut self) -> Option<[Field; 3]> {
        self.optional(|cursor| {
            let hour = cursor.list(HOUR)?;
            cursor.accept(":")?;
            cursor.minute(hour)
        })
        .or_else(|| self.minute(Field::Any))
    }

    fn minute(&mut self, hour: Field) -> Option<[Field; 3]> {
        let minute = self.list(MINUTE)?;
        let second = self.optional(|cursor| {
            cursor.accept(":")?;
            cursor.list(SECOND)
        });
        Some([hour, minute, second.unwrap_or(Field::only(0))])
    }

    fn list(&mut self, unit: Unit) -> Option<Field> {
        if self.accept("*").is_some() {
            return match self.accept("/") {
                None => Some(Field::Any),
                Some(()) => {
                    let step = self.number(unit).filter(|step| *step > 0)?;
                    Some(Field::Values((unit.start..unit.limit).step_by(step.into()).collect()))
                }
            };
        }
        let mut values = BTreeSet::new();
        loop {
            self.component(unit, &mut values)?;
            if self.accept(",").is_none() {
                return Some(Field::Values(values));
            }
        }
    }

    fn component(&mut self, unit: Unit, values: &mut BTreeSet<u16>) -> Option<()> {
        let first = self.number(unit)?;
        let last = match self.accept("..") {
            Some(()) => Some(self.number(unit)?),
            None => None,
        };
        let step = match self.accept("/") {
            Some(()) => Some(self.number(unit)?),
            None => None,
        };
        if last.is_some_and(|last| last < first) {
            return None;
        }
        match (last, step) {
            (_, Some(0)) | (None, None) => {
                values.insert(first);
            }
            (None, Some(step)) => values.extend((first..unit.limit).step_by(step.into())),
            (Some(last), step) => values.extend((first..=last).step_by(step.unwrap_or(1).into())),
        }
        Some(())
    }

    fn number(&mut self, unit: Unit) -> Option<u16> {
        let number = self.run(|c| c.is_ascii_digit()).parse().ok()?;
        (number < unit.limit).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Event {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn values(list: &[u16]) -> Field {
        Field::Values(list.iter().copied().collect())
    }

    /// Reference 05 §5.1.
    #[test]
    fn events_are_read() {
        let weekdays = event("mon..fri 21:00");
        assert_eq!(weekdays.weekdays, [true, true, true, true, true, false, false]);
        assert_eq!(
            (weekdays.hour, weekdays.minute, weekdays.second),
            (values(&[21]), values(&[0]), values(&[0]))
        );
        assert_eq!(event("mon..fri 22").minute, values(&[22]));
        assert_eq!(event("mon..fri 22").hour, Field::Any);
        assert_eq!(event("24:00").minute, values(&[24]));
        assert_eq!(
            event("fri..mon").weekdays,
            [true, false, false, false, true, true, true]
        );
        assert_eq!(event("sun..sat").weekdays, [true; 7]);
        assert_eq!(event("*/20").minute, values(&[0, 20, 40]));
        assert_eq!(event("*-*/6-* 0:0").month, values(&[1, 7]));
        assert_eq!(event("8..17/3:30").hour, values(&[8, 11, 14, 17]));
        assert_eq!(event("50/5").minute, values(&[50, 55]));
        assert_eq!(event("10/0").minute, values(&[10]));
        assert_eq!(event("02-29").month, values(&[2]));
        assert_eq!(event("2024-02-29").year, values(&[2024]));
        assert_eq!(event("mon02:00").hour, values(&[2]));
        assert_eq!(
            event(" Monday,SUN 1 ").weekdays,
            [true, false, false, false, false, false, true]
        );
        assert!(event("daily UTC").utc);
        assert_eq!(event("quarterly").month, values(&[1, 4, 7, 10]));
        assert_eq!(event("semi-annually"), event("semiannually"));
    }

    #[test]
    fn what_is_no_event_is_refused() {
        assert_eq!(" ".parse::<Event>(), Err(InvalidEvent::Empty));
        for bad in [
            "8..5",
            "*/0",
            "*/61",
            "mon, tue",
            "60",
            "*,5",
            "Daily",
            "mon daily",
            "x",
            "1:2:3:4",
            "moo",
            "1-1-1-1",
        ] {
            assert!(matches!(bad.parse::<Event>(), Err(InvalidEvent::At(_))), "{bad}");
        }
    }
}
