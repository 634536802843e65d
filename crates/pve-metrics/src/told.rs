//! Records as they are read back from the status store (reference 04 §2.3).

use std::collections::BTreeMap;
use std::sync::Arc;

use pve_cfs::{Cfs, CfsError};
use serde_json::Value;

use crate::figure;
use crate::subject::Subject;

/// The status keys of records.
pub(crate) const PREFIX: &str = "rrd/";
/// Seconds after which a record says nothing any more.
const MAX_AGE: i64 = 300;

/// Where the figures are in a node's record.
pub mod node {
    /// Seconds since it started.
    pub const UPTIME: usize = 0;
    /// The level of its subscription.
    pub const LEVEL: usize = 1;
    /// CPUs.
    pub const CPUS: usize = 4;
    /// Share of the CPUs that is busy.
    pub const CPU: usize = 5;
    /// Share of the CPUs that waits for I/O.
    pub const WAIT: usize = 6;
    /// Memory: all.
    pub const MEMORY_TOTAL: usize = 7;
    /// Memory: in use.
    pub const MEMORY_USED: usize = 8;
    /// Root file system: all.
    pub const ROOT_TOTAL: usize = 11;
    /// Root file system: in use.
    pub const ROOT_USED: usize = 12;
}

/// Where the figures are in a guest's record.
pub mod guest {
    /// Seconds since it started.
    pub const UPTIME: usize = 0;
    /// Its name.
    pub const NAME: usize = 1;
    /// Its state.
    pub const STATUS: usize = 2;
    /// Whether it is a template.
    pub const TEMPLATE: usize = 3;
    /// CPUs.
    pub const CPUS: usize = 5;
    /// Share of its CPUs that is busy.
    pub const CPU: usize = 6;
    /// Memory: all.
    pub const MEMORY_TOTAL: usize = 7;
    /// Memory: in use.
    pub const MEMORY_USED: usize = 8;
    /// Disk: all.
    pub const DISK_TOTAL: usize = 9;
    /// Disk: in use.
    pub const DISK_USED: usize = 10;
    /// Received.
    pub const RECEIVED: usize = 11;
    /// Sent.
    pub const SENT: usize = 12;
    /// Read from its disks.
    pub const READ: usize = 13;
    /// Written to its disks.
    pub const WRITTEN: usize = 14;
    /// Memory of the host that it takes.
    pub const HOST_MEMORY: usize = 15;
}

/// Where the figures are in a storage's record.
pub mod storage {
    /// All.
    pub const TOTAL: usize = 1;
    /// In use.
    pub const USED: usize = 2;
}

/// The records that are fresh enough to be believed.
#[derive(Debug, Default)]
pub struct ToldRecords {
    /// All of them, and when each was told, Unix seconds.
    records: Arc<BTreeMap<String, (i64, Told)>>,
    now: i64,
}

impl ToldRecords {
    /// Reads what the statistics daemons told. `now` is the machine's time, Unix seconds.
    ///
    /// # Errors
    /// The status store cannot be read.
    pub fn load(cfs: &Cfs, now: i64) -> Result<Self, CfsError> {
        let records = cfs.status().cached(PREFIX, |told| {
            let parsed = told.into_iter().filter_map(|record| {
                let key = record.key.strip_prefix(PREFIX)?.to_owned();
                Some((key, (record.at, Told::parse(&String::from_utf8_lossy(&record.value))?)))
            });
            parsed.collect()
        })?;
        Ok(Self { records, now })
    }

    /// What was told of a subject, by a node of a release before 9.0 if need be.
    pub fn get(&self, subject: &Subject) -> Option<&Told> {
        let fresh = |key: &str| {
            let (at, told) = self.records.get(key)?;
            (self.now - at <= MAX_AGE).then_some(told)
        };
        fresh(&subject.to_string()).or_else(|| fresh(&subject.key_before_9()))
    }
}

/// Takes records out of the status store that are too old to be believed. `now` is the machine's time, Unix seconds.
///
/// # Errors
/// The status store cannot be read or changed.
pub fn forget_old(cfs: &Cfs, now: i64) -> Result<(), CfsError> {
    let store = cfs.status();
    let old = store
        .list(PREFIX)?
        .into_iter()
        .filter(|record| now - record.at > MAX_AGE);
    for record in old {
        store.unset(&record.key)?;
    }
    Ok(())
}

/// The fields of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told(Vec<Option<String>>);

impl Told {
    /// Takes a record apart; `None` for one with fewer than two values.
    pub fn parse(value: &str) -> Option<Self> {
        let fields: Vec<Option<String>> = value
            .split(':')
            .map(|field| (field != "U").then(|| field.to_owned()))
            .collect();
        (fields.len() >= 2).then_some(Self(fields))
    }

    /// Whether the record has such a field, be it undefined: releases before 9.0 told less.
    pub fn has(&self, at: usize) -> bool {
        at < self.0.len()
    }

    /// A field as text; `None` for what is undefined or not there.
    pub fn text(&self, at: usize) -> Option<&str> {
        self.0.get(at)?.as_deref()
    }

    /// A field as a number; `None` for what is undefined, not there or no number.
    pub fn figure(&self, at: usize) -> Option<f64> {
        self.text(at)?.parse().ok().filter(|figure: &f64| figure.is_finite())
    }

    /// A field as a number of an answer; what is undefined is 0.
    pub fn number(&self, at: usize) -> Value {
        let text = self.text(at).unwrap_or_default();
        if let Ok(whole) = text.parse::<i64>() {
            return whole.into();
        }
        self.figure(at).and_then(figure::json).unwrap_or_else(|| 0.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Reference 04 §20, vector 8.
    #[test]
    fn lines_with_fewer_than_two_values_are_ignored() {
        let record = Told::parse("1:U:x").unwrap();
        assert_eq!(
            (record.text(0), record.text(1), record.text(2)),
            (Some("1"), None, Some("x"))
        );
        for ignored in ["", "5"] {
            assert_eq!(Told::parse(ignored), None);
        }
    }

    #[test]
    fn fields_become_numbers() {
        let record = Told::parse("12:0.50:U:x:nan:1e400:99999999999").unwrap();
        let numbers: Vec<_> = (0..8).map(|at| record.number(at)).collect();
        assert_eq!(
            numbers,
            [
                json!(12),
                json!(0.5),
                json!(0),
                json!(0),
                json!(0),
                json!(0),
                json!(99_999_999_999_i64),
                json!(0)
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn any_record_can_be_read(value in ".{0,80}", at in 0_usize..30) {
            if let Some(record) = Told::parse(&value) {
                proptest::prop_assert!(record.number(at).is_number());
            }
        }
    }
}
