//! What can go wrong below `/etc/pve`. The texts are upstream's: clients and operators match on them.

use std::path::Path;

use pve_schema::Failure;

/// What can go wrong below `/etc/pve`.
#[derive(Debug, thiserror::Error)]
pub enum CfsError {
    /// A path that leaves the tree, is absolute, or has empty components: a mistake of the caller.
    #[error("illegal path '{0}' below /etc/pve")]
    IllegalPath(String),
    /// A file or directory could not be opened.
    #[error("unable to open file '{path}' - {reason}")]
    Open {
        /// The file.
        path: String,
        /// The system's word.
        reason: String,
    },
    /// A file could not be read.
    #[error("unable to read file '{path}' - {reason}")]
    Read {
        /// The file.
        path: String,
        /// The system's word.
        reason: String,
    },
    /// A file is larger than the tree takes (1 MiB, reference 04 §1.4).
    #[error("unable to write '{0}' - File too large")]
    TooLarge(String),
    /// The new content could not be stored.
    #[error("unable to write '{path}' - {reason}")]
    Write {
        /// The temporary file.
        path: String,
        /// The system's word.
        reason: String,
    },
    /// The new content could not take the place of the old.
    #[error("close (rename) atomic file '{path}' failed: {reason}")]
    Commit {
        /// The file.
        path: String,
        /// The system's word.
        reason: String,
    },
    /// A file that was to be new is there already.
    #[error("unable to create file '{0}' - File exists")]
    Exists(String),
    /// A file could not be moved.
    #[error("unable to rename '{from}' to '{to}' - {reason}")]
    Rename {
        /// The old name.
        from: String,
        /// The new name.
        to: String,
        /// The system's word.
        reason: String,
    },
    /// A file could not be removed.
    #[error("unable to remove '{path}' - {reason}")]
    Remove {
        /// The file.
        path: String,
        /// The system's word.
        reason: String,
    },
    /// A directory could not be made, or given its mode.
    #[error("unable to create directory '{path}' - {reason}")]
    MakeDir {
        /// The directory.
        path: String,
        /// The system's word.
        reason: String,
    },
    /// A link could not be made.
    #[error("unable to create link '{path}' - {reason}")]
    MakeLink {
        /// The link.
        path: String,
        /// The system's word.
        reason: String,
    },
    /// A local file lock is held by somebody else.
    #[error("can't lock file '{0}' - got timeout")]
    LockTimeout(String),
    /// A local lock file could not be opened.
    #[error("can't lock file '{path}' - can't open file - {reason}")]
    LockOpen {
        /// The lock file.
        path: String,
        /// The system's word.
        reason: String,
    },
    /// A cluster lock is held by somebody else.
    #[error("cfs-lock '{0}' error: got lock request timeout")]
    ClusterLockTimeout(String),
    /// A cluster lock cannot be had without a majority of nodes.
    #[error("cfs-lock '{0}' error: no quorum!")]
    ClusterLockNoQuorum(String),
    /// A cluster lock cannot be had at all.
    #[error("cfs-lock '{0}' error: pve cluster filesystem not online.")]
    ClusterLockOffline(String),
    /// `/etc/pve` is not set up.
    #[error("pve configuration filesystem (pmxcfs) not mounted")]
    NotMounted,
    /// Too few nodes see each other.
    #[error("cluster not ready - no quorum?")]
    NoQuorum,
    /// No node has that name.
    #[error("no such cluster node '{0}'")]
    NoSuchNode(String),
    /// A guest's number is taken.
    #[error("{kind} {vmid} already exists on node '{node}'")]
    GuestExists {
        /// `VM` or `CT`.
        kind: &'static str,
        /// The number.
        vmid: u32,
        /// Where the guest is.
        node: String,
    },
    /// No guest number is free.
    #[error("unable to get any free VMID in range [{lower}, {upper}]")]
    NoFreeVmId {
        /// First number.
        lower: u32,
        /// First number that is no longer taken into account.
        upper: u32,
    },
    /// A host name does not resolve.
    #[error("hostname lookup '{host}' failed - failed to get address info for: {host}: {reason}")]
    Lookup {
        /// The name.
        host: String,
        /// The resolver's word.
        reason: String,
    },
    /// A host name resolves to loopback addresses only.
    #[error("address lookup for '{0}' did not find any IP address")]
    NoAddress(String),
    /// A virtual file of the cluster file system does not parse.
    #[error("unable to parse '{path}' - {reason}")]
    Parse {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// `corosync.conf` does not parse.
    #[error(transparent)]
    Corosync(#[from] crate::corosync::CorosyncError),
    /// A key of the status store that is empty or too long.
    #[error("illegal status key '{0}'")]
    StatusKey(String),
    /// A value of the status store is larger than 32 KiB (reference 04 §1.4).
    #[error("data for '{0}' too big")]
    StatusTooBig(String),
}

impl Failure for CfsError {}

/// A path as text for a message.
pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}
