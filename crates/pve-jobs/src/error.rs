//! What can go wrong.

use pve_cfs::CfsError;
use pve_schema::Failure;
use pve_schema::section_config::WriteError;

/// Why jobs or their states cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    /// Below `/etc/pve`, or a lock.
    #[error(transparent)]
    Cfs(#[from] CfsError),
    /// A job that cannot be written.
    #[error(transparent)]
    Section(#[from] WriteError),
    /// A state file that is none (reference 05 §2.3).
    #[error("invalid json data in '{0}'")]
    InvalidState(String),
    /// A job's name that cannot be part of a file name.
    #[error("invalid job id '{0}'")]
    InvalidId(String),
    /// A state file cannot be read.
    #[error("unable to read '{path}' - {reason}")]
    Read {
        /// The file.
        path: String,
        /// The system's word.
        reason: String,
    },
    /// A state file cannot be written or removed.
    #[error("unable to write '{path}' - {reason}")]
    Write {
        /// The file.
        path: String,
        /// The system's word.
        reason: String,
    },
}

impl Failure for JobsError {}
