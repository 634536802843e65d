//! What is counted of cycles.

use std::collections::BTreeSet;
use std::time::Duration;

use pve_daemon::counters::{Family, Kind};

use crate::errands::Outcome;
use crate::steps::{self, SERIES};

/// All of them.
pub(crate) static ALL: [&Family; 8] = [&CYCLES, &LAST, &STEPS, &ERRORS, &FAULTS, &LATE, &TASKS, &SERVERS];

/// Upper bounds of durations, in microseconds.
const BOUNDS: &[u64] = &[
    10_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
];

static CYCLES: Family = Family::new(
    "pve_statd_cycle_duration_seconds",
    "How long cycles took. One waits five seconds at most for its steps.",
    Kind::Histogram(BOUNDS),
    &[""],
);
static LAST: Family = Family::new(
    "pve_statd_last_cycle_timestamp_seconds",
    "When the last cycle ended, in Unix seconds.",
    Kind::Gauge,
    &[""],
);
static STEPS: Family = Family::new(
    "pve_statd_step_duration_seconds",
    "How long steps of cycles took, those that came back late too; of storages each by itself.",
    Kind::Histogram(BOUNDS),
    SERIES,
);
static ERRORS: Family = Family::new(
    "pve_statd_step_errors",
    "Steps of cycles that failed or did not end in time.",
    Kind::Counter,
    SERIES,
);
static FAULTS: Family = Family::new(
    "pve_statd_faults",
    "Objects of a step - guests, storages, metric servers - with which something went wrong in the last cycle.",
    Kind::Gauge,
    SERIES,
);
static LATE: Family = Family::new(
    "pve_statd_steps_late",
    "Steps, and looks at single storages, that have not come back from an earlier cycle.",
    Kind::PerProcess,
    &[""],
);
static SERVERS: Family = Family::new(
    "pve_statd_metric_server_snapshots",
    "What external metric servers were to be told: node, VMs, containers, storages, each of every cycle.",
    Kind::Named,
    &[
        "result=\"sent\"",
        "result=\"failed\"",
        "result=\"dropped\"",
        "result=\"partial\"",
    ],
);
static TASKS: Family = Family::new(
    "pve_tasks_running",
    "Tasks that run on this node, as of the last cycle.",
    Kind::PerProcess,
    &[""],
);

/// A cycle ended.
pub(crate) fn cycle(took: Duration, now: i64) {
    CYCLES.observe(0, took);
    LAST.set(0, u64::try_from(now).unwrap_or_default());
}

/// What came of its steps.
pub(crate) fn outcomes(outcomes: &[Outcome]) {
    let mut faults = vec![0; SERIES.len()];
    for outcome in outcomes {
        let Some(step) = steps::position(&outcome.name) else {
            continue;
        };
        let failed = outcome.result.is_err();
        if failed {
            ERRORS.increment(step);
        }
        let own = outcome.result.as_ref().map_or(0, |seen| {
            let objects: BTreeSet<&str> = seen.faults.iter().map(|fault| fault.object.as_str()).collect();
            objects.len()
        });
        // The errand of a single object has no faults but its own failure.
        let single = failed && steps::STEPS.get(step).is_some_and(|step| step.name != outcome.name);
        if let Some(count) = faults.get_mut(step) {
            *count += own as u64 + u64::from(single);
        }
    }
    for (step, count) in faults.into_iter().enumerate() {
        FAULTS.set(step, count);
    }
}

/// An errand came back, in time or not.
pub(crate) fn errand(name: &str, took: Duration) {
    if let Some(step) = steps::position(name) {
        STEPS.observe(step, took);
    }
}

/// So many errands are still out.
pub(crate) fn late(count: usize) {
    LATE.set(0, count as u64);
}

/// What came of telling a metric server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Delivery {
    /// It was told.
    Sent,
    /// It could not be told.
    Failed,
    /// It was not tried: others wait already, or the server is left alone for a while.
    Dropped,
    /// It was told, and some datagrams found no room on the way out.
    Partial,
}

/// A metric server was told, or not.
pub(crate) fn delivery(server: &str, delivery: Delivery) {
    SERVERS.add_named(delivery as usize, server, 1);
}

/// These are all metric servers that there are.
pub(crate) fn keep_servers(servers: &[&str]) {
    SERVERS.keep_names(servers);
}

/// So many tasks run.
pub(crate) fn running_tasks(count: usize) {
    TASKS.set(0, count as u64);
}
