//! What can go wrong with a backup. The texts are upstream's: clients and log readers match on them.

use std::io;
use std::path::{Path, PathBuf};

use pve_access::AccessError;
use pve_cfs::CfsError;
use pve_qemu::error::VmError;
use pve_qemu::files::FileError;
use pve_qemu::qmp::QmpError;
use pve_schema::failure::ParamErrors;
use pve_schema::ids::{StorageId, VmId};
use pve_schema::{Failure, errno_text};
use pve_storage::StorageError;
use pve_task::StartError;

use crate::compress::CompressError;
use crate::copy::CopyError;
use crate::selection::SelectionError;
use crate::vma::VmaError;

/// What can go wrong with a backup.
#[derive(Debug, thiserror::Error)]
pub enum VzdumpError {
    /// Parameters are at fault. Status 400.
    #[error("Parameter verification failed.")]
    Parameter(ParamErrors),
    /// The choice of guests.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// Missing rights.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A storage or a volume.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// `/etc/pve` or a lock.
    #[error(transparent)]
    Cfs(#[from] CfsError),
    /// The task did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Two targets.
    #[error("cannot use options 'storage' and 'dumpdir' at the same time")]
    StorageAndDirectory,
    /// What this build cannot do yet. Status 501.
    #[error("{0} is not supported by this build yet")]
    NotYet(&'static str),
    /// Another run has the node, and this one does not wait.
    #[error("can't acquire lock '/var/run/vzdump.lock' (wait = 0)")]
    LockNoWait,
    /// Another run has the node for too long, or the lock cannot be made.
    #[error("can't acquire lock '/var/run/vzdump.lock' - {0}")]
    Lock(String),
    /// A run that was to stop did not.
    #[error("stopping backup process {0} failed")]
    StopFailed(u32),
    /// Somebody stopped the run.
    #[error("interrupted by signal")]
    Interrupted,
    /// The target may not hold backups.
    #[error("can't use storage '{0}' for backups - wrong content type")]
    WrongContent(StorageId),
    /// What keeps the run from beginning, all of it.
    #[error("{}", .0.join("\n"))]
    Setup(Vec<String>),
    /// A guest failed; the others were done.
    #[error("job errors")]
    JobErrors,
    /// The target has enough backups of the guest.
    #[error(
        "There is a max backup limit of {0} enforced by the target storage or the vzdump parameters. Either increase \
         the limit or delete old backups."
    )]
    BackupLimit(u64),
    /// The archive cannot be protected.
    #[error("unable to set protected flag - {0}")]
    Protect(String),
    /// A volume whose size nobody can tell.
    #[error("cannot determine size of volume '{volume}' - {reason}")]
    VolumeSize {
        /// The volume.
        volume: String,
        /// Why.
        reason: String,
    },
    /// The hook script.
    #[error(transparent)]
    Hook(#[from] crate::vzdump::hook::HookError),
    /// The VM, or its config.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The copy of the disks.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The compressor.
    #[error(transparent)]
    Compress(#[from] CompressError),
    /// An archive that cannot be read.
    #[error(transparent)]
    Vma(#[from] VmaError),
    /// A file or directory of the run, or an archive.
    #[error("unable to {action} '{}' - {reason}", path.display())]
    File {
        /// `read`, `write`, `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word, or that it took too long.
        reason: String,
    },
    /// A name that no archive has.
    #[error("ERROR: couldn't determine archive info from '{}'", .0.display())]
    NoArchive(PathBuf),
    /// There is no place for the guests' logs.
    #[error("unable to create the directory of backup logs - {0}")]
    LogDirectory(String),
    /// An archive without a config.
    #[error("ERROR: archive contains no configuration file")]
    NoConfig,
    /// There is no such guest.
    #[error("unable to find VM '{0}'")]
    NoGuest(VmId),
}

impl VzdumpError {
    /// One parameter is at fault.
    pub fn parameter(name: &str, text: &str) -> Self {
        Self::Parameter(ParamErrors::from([(name.to_owned(), text.to_owned())]))
    }

    /// What the system says about a file: for `map_err`.
    pub(super) fn file(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::File {
            action,
            path: path.to_owned(),
            reason: errno_text(&error),
        }
    }

    fn inner(&self) -> Option<&dyn Failure> {
        Some(match self {
            Self::Selection(error) => error,
            Self::Access(error) => error,
            Self::Storage(error) => error,
            Self::Cfs(error) => error,
            Self::Start(error) => error,
            Self::Vm(error) => error,
            _ => return None,
        })
    }
}

impl Failure for VzdumpError {
    fn status(&self) -> u16 {
        match self {
            Self::Parameter(_) => 400,
            Self::NotYet(_) => 501,
            _ => self.inner().map_or(500, Failure::status),
        }
    }

    fn param_errors(&self) -> Option<&ParamErrors> {
        match self {
            Self::Parameter(errors) => Some(errors),
            _ => self.inner()?.param_errors(),
        }
    }
}

impl From<FileError> for VzdumpError {
    fn from(error: FileError) -> Self {
        Self::Vm(error.into())
    }
}

impl From<QmpError> for VzdumpError {
    fn from(error: QmpError) -> Self {
        Self::Vm(error.into())
    }
}
