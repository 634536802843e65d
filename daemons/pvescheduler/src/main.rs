//! `pvescheduler`: starts jobs when they are due (reference 05 §1, §2).
//!
//! | module | holds |
//! |---|---|
//! | here | the daemon: one worker with no socket, and its clockwork |
//! | [`counters`] | what is counted for metrics |
//! | [`pulse`] | when the next round is |
//! | [`rounds`] | one round at a time, and saying once what went wrong |
//! | [`start`] | what it means to run a job |
//!
//! ```text
//! worker ──every minute──▶ round ──job is due──▶ task: a process of its own, in a session of its own
//!                            │                     │
//!                            ▼                     ▼
//!                     state files ◀──next round── its log
//! ```
//!
//! A round ends within seconds, and a job is a task. So a stop, a reload or a `kill -9` of this daemon ends no job: the
//! next round of whichever scheduler finds the task's log and takes note of its end.
//!
//! Not here yet: replication. Nothing can configure it, so there is no round for it either.

mod counters;
mod pulse;
mod rounds;
mod start;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Instant;

use log::LevelFilter;
use pve_daemon::logging::{self, Target};
use pve_daemon::{BoxError, Program, RunAs, Service, Start, WorkerContext, cli};
use pve_schema::Site;
use pve_task::Kinds;

use rounds::Rounds;

static PROGRAM: Program = Program {
    name: "pvescheduler",
    version: env!("CARGO_PKG_VERSION"),
    about: "Starts jobs when they are due: backups, and synchronising realms.",
    pid_file: "/run/pvescheduler.pid",
    run_as: RunAs::Root,
    prepare,
    needs: pve_cfs::ready::needs,
    init,
    check: pve_daemon::check::nothing,
    counters: &[&counters::ALL, &pve_task::counters::ALL],
    hidden: &[(pve_task::VERB, run_task)],
};

fn main() -> ExitCode {
    cli::main(&PROGRAM)
}

/// What a round needs is made when it is needed; a failure shows there.
fn prepare(site: &Site) -> Result<(), BoxError> {
    for directory in ["/var/lib/pve-manager/jobs", "/var/lock/pve-manager"] {
        let _ = std::fs::create_dir_all(site.path(directory));
    }
    Ok(())
}

/// One worker: what it remembers from round to round is in its memory.
fn init(_start: &Start) -> Result<Service, BoxError> {
    Ok(Service {
        workers: 1,
        listeners: Vec::new(),
        worker: Box::new(serve),
    })
}

/// The loop. A round that has begun is finished before this worker heeds a stop or a reload.
fn serve(worker: WorkerContext) -> Result<(), BoxError> {
    worker.beat();
    worker.ready();
    let mut rounds = Rounds::new(&worker.context);
    loop {
        rounds.run();
        let pause = pulse::until_next(worker.context.now());
        if worker.is_told_to_end_before(Instant::now() + pause) {
            worker.draining();
            return Ok(());
        }
    }
}

/// What tasks there are: what a job does, and what that starts in turn.
fn task_kinds() -> Kinds {
    let mut kinds = Kinds::new();
    pve_backup::register_tasks(&mut kinds);
    pve_jobs::register_tasks(&mut kinds);
    pve_qemu::tasks::register_tasks(&mut kinds);
    pve_storage::register_tasks(&mut kinds);
    kinds
}

/// A job that a round started: everything it needs comes by pipe.
fn run_task(_arguments: &[OsString]) -> ExitCode {
    logging::init(PROGRAM.name, Target::Syslog, LevelFilter::Info);
    pve_task::child_main(&task_kinds())
}
