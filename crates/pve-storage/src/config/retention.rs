//! The `prune-backups` option: which backups are to be kept (reference 05 §11.1).

use std::fmt;
use std::str::FromStr;

/// How many backups of each period are to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// All of them; excludes the others.
    pub all: bool,
    /// The newest.
    pub last: u64,
    /// One per hour.
    pub hourly: u64,
    /// One per day.
    pub daily: u64,
    /// One per ISO week.
    pub weekly: u64,
    /// One per month.
    pub monthly: u64,
    /// One per year.
    pub yearly: u64,
}

/// A text that is no retention.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRetention {
    /// `keep-all` is on, and so is another key.
    #[error("keep-all cannot be set together with other options.")]
    AllWithOthers,
    /// A key or value that does not belong there.
    #[error("invalid format - value '{0}' is no retention")]
    Malformed(String),
}

impl Retention {
    /// Keeps everything.
    pub const ALL: Self = Self {
        all: true,
        last: 0,
        hourly: 0,
        daily: 0,
        weekly: 0,
        monthly: 0,
        yearly: 0,
    };

    /// How many backups it keeps at most; 0 is without limit.
    pub fn sum(&self) -> u64 {
        let counts = self.counts().into_iter().map(|(_, count)| count);
        counts.fold(0, u64::saturating_add)
    }

    /// Keys and counts, sorted by key.
    fn counts(&self) -> [(&'static str, u64); 6] {
        [
            ("keep-daily", self.daily),
            ("keep-hourly", self.hourly),
            ("keep-last", self.last),
            ("keep-monthly", self.monthly),
            ("keep-weekly", self.weekly),
            ("keep-yearly", self.yearly),
        ]
    }
}

impl FromStr for Retention {
    type Err = InvalidRetention;

    /// Without a positive count everything is kept.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut retention = Self::default();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let malformed = || InvalidRetention::Malformed(part.to_owned());
            let (key, value) = part.split_once('=').ok_or_else(malformed)?;
            let count = value.parse().map_err(|_| malformed());
            match key {
                "keep-all" => {
                    retention.all = match value.to_ascii_lowercase().as_str() {
                        "1" | "on" | "yes" | "true" => true,
                        "0" | "off" | "no" | "false" => false,
                        _ => return Err(malformed()),
                    }
                }
                "keep-last" => retention.last = count?,
                "keep-hourly" => retention.hourly = count?,
                "keep-daily" => retention.daily = count?,
                "keep-weekly" => retention.weekly = count?,
                "keep-monthly" => retention.monthly = count?,
                "keep-yearly" => retention.yearly = count?,
                _ => return Err(malformed()),
            }
        }
        let counts = retention.counts().iter().any(|(_, count)| *count > 0);
        match (retention.all, counts) {
            (true, true) => Err(InvalidRetention::AllWithOthers),
            (_, false) => Ok(Self::ALL),
            (false, true) => Ok(retention),
        }
    }
}

impl fmt::Display for Retention {
    /// Keys sorted, those without effect left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.all {
            return f.write_str("keep-all=1");
        }
        let counts = self.counts();
        let parts: Vec<String> = counts
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(key, count)| format!("{key}={count}"))
            .collect();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 08, vectors V4 and V7.
    #[test]
    fn nothing_positive_keeps_all() {
        let text = |text: &str| text.parse::<Retention>().map(|kept| kept.to_string());
        for input in ["keep-last=0", "keep-all=0", "keep-all=yes", ""] {
            assert_eq!(text(input).unwrap(), "keep-all=1", "{input}");
        }
        assert_eq!(text("keep-last=3,keep-daily=7").unwrap(), "keep-daily=7,keep-last=3");
        assert_eq!(text("keep-all=0,keep-last=1").unwrap(), "keep-last=1");
        assert_eq!(
            text("keep-all=1,keep-last=2").unwrap_err(),
            InvalidRetention::AllWithOthers
        );
        assert!(text("keep-last").is_err() && text("keep-last=-1").is_err() && text("keep=1").is_err());
    }
}
