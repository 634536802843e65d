//! What is counted of tasks, by every daemon that starts them or notices their end.

use pve_daemon::counters::{Family, Kind};

use crate::status::Class;

/// All of them, for [`pve_daemon::Program::counters`].
pub static ALL: [&Family; 2] = [&STARTED, &ENDED];

/// The daemon where a task counts what it starts in turn: tasks have no file of their own.
pub(crate) const HOST: &str = "/run/pvedaemon.pid";

static STARTED: Family = Family::new("pve_tasks_started", "Tasks started.", Kind::Counter, &[""]);
static ENDED: Family = Family::new(
    "pve_tasks_ended",
    "Tasks that ended, by how; unknown: without a word, as when killed.",
    Kind::Counter,
    &[
        "status=\"ok\"",
        "status=\"warnings\"",
        "status=\"error\"",
        "status=\"unknown\"",
    ],
);

pub(crate) fn started() {
    STARTED.increment(0);
}

/// A task's end was written down, which happens once.
pub(crate) fn ended(status: &str) {
    ENDED.increment(match Class::of(status) {
        Class::Ok => 0,
        Class::Warning => 1,
        Class::Error => 2,
        Class::Unknown => 3,
    });
}
