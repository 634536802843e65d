//! A job that is due: one node of the cluster does it (reference 05 §2.5).

use jiff::tz::TimeZone;
use pve_cfs::Cfs;
use pve_cfs::lock::DEFAULT_TIMEOUT;
use pve_schema::ids::{AuthId, Upid};
use pve_schema::section_config::Section;
use pve_schema::{Context, Failure, Param, Params};
use pve_task::TaskList;
use pve_task::list::Published;

use super::cluster::{self, ClusterState, Others, lock_id};
use super::{RealmSyncError, start};
use crate::jobs_cfg::Job;
use crate::state::Started;

/// What a job tells a synchronisation.
const OPTIONS: [&str; 3] = ["scope", "remove-vanished", "enable-new"];

/// Runs a job as `root@pam`, unless another node did or is about to.
pub fn run(context: &Context, job: &Job, section: &Section) -> Started {
    match take(context, job) {
        Ok(false) => return Started::Done,
        Ok(true) => {}
        Err(error) => return Started::Failed(error.to_string()),
    }
    let node = context.site.node.as_str();
    let started = start_task(context, section);
    let state = match &started {
        Ok(upid) => ClusterState::started(node, upid),
        Err(error) => ClusterState::failed(node, context.now(), error),
    };
    let cfs = Cfs::new(context);
    let saved = cfs.with_lock(&lock_id(), DEFAULT_TIMEOUT, || cluster::save(&cfs, &job.id, &state));
    if let Err(error) = saved {
        log::error!("could not tell the cluster of job '{}' - {error}", job.id);
    }
    match started {
        Ok(upid) => Started::Task(upid),
        Err(error) => Started::Failed(error),
    }
}

fn start_task(context: &Context, section: &Section) -> Result<Upid, String> {
    let realm = section.text("realm").unwrap_or_default();
    let known = OPTIONS.iter().filter_map(|key| Some((*key, section.text(key)?)));
    let params: Params = known
        .map(|(key, value)| (key.to_owned(), Param::Text(value.to_owned())))
        .collect();
    let request_id = format!("job-{}", section.id);
    start(context, &AuthId::root(), &request_id, realm, &params).map_err(|error| one_line(&error))
}

/// An error with what it says of parameters.
fn one_line(error: &RealmSyncError) -> String {
    let mut text = error.to_string();
    for (name, what) in error.param_errors().into_iter().flatten() {
        text.push_str(&format!(" {name}: {what}"));
    }
    text
}

/// Takes a job for this node, if nobody has it.
fn take(context: &Context, job: &Job) -> Result<bool, RealmSyncError> {
    let cfs = Cfs::new(context);
    let now = context.now();
    let others = Known {
        tasks: TaskList::new(context).published()?,
        cfs: cfs.clone(),
    };
    cfs.with_lock(&lock_id(), DEFAULT_TIMEOUT, || {
        let state = cluster::load(&cfs, &job.id)?;
        if !state.is_due(&job.schedule, &TimeZone::system(), now, &others) {
            return Ok(false);
        }
        cluster::save(&cfs, &job.id, &ClusterState::taken(context.site.node.as_str(), now))?;
        Ok(true)
    })
}

/// What this node knows of the others.
struct Known {
    tasks: Vec<Published>,
    cfs: Cfs,
}

impl Others for Known {
    fn is_unfinished(&self, upid: &Upid) -> bool {
        let upid = upid.to_string();
        self.tasks
            .iter()
            .any(|task| task.upid == upid && task.endtime.is_none())
    }

    fn is_online(&self, node: &str) -> bool {
        // A cluster that tells nothing of its nodes has none that could be at it.
        self.cfs.is_online(node).unwrap_or(false)
    }
}
