//! The rows of processes: who has which, and whether it is alive.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use nix::unistd::Pid;

use super::own::{BEATS, PIDS};
use super::{Family, Kind};

/// How many processes of one daemon can have rows: 127 workers, as many again that start while those drain, and
/// some that drain since long ago. A process beyond that shows no gauges.
pub(crate) const COUNT: usize = 512;
/// No row.
const NONE: usize = usize::MAX;

static OWN: AtomicUsize = AtomicUsize::new(NONE);

/// The row of this process.
pub(super) fn own() -> Option<usize> {
    Some(OWN.load(Ordering::Relaxed)).filter(|row| *row != NONE)
}

/// Something that this process has; dropped when it has it no more.
#[derive(Debug)]
pub struct Held(Option<&'static AtomicU64>);

impl Held {
    pub(super) fn new(cell: Option<&'static AtomicU64>) -> Self {
        if let Some(cell) = cell {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        Self(cell)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(cell) = self.0 {
            cell.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A row that nobody has, for a process about to be forked.
pub(crate) fn free() -> Option<usize> {
    (0..COUNT).find(|row| PIDS.cell(*row).is_some_and(|pid| pid.load(Ordering::Relaxed) == 0))
}

/// In the child: this row is its own.
pub(crate) fn enter(row: Option<usize>) {
    OWN.store(row.unwrap_or(NONE), Ordering::Relaxed);
}

/// In the master: the row belongs to this child.
pub(crate) fn assign(row: Option<usize>, pid: Pid) {
    if let Some(cell) = row.and_then(|row| PIDS.cell(row)) {
        cell.store(number(pid), Ordering::Relaxed);
    }
}

/// Clears the row of a process that is gone.
pub(crate) fn release(pid: Pid, families: &[&'static Family]) {
    if let Some(row) = row_of(pid) {
        clear(row, families);
    }
}

/// After a reload: clears every row whose process is none of these.
pub(crate) fn keep_only(pids: &[Pid], families: &[&'static Family]) {
    for row in 0..COUNT {
        let owner = PIDS.cell(row).map_or(0, |cell| cell.load(Ordering::Relaxed));
        if owner != 0 && !pids.iter().any(|pid| number(*pid) == owner) {
            clear(row, families);
        }
    }
}

/// This process turns: called every two seconds or so by whatever loop must not stand still.
pub(crate) fn beat() {
    if let Some(cell) = own().and_then(|row| BEATS.cell(row)) {
        cell.fetch_add(1, Ordering::Relaxed);
    }
}

/// How often a process has turned; 0 if it never said so.
pub(crate) fn beats(pid: Pid) -> u64 {
    row_of(pid)
        .and_then(|row| BEATS.cell(row))
        .map_or(0, |cell| cell.load(Ordering::Relaxed))
}

fn row_of(pid: Pid) -> Option<usize> {
    (0..COUNT).find(|row| {
        PIDS.cell(*row)
            .is_some_and(|cell| cell.load(Ordering::Relaxed) == number(pid))
    })
}

/// The pid goes last: until then nobody else gets the row.
fn clear(row: usize, families: &[&'static Family]) {
    let rows = families.iter().filter(|family| family.kind == Kind::PerProcess);
    for family in rows {
        for series in 0..family.series.len() {
            if let Some(cell) = family.cell(series * COUNT + row) {
                cell.store(0, Ordering::Relaxed);
            }
        }
    }
    for family in [&BEATS, &PIDS] {
        if let Some(cell) = family.cell(row) {
            cell.store(0, Ordering::Relaxed);
        }
    }
}

fn number(pid: Pid) -> u64 {
    u64::try_from(pid.as_raw()).unwrap_or_default()
}
