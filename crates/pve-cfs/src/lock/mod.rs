//! Locks of this node and of the cluster (reference 03 §3.6, 04 §1.7; docs/decisions/0009-locks.md).
//!
//! | lock | mechanism | freed by a kill |
//! |---|---|---|
//! | [`FileLock`] | `flock` on a file of this node | at once |
//! | [`LockId`], `/etc/pve` a plain directory | `flock` on `/run/lock/pve-cfs/ID` | at once |
//! | [`LockId`], cluster file system mounted | `mkdir /etc/pve/priv/lock/ID` | after the lease of 120 s |
//!
//! The lock files of a plain directory are not in `priv/lock`, where a file of that name would look to upstream's tools
//! like a lock that is never given back.
//!
//! Locks are re-entrant in a thread: code that holds one may call code that takes it again.

mod cluster;
mod file;

pub use file::{FileLock, Mode, Progress};

use std::fmt;
use std::time::Duration;

use crate::{Cfs, CfsError};

/// How long a cluster or file lock is waited for where the caller has no reason for another figure.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a cluster lock guards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockId {
    /// A config file, by its name below `/etc/pve`: `user.cfg`.
    File(String),
    /// The content of a storage.
    Storage(String),
    /// A domain: `ha`, `sdn`, a realm.
    Domain(String),
    /// Anything else: `authkey`, `acme-default`, `firewall-cluster`.
    Named(String),
}

impl LockId {
    /// The lock of a config file.
    pub fn file(name: &str) -> Self {
        Self::File(name.to_owned())
    }

    /// The lock of a storage's content.
    pub fn storage(id: &str) -> Self {
        Self::Storage(id.to_owned())
    }
}

impl fmt::Display for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name) => write!(f, "file-{}", name.replace(['.', '/'], "_")),
            Self::Storage(id) => write!(f, "storage-{id}"),
            Self::Domain(name) => write!(f, "domain-{name}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl Cfs {
    /// Runs code under a cluster lock. The code's errors come back unchanged.
    ///
    /// Unlike upstream, code that takes longer than 60 s is not torn down half-way: it keeps its lock, and a warning is
    /// logged.
    ///
    /// # Errors
    /// [`CfsError::ClusterLockTimeout`], [`CfsError::ClusterLockNoQuorum`], [`CfsError::ClusterLockOffline`] if the lock
    /// cannot be had; else the code's own.
    pub fn with_lock<T, E, F>(&self, id: &LockId, timeout: Duration, code: F) -> Result<T, E>
    where
        F: FnOnce() -> Result<T, E>,
        E: From<CfsError>,
    {
        let _guard = self.lock(id, timeout)?;
        code()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 04 §20, vectors 1 to 3.
    #[test]
    fn lock_ids_of_files() {
        for (file, id) in [
            ("storage.cfg", "file-storage_cfg"),
            ("sdn/.running-config", "file-sdn__running-config"),
            ("virtual-guest/cpu-models.conf", "file-virtual-guest_cpu-models_conf"),
        ] {
            assert_eq!(LockId::file(file).to_string(), id);
        }
        assert_eq!(LockId::storage("local").to_string(), "storage-local");
    }
}
