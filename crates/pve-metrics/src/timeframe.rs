//! How far back a chart looks, and in which steps (reference 04 §13.2).

use std::str::FromStr;

pub use pve_sys::rrd::Consolidation;

/// How far back a chart looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeframe {
    /// The last hour, by the minute.
    Hour,
    /// The last day, by the minute.
    Day,
    /// The last week, by the half hour.
    Week,
    /// The last 30 days, by the half hour.
    Month,
    /// The last 360 days, by the six hours.
    Year,
    /// The last eleven years, by the week.
    Decade,
}

/// A text that is no timeframe.
#[derive(Debug, thiserror::Error)]
#[error("no such timeframe '{0}'")]
pub struct UnknownTimeframe(String);

impl FromStr for Timeframe {
    type Err = UnknownTimeframe;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            "year" => Self::Year,
            "decade" => Self::Decade,
            other => return Err(UnknownTimeframe(other.to_owned())),
        })
    }
}

impl Timeframe {
    /// Seconds from point to point.
    pub(crate) fn step(self) -> u32 {
        match self {
            Self::Hour | Self::Day => 60,
            Self::Week | Self::Month => 30 * 60,
            Self::Year => 6 * 3600,
            Self::Decade => 7 * 86400,
        }
    }

    /// Number of points.
    pub(crate) fn points(self) -> u32 {
        match self {
            Self::Hour => 60,
            Self::Day | Self::Month | Self::Year => 1440,
            Self::Week => 336,
            Self::Decade => 570,
        }
    }

    /// Where a chart begins and ends, Unix seconds: the interval that is not over yet is not shown.
    pub(crate) fn window(self, now: i64) -> (i64, i64) {
        let step = i64::from(self.step());
        let end = now.div_euclid(step) * step;
        (end - step * i64::from(self.points()), end)
    }

    /// Seconds from point to point, and number of points, in files of releases before 9.0.
    pub(crate) fn before_9(self) -> (u32, u32) {
        match self {
            Self::Hour => (60, 60),
            Self::Day => (1800, 70),
            Self::Week => (3 * 3600, 70),
            Self::Month => (12 * 3600, 70),
            Self::Year | Self::Decade => (7 * 86400, 70),
        }
    }
}
