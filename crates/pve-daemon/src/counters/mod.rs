//! Counters of a daemon, which all its processes add to (docs/decisions/0014-metrics.md).
//!
//! ```text
//! master ──maps──▶ PIDFILE.metrics ◀──read── whoever answers a scrape
//!    │ fork          ▲ one atomic add
//!    └─▶ workers ────┘  (those that drain after a reload, too)
//! ```
//!
//! Every daemon has one small file beside its pid file. The master maps it, workers inherit the mapping, and an event is
//! one atomic add to memory that they share. So nothing is collected, and nothing is lost with a worker that is killed:
//! a counter only ever grows, until the node starts again. What a process has open for the moment – connections – is
//! counted in a row of its own, which the master clears when the process is gone.
//!
//! | module | holds |
//! |---|---|
//! | here | [`Family`]: what is counted, and counting it |
//! | `sheet` | the file: a table of names, and the cells |
//! | `slots` | the rows of processes, and their signs of life |
//! | `named` | counters of things that come and go, by their names |
//!
//! A process without a file – a command line, a test – counts into the void. Not here: what the figures look like to
//! Prometheus (`pve-http`).

mod named;
mod sheet;
pub(crate) mod slots;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pve_schema::Site;

pub use sheet::{Histogram, Reading, Series, Value};
pub(crate) use sheet::{master_opens, path};
pub use slots::Held;

/// The daemons of a node and their pid files: whose counters a scrape shows.
pub const DAEMONS: [(&str, &str); 6] = [
    ("pvedaemon", "/run/pvedaemon.pid"),
    ("pveproxy", "/run/pveproxy/pveproxy.pid"),
    ("spiceproxy", "/run/pveproxy/spiceproxy.pid"),
    ("pvestatd", "/run/pvestatd.pid"),
    ("pvescheduler", "/run/pvescheduler.pid"),
    ("qmeventd", "/run/qmeventd.pid"),
];

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Events; only grows.
    Counter,
    /// Time, in microseconds here and in seconds for readers; only grows.
    Seconds,
    /// What was last set, by whichever process.
    Gauge,
    /// What each process has for the moment; readers see the sum.
    PerProcess,
    /// Durations by size. The bounds are in microseconds, ascending.
    Histogram(&'static [u64]),
    /// Events of things that come and go, each told by the label `name`.
    Named,
}

/// Figures of one name, told apart by labels.
#[derive(Debug)]
pub struct Family {
    /// The name, as Prometheus has it, without the `_total` of counters.
    pub name: &'static str,
    /// What it means, in one line.
    pub help: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The labels of each series, `a="b",c="d"`; one that is empty if there is nothing to tell apart.
    pub series: &'static [&'static str],
    cells: OnceLock<&'static [AtomicU64]>,
}

impl Family {
    /// A family, to be a `static`.
    pub const fn new(name: &'static str, help: &'static str, kind: Kind, series: &'static [&'static str]) -> Self {
        Self {
            name,
            help,
            kind,
            series,
            cells: OnceLock::new(),
        }
    }

    /// Counts some events (or microseconds) of a series, by its place in [`Family::series`].
    pub fn add(&self, series: usize, amount: u64) {
        if let Some(cell) = self.cell(series.saturating_mul(self.width())) {
            cell.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// Counts one event.
    pub fn increment(&self, series: usize) {
        self.add(series, 1);
    }

    /// Sets a gauge; of one per process, this process's own.
    pub fn set(&self, series: usize, value: u64) {
        let row = match self.kind {
            Kind::PerProcess => match slots::own() {
                Some(row) => row,
                None => return,
            },
            _ => 0,
        };
        if let Some(cell) = self.cell(series.saturating_mul(self.width()).saturating_add(row)) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Counts a duration in a histogram.
    pub fn observe(&self, series: usize, took: Duration) {
        let Kind::Histogram(bounds) = self.kind else { return };
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let first = series.saturating_mul(self.width());
        let bucket = bounds.iter().position(|bound| took <= *bound).unwrap_or(bounds.len());
        if let Some(cell) = self.cell(first.saturating_add(bucket)) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(sum) = self.cell(first.saturating_add(bounds.len() + 1)) {
            sum.fetch_add(took, Ordering::Relaxed);
        }
    }

    /// Counts something that this process has, until the guard is dropped.
    pub fn hold(&'static self, series: usize) -> Held {
        let row = slots::own().map(|row| series.saturating_mul(self.width()).saturating_add(row));
        Held::new(row.and_then(|index| self.cell(index)))
    }

    /// How many cells a series has.
    fn width(&self) -> usize {
        match self.kind {
            Kind::Counter | Kind::Seconds | Kind::Gauge => 1,
            Kind::PerProcess => slots::COUNT,
            // Above the last bound, and the sum.
            Kind::Histogram(bounds) => bounds.len() + 2,
            Kind::Named => named::WIDTH,
        }
    }

    fn cell(&self, index: usize) -> Option<&'static AtomicU64> {
        self.cells.get()?.get(index)
    }
}

/// Lets a process that is no daemon's own – a task – count where that daemon does. Without its file it counts nothing.
pub fn join(site: &Site, pid_file: &str, families: &[&'static Family]) {
    sheet::join(&path(site, pid_file), families);
}

/// What every master counts.
pub(crate) mod own {
    use super::{Family, Kind};

    pub(crate) static WORKERS: Family = Family::new(
        "pve_workers",
        "Worker processes, by whether they take new connections.",
        Kind::PerProcess,
        &["state=\"serving\"", "state=\"draining\""],
    );
    pub(crate) static WANTED: Family = Family::new(
        "pve_workers_wanted",
        "Worker processes that there are to be.",
        Kind::Gauge,
        &[""],
    );
    pub(crate) static STARTS: Family =
        Family::new("pve_worker_starts", "Worker processes started.", Kind::Counter, &[""]);
    pub(crate) static EXITS: Family = Family::new(
        "pve_worker_exits",
        "Worker processes that ended: in good order, with an error, or by a signal.",
        Kind::Counter,
        &["how=\"finished\"", "how=\"failed\"", "how=\"killed\""],
    );
    pub(crate) static HANGS: Family = Family::new(
        "pve_worker_hangs",
        "Worker processes killed because they gave no sign of life.",
        Kind::Counter,
        &[""],
    );
    pub(crate) static RELOADS: Family = Family::new(
        "pve_reloads",
        "Reloads: the generation of the workers that take new connections.",
        Kind::Counter,
        &[""],
    );
    pub(crate) static STARTED: Family = Family::new(
        "pve_start_time_seconds",
        "When the daemon was started, in Unix seconds.",
        Kind::Gauge,
        &[""],
    );
    /// Which process a row belongs to; not shown.
    pub(crate) static PIDS: Family = Family::new("_pid", "", Kind::PerProcess, &[""]);
    /// Signs of life; not shown.
    pub(crate) static BEATS: Family = Family::new("_beat", "", Kind::PerProcess, &[""]);

    pub(crate) static ALL: [&Family; 9] = [
        &WORKERS, &WANTED, &STARTS, &EXITS, &HANGS, &RELOADS, &STARTED, &PIDS, &BEATS,
    ];
}

/// What a daemon counted, by its pid file; `None` if it never ran since the node started, or may not be read.
pub fn read(site: &Site, pid_file: &str) -> Option<Reading> {
    sheet::read(&path(site, pid_file))
}
