//! Scheduled jobs (reference 05 §2 and §5).
//!
//! | module | holds |
//! |---|---|
//! | [`calendar`] | when a calendar event comes next |
//! | [`jobs_cfg`] | `jobs.cfg`: the configured jobs |
//! | [`vzdump_job`] | the rules for changing a backup job |
//! | [`edit`] | making, changing and removing backup jobs |
//! | [`state`] | what a node remembers of a job, and its files |
//! | [`round`] | one round of the scheduler: which jobs run |
//! | [`realm_sync`] | synchronising realms: starting it, its jobs, which node of a cluster does one |
//! | [`replication`] | replication jobs, and what their runs left behind; none is run |
//! | [`error`] | what can go wrong |
//!
//! Not here: what backup jobs do, and the daemon's loop. Grammar of calendar events: `pve_schema::calendar`.

pub mod calendar;
pub mod edit;
pub mod error;
pub mod jobs_cfg;
pub mod realm_sync;
pub mod replication;
pub mod round;
pub mod state;
pub mod vzdump_job;

pub use error::JobsError;
pub use jobs_cfg::{Job, JobKind, JobsCfg};
pub use round::{Round, TaskEnd, Verdict};
pub use state::{JobState, Phase, StateStore};

/// Adds every kind of task that jobs start here.
pub fn register_tasks(kinds: &mut pve_task::Kinds) {
    realm_sync::register_tasks(kinds);
}
