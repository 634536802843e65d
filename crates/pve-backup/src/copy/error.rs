//! Why a copy fails.

use pve_qemu::qmp::QmpError;
use pve_schema::Failure;

use crate::vma::VmaError;

/// Why a copy failed. The VM has no part of it left then, unless it could not be asked any more.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// [`super::Watch::is_interrupted`]
    #[error("interrupted by signal")]
    Interrupted,
    /// QEMU refused, or did not answer.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// The archive cannot be written; a compressor that died is a broken pipe here.
    #[error(transparent)]
    Vma(#[from] VmaError),
    /// There are no random numbers for the archive's id.
    #[error("unable to make an id for the backup - {0}")]
    Random(String),
    /// The socket for QEMU cannot be made.
    #[error("unable to listen on '{path}' - {reason}")]
    Socket {
        /// The socket.
        path: String,
        /// The system's word.
        reason: String,
    },
    /// The VM does not have the disk.
    #[error("VM has no block node '{0}'")]
    NoNode(String),
    /// QEMU could not copy.
    #[error("backup of '{device}' failed - {reason}")]
    Job {
        /// The device's name in the archive.
        device: String,
        /// QEMU's word.
        reason: String,
    },
    /// Somebody else dismissed the job.
    #[error("backup of '{0}' failed - job has gone")]
    JobGone(String),
    /// QEMU sent what cannot become part of an archive.
    #[error("backup of '{device}' failed - unexpected request: {reason}")]
    Request {
        /// The device's name in the archive.
        device: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The VM kept jobs or nodes although it was told to give them up.
    #[error("unable to remove backup jobs of VM - got timeout")]
    Stuck,
}

impl Failure for CopyError {}
