//! What can go wrong with a guest's config.

use pve_cfs::{CfsError, GuestKind};
use pve_schema::Failure;

/// What can go wrong with a guest's config.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// There is no such guest here. Clients look for `does not exist`.
    #[error("Configuration file '{0}' does not exist")]
    NotFound(String),
    /// A long operation owns the guest.
    #[error("{} is locked ({lock})", kind.label())]
    Locked {
        /// The guest's kind.
        kind: GuestKind,
        /// The value of the `lock` key.
        lock: String,
    },
    /// No lock to remove. The two blanks are upstream's.
    #[error("no lock found trying to remove '{0}'  lock")]
    NoSuchLock(String),
    /// No lock to remove, whichever.
    #[error("no lock found trying to remove any lock")]
    NoLock,
    /// Another operation's lock.
    #[error("found lock '{found}' trying to remove '{wanted}' lock")]
    OtherLock {
        /// What is set.
        found: String,
        /// What was to be removed.
        wanted: String,
    },
    /// The config changed since the caller read it.
    #[error("checksum mismatch (file change by other user?)")]
    DigestMismatch,
    /// A snapshot of that name does not exist.
    #[error("snapshot '{0}' does not exist")]
    NoSnapshot(String),
    /// A strict parse met what a normal one warns about.
    #[error("{0}")]
    Strict(crate::parse::ParseWarning),
    /// The keys of a config contradict each other.
    #[error("{0}")]
    Unwritable(String),
    /// A value that would become more than one line of the file.
    #[error("value of '{0}' contains a line break")]
    LineBreak(String),
    /// The file cannot be read, written or locked.
    #[error(transparent)]
    Files(#[from] CfsError),
}

impl Failure for GuestError {}
