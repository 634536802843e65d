//! What is counted of cycles.

use std::time::Duration;

use pve_daemon::counters::{Family, Kind};

use crate::errands::Outcome;

/// All of them.
pub(crate) static ALL: [&Family; 4] = [&CYCLES, &LAST, &ERRORS, &TASKS];

/// The steps as [`crate::cycle`] names them; a step for one of many – a storage – begins with its name.
const STEPS: [&str; 6] = [
    "task list update",
    "node status update",
    "qemu status update",
    "storage status update",
    "authkey rotation",
    "status store cleanup",
];

static CYCLES: Family = Family::new(
    "pve_statd_cycle_duration_seconds",
    "How long cycles took. One waits five seconds at most for its steps.",
    Kind::Histogram(&[
        10_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    ]),
    &[""],
);
static LAST: Family = Family::new(
    "pve_statd_last_cycle_timestamp_seconds",
    "When the last cycle ended, in Unix seconds.",
    Kind::Gauge,
    &[""],
);
static ERRORS: Family = Family::new(
    "pve_statd_step_errors",
    "Steps of cycles that failed or did not end in time.",
    Kind::Counter,
    &[
        "step=\"task list update\"",
        "step=\"node status update\"",
        "step=\"qemu status update\"",
        "step=\"storage status update\"",
        "step=\"authkey rotation\"",
        "step=\"status store cleanup\"",
        "step=\"other\"",
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
    for outcome in outcomes.iter().filter(|outcome| outcome.result.is_err()) {
        let step = STEPS.iter().position(|step| outcome.name.starts_with(step));
        ERRORS.increment(step.unwrap_or(STEPS.len()));
    }
}

/// So many tasks run.
pub(crate) fn running_tasks(count: usize) {
    TASKS.set(0, count as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_series() {
        let expected = STEPS.iter().chain([&"other"]).map(|step| format!("step=\"{step}\""));
        assert!(ERRORS.series.iter().copied().eq(expected));
    }
}
