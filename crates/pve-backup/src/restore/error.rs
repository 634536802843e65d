//! Why a VM is not restored.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use pve_access::AccessError;
use pve_cfs::CfsError;
use pve_qemu::config::{DriveKey, ParameterError};
use pve_qemu::error::VmError;
use pve_qemu::update::UpdateError;
use pve_schema::ids::StorageId;
use pve_schema::{Failure, ParamErrors, errno_text};
use pve_storage::StorageError;
use pve_storage::archive::NoArchive;

use crate::vma::{DriveMapError, VmaError};

/// Why a VM is not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A VM, its config or its lock.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// A storage or a volume.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A privilege is missing.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// `/etc/pve`.
    #[error(transparent)]
    Cfs(#[from] CfsError),
    /// Parameters are at fault.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// The archive is damaged, or a volume cannot be written.
    #[error(transparent)]
    Vma(#[from] VmaError),
    /// Config and devices of the archive do not fit together.
    #[error(transparent)]
    Map(#[from] DriveMapError),
    /// The file's name does not tell what it is.
    #[error(transparent)]
    Name(#[from] NoArchive),

    /// Standard input belongs to the command line.
    #[error("pipe requires cli environment")]
    Pipe,
    /// Only a backup server can hand out parts of a backup while the guest runs.
    #[error("live-restore is only compatible with backup images from a Proxmox Backup Server")]
    LiveRestore,
    /// What this build cannot do.
    #[error("{0} is not supported by this build yet")]
    NotYet(&'static str),
    /// A container's.
    #[error("unable to restore a VM from '{0}' - not a backup of a VM")]
    OtherGuest(String),
    /// The archive cannot be opened.
    #[error("unable to open archive '{}' - {}", path.display(), errno_text(source))]
    Open {
        /// Where it should be.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A directory, a pipe, a device.
    #[error("archive '{}' is not a file", .0.display())]
    NotAFile(PathBuf),
    /// The program that decompresses the archive cannot be run.
    #[error("unable to run '{program}' - {} (is the package installed?)", errno_text(source))]
    Decompressor {
        /// The program.
        program: String,
        /// The system's word.
        source: io::Error,
    },
    /// The program that decompresses the archive says that it is damaged.
    #[error("command '{command}' failed: {reason}")]
    Decompress {
        /// The command.
        command: String,
        /// What it says, or its status.
        reason: String,
    },
    /// The archive's header takes too long.
    #[error("got timeout reading VMA header - corrupted?")]
    HeaderTimeout,
    /// Nothing comes any more.
    #[error("got timeout reading archive")]
    Stalled,
    /// Somebody stopped the task.
    #[error("interrupted by signal")]
    Interrupted,
    /// The archive has no config.
    #[error("ERROR: archive contains no configuration file")]
    NoConfig,
    /// Two drives with one content, or two contents for one drive.
    #[error("archive maps '{0}' more than once")]
    Ambiguous(String),
    /// A drive that a VM cannot have.
    #[error("archive contains data for unknown drive '{0}'")]
    UnknownDrive(String),
    /// The storage is not one for disks.
    #[error("Content type 'images' is not available on storage '{0}'")]
    NoImages(StorageId),
    /// The map names a storage that can be none.
    #[error("archive names an invalid storage '{0}'")]
    StorageName(String),
    /// A new volume cannot be opened.
    #[error("unable to open volume for drive '{key}' - {}", errno_text(source))]
    Volume {
        /// The drive.
        key: DriveKey,
        /// The system's word.
        source: io::Error,
    },
}

impl RestoreError {
    /// The failure of a program, in its own words if it said any.
    pub(super) fn decompress(command: String, status: Option<ExitStatus>, words: &str) -> Self {
        let reason = match (words.trim(), status) {
            ("", Some(status)) => status.to_string(),
            ("", None) => "got timeout".to_owned(),
            (words, _) => words.replace('\n', " "),
        };
        Self::Decompress { command, reason }
    }

    fn inner(&self) -> Option<&dyn Failure> {
        Some(match self {
            Self::Vm(error) => error,
            Self::Storage(error) => error,
            Self::Access(error) => error,
            Self::Cfs(error) => error,
            Self::Parameter(error) => error,
            _ => return None,
        })
    }
}

impl From<UpdateError> for RestoreError {
    fn from(error: UpdateError) -> Self {
        Self::Vm(error.into())
    }
}

impl Failure for RestoreError {
    fn status(&self) -> u16 {
        match self {
            Self::NotYet(_) => 501,
            other => other.inner().map_or(500, Failure::status),
        }
    }

    fn param_errors(&self) -> Option<&ParamErrors> {
        self.inner()?.param_errors()
    }
}
