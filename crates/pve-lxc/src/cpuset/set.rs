//! Sets of CPUs as text: `0-3,8`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The highest number of a CPU that is believed: the kernel knows no machine with more.
const MAX_CPU: u32 = 65_535;

/// A set of CPUs by number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuSet(BTreeSet<u32>);

/// A text that is no set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCpuSet {
    /// No number, and no two of them.
    #[error("invalid range: {0}")]
    Range(String),
    /// The end is before the beginning.
    #[error("invalid range: {first}-{last} ({last} < {first})")]
    Reversed {
        /// The beginning.
        first: u32,
        /// The end.
        last: u32,
    },
}

impl CpuSet {
    /// Reads `0-3,8`; an empty text is the empty set.
    ///
    /// # Errors
    /// [`InvalidCpuSet`]
    pub fn parse(text: &str) -> Result<Self, InvalidCpuSet> {
        let mut set = BTreeSet::new();
        let parts = text.trim().split(',').map(str::trim).filter(|part| !part.is_empty());
        for part in parts {
            let invalid = || InvalidCpuSet::Range(part.to_owned());
            let number = |text: &str| {
                let number = text
                    .bytes()
                    .all(|byte| byte.is_ascii_digit())
                    .then(|| text.parse().ok());
                number.flatten().filter(|number| *number <= MAX_CPU)
            };
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = number(first).zip(number(last)).ok_or_else(invalid)?;
            if last < first {
                return Err(InvalidCpuSet::Reversed { first, last });
            }
            set.extend(first..=last);
        }
        Ok(Self(set))
    }

    /// The CPUs in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a CPU is one of them.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// Each by itself, as control groups are written: `0,1,2,5`.
    pub fn list(&self) -> String {
        self.iter().map(|cpu| cpu.to_string()).collect::<Vec<_>>().join(",")
    }

    /// Ranges where there are some, as people are told: `0-2,5`.
    pub fn short(&self) -> String {
        let mut text = String::new();
        let mut cpus = self.iter().peekable();
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if(|next| *next == last + 1) {
                last = next;
            }
            let comma = if text.is_empty() { "" } else { "," };
            // Nothing can go wrong with a text.
            let _ = match last - first {
                0 => write!(text, "{comma}{first}"),
                _ => write!(text, "{comma}{first}-{last}"),
            };
        }
        text
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 04 §20, vector 13.
    #[test]
    fn sets_are_read_and_written() {
        for (text, count, short, list) in [
            ("0-3,8,10-11\n", 7, "0-3,8,10-11", "0,1,2,3,8,10,11"),
            ("1,0", 2, "0-1", "0,1"),
            ("5", 1, "5", "5"),
            ("\n", 0, "", ""),
        ] {
            let set = CpuSet::parse(text).unwrap();
            assert_eq!(
                (set.len(), set.short(), set.list()),
                (count, short.to_owned(), list.to_owned())
            );
        }
        for (text, error) in [
            ("5-2", "invalid range: 5-2 (2 < 5)"),
            ("a", "invalid range: a"),
            ("0,-1", "invalid range: -1"),
            ("1-2-3", "invalid range: 1-2-3"),
            ("+1", "invalid range: +1"),
            ("0-4294967295", "invalid range: 0-4294967295"),
        ] {
            assert_eq!(CpuSet::parse(text).unwrap_err().to_string(), error);
        }
    }
}
