//! Jobs that bring a realm's users and groups in line with its directory (reference 02 §13, 05 §2.5).
//!
//! | module | holds |
//! |---|---|
//! | here | starting a synchronisation, for whoever asks |
//! | [`cluster`] | which node of a cluster does a job |
//! | [`job`] | doing it when it is due |
//! | [`edit`] | making, changing and removing jobs |
//!
//! What a synchronisation does is `pve_access::ldap::sync`.

pub mod cluster;
pub mod edit;
pub mod job;

use pve_access::AccessError;
use pve_access::domains::Domains;
use pve_access::ldap::sync::{self, SyncOptions};
use pve_cfs::{Cfs, CfsError};
use pve_schema::failure::ParamErrors;
use pve_schema::ids::{AuthId, Upid};
use pve_schema::section_config::OptionError;
use pve_schema::{Context, Failure, Params};
use pve_task::{Kinds, Launcher, StartError, Task, TaskError, TaskRequest, Worker};
use serde::{Deserialize, Serialize};

use crate::error::JobsError;

/// The type of the task.
const WORKER_TYPE: &str = "auth-realm-sync";
/// The type of one that writes nothing.
const DRY_WORKER_TYPE: &str = "auth-realm-sync-test";

/// Why a realm is not synchronised, or a job for it not made, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum RealmSyncError {
    /// The realm or what to do with it.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The jobs' files or locks.
    #[error(transparent)]
    Jobs(#[from] JobsError),
    /// The task.
    #[error(transparent)]
    Start(#[from] StartError),
    /// An option that cannot be set or taken out.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The name is taken.
    #[error("Job '{0}' already exists")]
    Exists(String),
    /// There is no such job to change.
    #[error("no such realm-sync job")]
    NoSuchJob,
    /// Nothing is set and nothing is taken out.
    #[error("no job options specified")]
    NoOptions,
}

impl From<CfsError> for RealmSyncError {
    fn from(error: CfsError) -> Self {
        Self::Jobs(error.into())
    }
}

impl Failure for RealmSyncError {
    fn status(&self) -> u16 {
        match self {
            Self::Access(error) => error.status(),
            Self::Option(error) => error.status(),
            _ => 500,
        }
    }

    fn param_errors(&self) -> Option<&ParamErrors> {
        match self {
            Self::Access(error) => error.param_errors(),
            Self::Option(error) => error.param_errors(),
            _ => None,
        }
    }
}

/// A synchronisation. The realm's settings and its password are read by the task itself.
#[derive(Debug, Serialize, Deserialize)]
struct RealmSync {
    realm: String,
    options: SyncOptions,
    dry_run: bool,
}

impl Task for RealmSync {
    const KIND: &'static str = "realm-sync";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        let context = worker.context.clone();
        sync::run(&context, &self.realm, self.options, self.dry_run, &mut |line| {
            worker.log(line);
        })?;
        Ok(())
    }
}

/// Adds the kind of task.
pub fn register_tasks(kinds: &mut Kinds) {
    kinds.register::<RealmSync>();
}

/// Starts a synchronisation: `POST /access/domains/{realm}/sync`. What the parameters do not say, the realm does.
///
/// # Errors
/// There is no such realm (400), it is no directory's, or nothing says what to bring in line (400).
pub fn start(
    context: &Context,
    caller: &AuthId,
    request_id: &str,
    realm: &str,
    params: &Params,
) -> Result<Upid, RealmSyncError> {
    let domains = Domains::load(&Cfs::new(context))?;
    let defaults = sync::require_realm(&domains, realm)?.option("sync-defaults-options");
    let task = RealmSync {
        realm: realm.to_owned(),
        options: SyncOptions::of(params, defaults.unwrap_or_default())?,
        dry_run: params.is_set("dry-run"),
    };
    let request = TaskRequest {
        worker_type: if task.dry_run { DRY_WORKER_TYPE } else { WORKER_TYPE }.to_owned(),
        id: realm.to_owned(),
        caller: caller.clone(),
        request_id: request_id.to_owned(),
    };
    Ok(Launcher::start(context, request, &task)?)
}
