//! One round of the scheduler (reference 05 §2.5).
//!
//! What happens to a job in a round is decided by [`step`] alone, from the job, its state, the time and the state of its
//! task. [`run`] does it for all jobs: it locks, loads, stores, and calls what starts a job.

use jiff::tz::TimeZone;
use pve_schema::ids::{NodeName, Upid};
use pve_schema::section_config::Section;
use pve_task::{TaskList, process, status};

use crate::calendar::next_event;
use crate::jobs_cfg::{Job, JobsCfg};
use crate::state::{JobState, Phase, Started, StateStore};

/// Seconds that a job's last run may lie in the future: a clock that is set right by less must not let a job run twice;
/// after one that was wrong by more, a job would wait for years.
const MAX_AHEAD: i64 = 3600;

/// What a round knows besides the jobs.
#[derive(Debug, Clone)]
pub struct Round<'a> {
    /// This node.
    pub node: &'a NodeName,
    /// The node's time zone.
    pub zone: &'a TimeZone,
    /// Unix seconds.
    pub now: i64,
    /// Whether the scheduler has just started.
    pub first: bool,
}

/// How a task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskEnd {
    /// It runs.
    Running,
    /// It ended with this status.
    Ended(String),
    /// It left no log, so nobody knows.
    NoSuchTask,
}

/// What a round decided about a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Another node runs it.
    OtherNode,
    /// How its last run ended cannot be told; the job waits until somebody changes its state file.
    Unknown(String),
    /// It is switched off.
    Disabled,
    /// It is due then, or never again.
    NotDue(Option<i64>),
    /// It is due, and still runs.
    Running,
    /// It is due.
    Run,
}

/// Decides what a job does in a round: the verdict, and the state to be written if it is another. `task` tells how a
/// task is.
pub fn step(job: &Job, state: &JobState, round: &Round<'_>, task: impl Fn(&Upid) -> TaskEnd) -> (Verdict, JobState) {
    let mut state = state.clone();
    if job.node.as_deref().is_some_and(|node| node != round.node.as_str()) {
        return (Verdict::OtherNode, state);
    }
    if state.phase == Phase::Started {
        let upid = state.upid.as_deref().unwrap_or_default().parse::<Upid>();
        let end = upid
            .map_err(|error| error.to_string())
            .and_then(|upid| match task(&upid) {
                TaskEnd::NoSuchTask => Err("no such task".to_owned()),
                end => Ok(end),
            });
        match end {
            Err(reason) => return (Verdict::Unknown(reason), state),
            Ok(TaskEnd::Ended(status)) => state = state.ended(&status),
            Ok(TaskEnd::Running | TaskEnd::NoSuchTask) => {}
        }
    }
    if round.first && !job.repeat_missed {
        state.updated = Some(round.now);
    }
    if state.last() > round.now.saturating_add(MAX_AHEAD) {
        log::warn!(
            "job '{}' ran in the future - the clock was wrong, its schedule begins anew",
            job.id
        );
        state.updated = Some(round.now);
    }
    if !job.enabled {
        return (Verdict::Disabled, state);
    }
    match next_event(&job.schedule, round.zone, state.last()) {
        Some(next) if next <= round.now => {}
        next => return (Verdict::NotDue(next), state),
    }
    if state.phase == Phase::Started {
        return (Verdict::Running, state);
    }
    (Verdict::Run, state.starting(round.now))
}

/// Runs a round: every job that is due is given to `start`, one after the other. `task` tells how a task is:
/// [`task_end`].
///
/// The caller brought the states in line with the configuration before ([`StateStore::synchronise`]). A job whose state
/// cannot be read or written is told of in the log and left out.
pub fn run(
    jobs: &JobsCfg,
    states: &StateStore,
    round: &Round<'_>,
    task: impl Fn(&Upid) -> TaskEnd,
    mut start: impl FnMut(&Job, &Section) -> Started,
) {
    for job in jobs.jobs() {
        let decide = |state: Option<JobState>| {
            let old = state.unwrap_or_default();
            let (verdict, new) = step(&job, &old, round, &task);
            ((new != old).then_some(new), verdict)
        };
        let verdict = match states.change(job.kind, &job.id, decide) {
            Ok(verdict) => verdict,
            Err(error) => {
                log::warn!("could not update state of job '{}' - {error}", job.id);
                continue;
            }
        };
        match (verdict, jobs.get(job.kind, &job.id)) {
            (Verdict::Unknown(reason), _) => log::warn!("could not update job state, skipping - {reason}"),
            (Verdict::Run, Some(section)) => {
                let started = start(&job, section);
                if let Started::Failed(error) = &started {
                    log::error!("{} job '{}' failed - {error}", job.kind, job.id);
                }
                let store = |state: Option<JobState>| (Some(state.unwrap_or_default().after(started, round.now)), ());
                if let Err(error) = states.change(job.kind, &job.id, store) {
                    log::error!("could not store state of job '{}' - {error}", job.id);
                }
            }
            _ => {}
        }
    }
}

/// How a task of this node is.
pub fn task_end(tasks: &TaskList, upid: &Upid) -> TaskEnd {
    if !tasks.has_log(upid) {
        TaskEnd::NoSuchTask
    } else if process::is_running(upid) {
        TaskEnd::Running
    } else {
        TaskEnd::Ended(status::of_log(&tasks.log_path(upid)))
    }
}
