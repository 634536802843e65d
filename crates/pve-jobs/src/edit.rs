//! Making, changing and removing backup jobs (reference 05 §4); others are in [`crate::realm_sync::edit`].
//!
//! Every change is done under the lock of `jobs.cfg`, on the file as it is then; what this node remembers of the job
//! follows at once, so that a job that is due before the next round is not missed. Who may do it is the caller's
//! affair.

use pve_cfs::lock::DEFAULT_TIMEOUT;
use pve_cfs::{Cfs, CfsError};
use pve_contract::{id, method};
use pve_schema::failure::ParamErrors;
use pve_schema::ids::VmId;
use pve_schema::section_config::{Section, Value};
use pve_schema::{Context, Failure};

use crate::error::JobsError;
use crate::jobs_cfg::{Job, JobKind, JobsCfg, lock_id};
use crate::state::StateStore;
use crate::vzdump_job::{ParameterError, check_selection, settle_selection};

/// What can be taken out of a backup job besides the options of a backup.
const DELETABLE: [&str; 2] = ["comment", "repeat-missed"];

/// Why a backup job is not made, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The file, its lock, or the job's state.
    #[error(transparent)]
    Jobs(#[from] JobsError),
    /// The name is taken.
    #[error("Job '{0}' already exists")]
    Exists(String),
    /// There is no such job to change.
    #[error("no such vzdump job")]
    NoSuchJob,
    /// There is no such job to remove. Upstream wraps the 400 of its parameter check in a 500.
    #[error("400 Parameter verification failed.\nid: No such job '{0}'")]
    NothingToRemove(String),
    /// Nothing is set and nothing is taken out.
    #[error("no options specified")]
    NoOptions,
    /// To be taken out, and no option. Wrapped, as above.
    #[error("400 Parameter verification failed.\ndelete: unknown option '{0}'")]
    UnknownOption(String),
    /// The job cannot be like that.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
}

impl From<CfsError> for EditError {
    fn from(error: CfsError) -> Self {
        Self::Jobs(error.into())
    }
}

impl Failure for EditError {
    fn status(&self) -> u16 {
        match self {
            Self::Parameter(error) => error.status(),
            _ => 500,
        }
    }

    fn param_errors(&self) -> Option<&ParamErrors> {
        match self {
            Self::Parameter(error) => error.param_errors(),
            _ => None,
        }
    }
}

/// What a client sent to change a job.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Options to set; an empty text takes the option out.
    pub set: Vec<(String, Value)>,
    /// Options to take out.
    pub delete: Vec<String>,
}

impl Change {
    /// Whether an option is set.
    pub fn sets(&self, key: &str) -> bool {
        self.set.iter().any(|(set, _)| set == key)
    }

    /// Whether an option is taken out.
    pub fn deletes(&self, key: &str) -> bool {
        self.delete.iter().any(|deleted| deleted == key)
    }

    fn apply(self, section: &mut Section) {
        for key in self.delete {
            section.remove(&key);
        }
        for (key, value) in self.set {
            if matches!(&value, Value::Text(text) if text.is_empty()) {
                section.remove(&key);
            } else {
                section.set(key, value);
            }
        }
    }
}

/// Makes a backup job from what a client sent; `schedule` is among it.
///
/// # Errors
/// [`EditError::Exists`], a selection that is none, and what keeps the file from being written.
pub fn create(context: &Context, id: &str, options: Vec<(String, Value)>) -> Result<(), EditError> {
    let mut section = Section::new(JobKind::Vzdump.as_str(), id);
    let change = Change {
        set: options,
        delete: Vec::new(),
    };
    change.apply(&mut section);
    if section.get("enabled").is_none() {
        section.set("enabled", true);
    }
    // Excluding some means all others (reference 05 §6.1).
    if section.get("exclude").is_some() && section.get("pool").is_none() && section.get("vmid").is_none() {
        section.set("all", true);
    }
    check_selection(&section)?;
    edit(context, |cfs, jobs| {
        if jobs.file.is_taken(id) {
            return Err(EditError::Exists(id.to_owned()));
        }
        Ok(store(context, cfs, jobs, section, StateStore::create)?)
    })
}

/// Changes a backup job. `guard` is shown the job as it was, and may refuse.
///
/// # Errors
/// [`EditError::NoOptions`], [`EditError::NoSuchJob`], [`EditError::UnknownOption`], a selection that would be none, the
/// guard's own, and what keeps the file from being written.
pub fn update<E>(
    context: &Context,
    id: &str,
    change: Change,
    guard: impl FnOnce(&Section) -> Result<(), E>,
) -> Result<(), E>
where
    E: From<EditError> + From<JobsError> + From<CfsError>,
{
    if change.set.is_empty() && change.delete.is_empty() {
        return Err(EditError::NoOptions.into());
    }
    edit(context, |cfs, jobs| {
        let known = jobs.get(JobKind::Vzdump, id).cloned();
        let mut section = known.ok_or(EditError::NoSuchJob)?;
        guard(&section)?;
        if let Some(unknown) = change.delete.iter().find(|key| !is_deletable(key)) {
            return Err(EditError::UnknownOption(unknown.clone()).into());
        }
        let sent: Vec<&str> = ["vmid", "all"].into_iter().filter(|key| change.sets(key)).collect();
        change.apply(&mut section);
        settle_selection(&mut section, |key| sent.contains(&key)).map_err(EditError::from)?;
        Ok(store(context, cfs, jobs, section, StateStore::observe)?)
    })
}

/// Removes a backup job, with what this node remembers of it.
///
/// # Errors
/// [`EditError::NothingToRemove`], and what keeps the file from being written.
pub fn remove(context: &Context, id: &str) -> Result<(), EditError> {
    edit(context, |cfs, jobs| {
        if jobs.get(JobKind::Vzdump, id).is_none() {
            return Err(EditError::NothingToRemove(id.to_owned()));
        }
        jobs.file.remove(id);
        jobs.write(cfs)?;
        Ok(StateStore::new(context).remove(JobKind::Vzdump, id)?)
    })
}

/// Takes a guest that is gone out of all backup jobs (reference 05 §4.3).
///
/// # Errors
/// What keeps the file from being read or written.
pub fn forget_guest(context: &Context, vmid: VmId) -> Result<(), JobsError> {
    edit(context, |cfs, jobs| {
        if jobs.remove_guest(vmid) {
            jobs.write(cfs)
        } else {
            Ok(())
        }
    })
}

/// Runs a change on the file as it is under its lock.
pub(crate) fn edit<E>(context: &Context, code: impl FnOnce(&Cfs, &mut JobsCfg) -> Result<(), E>) -> Result<(), E>
where
    E: From<CfsError> + From<JobsError>,
{
    let cfs = Cfs::new(context);
    cfs.with_lock(&lock_id(), DEFAULT_TIMEOUT, || {
        let mut jobs = JobsCfg::read(&cfs)?;
        code(&cfs, &mut jobs)
    })
}

/// Puts a job into the file; `note` tells this node's state of it.
pub(crate) fn store(
    context: &Context,
    cfs: &Cfs,
    jobs: &mut JobsCfg,
    section: Section,
    note: fn(&StateStore, &Job) -> Result<(), JobsError>,
) -> Result<(), JobsError> {
    let job = Job::of(&section);
    jobs.file.insert(section);
    jobs.write(cfs)?;
    job.map_or(Ok(()), |job| note(&StateStore::new(context), &job))
}

fn is_deletable(key: &str) -> bool {
    DELETABLE.contains(&key) || method(id::POST_NODES_NODE_VZDUMP).parameter(key).is_some()
}
