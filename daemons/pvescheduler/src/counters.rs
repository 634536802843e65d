//! What is counted of rounds and jobs.

use std::time::Duration;

use pve_daemon::counters::{Family, Kind};
use pve_jobs::state::Started;

/// All of them.
pub(crate) static ALL: [&Family; 4] = [&ROUNDS, &LAST, &FAILURES, &JOBS];

static ROUNDS: Family = Family::new(
    "pve_scheduler_round_duration_seconds",
    "How long rounds took; jobs are tasks of their own and no part of it.",
    Kind::Histogram(&[
        10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000, 10_000_000, 30_000_000,
    ]),
    &[""],
);
static LAST: Family = Family::new(
    "pve_scheduler_last_round_timestamp_seconds",
    "When the last round ended, in Unix seconds.",
    Kind::Gauge,
    &[""],
);
static FAILURES: Family = Family::new(
    "pve_scheduler_round_failures",
    "Rounds that failed as a whole: jobs.cfg could not be read or locked.",
    Kind::Counter,
    &[""],
);
static JOBS: Family = Family::new(
    "pve_scheduler_jobs",
    "Jobs that were due, by what came of it.",
    Kind::Counter,
    &["outcome=\"started\"", "outcome=\"nothing to do\"", "outcome=\"failed\""],
);

/// A round ended.
pub(crate) fn round(took: Duration, now: i64, failed: bool) {
    ROUNDS.observe(0, took);
    LAST.set(0, u64::try_from(now).unwrap_or_default());
    if failed {
        FAILURES.increment(0);
    }
}

/// A job was due.
pub(crate) fn job(started: &Started) {
    JOBS.increment(match started {
        Started::Task(_) => 0,
        Started::Done => 1,
        Started::Failed(_) => 2,
    });
}
