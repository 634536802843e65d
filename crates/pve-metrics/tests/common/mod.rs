//! A site whose files of figures are looked at.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "a test states what must hold, and each file uses a part of this"
)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use pve_metrics::{Consolidation, NodeFigures, Record, Rrd, StorageFigures, Subject, Timeframe};
use pve_schema::Context;
use pve_schema::clock::ManualClock;
use serde_json::{Map, Value};

pub(crate) struct Lab {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) rrd: Rrd,
}

impl Lab {
    pub(crate) fn at(now: i64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(now));
        let site = pve_testing::site(directory.path(), "n1");
        let rrd = Rrd::new(&Context::new(site).with_clock(clock.clone()));
        Self { directory, clock, rrd }
    }

    pub(crate) fn node(&self, figures: &NodeFigures) {
        self.clock.set(figures.time);
        self.rrd.update(&figures.record("n1".parse().unwrap())).unwrap();
    }

    pub(crate) fn storage(&self, time: i64, used: u64) {
        self.clock.set(time);
        self.rrd.update(&storage_record("local", time, used)).unwrap();
    }

    /// The file of a subject.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join("var/lib/rrdcached/db").join(name)
    }

    pub(crate) fn rows(&self, subject: &Subject, timeframe: &str) -> Vec<Map<String, Value>> {
        let timeframe: Timeframe = timeframe.parse().unwrap();
        self.rrd.rows(subject, timeframe, Consolidation::Average).unwrap()
    }

    /// A value of the last hour; null if it is unknown.
    pub(crate) fn point(&self, subject: &Subject, time: i64, name: &str) -> Value {
        let rows = self.rows(subject, "hour");
        let row = rows.into_iter().find(|row| row["time"] == time).unwrap();
        row.get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn rrdtool(&self, arguments: &[&str], file: &str) -> String {
        let path = self.file(file);
        let output = Command::new("rrdtool")
            .arg(arguments[0])
            .arg(path)
            .args(&arguments[1..])
            .output();
        let output = output.expect("rrdtool is in packages/test.txt");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

pub(crate) fn node() -> Subject {
    Subject::Node("n1".parse().unwrap())
}

pub(crate) fn storage() -> Subject {
    Subject::Storage("n1".parse().unwrap(), "local".parse().unwrap())
}

pub(crate) fn storage_record(id: &str, time: i64, used: u64) -> Record {
    let figures = StorageFigures {
        time,
        total: 1000,
        used,
    };
    figures.record("n1".parse().unwrap(), id.parse().unwrap())
}
