//! Cluster locks: `flock` where `/etc/pve` is a plain directory, `mkdir` where a cluster file system is mounted.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::{TimeSpec, TimeValLike};

use super::{FileLock, LockId, Mode};
use crate::{Cfs, CfsError};

/// Where the lock files of a plain directory are.
const PLAIN_DIR: &str = "/run/lock/pve-cfs";
/// Upstream aborts the locked code after this time; here a warning is logged.
const LONG_HOLD: Duration = Duration::from_secs(60);
/// How often a held lock's lease (120 s) is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(30);

/// A cluster lock; dropped, it is given back.
#[derive(Debug)]
pub struct ClusterLock {
    id: String,
    since: Instant,
    _kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Plain { _lock: FileLock },
    Mounted { _lease: Lease },
}

impl Drop for ClusterLock {
    fn drop(&mut self) {
        let held = self.since.elapsed();
        if held > LONG_HOLD {
            log::warn!("cfs-lock '{}' was held for {} s", self.id, held.as_secs());
        }
    }
}

impl Cfs {
    /// Waits for a cluster lock. It belongs to the thread that took it.
    ///
    /// # Errors
    /// [`CfsError::ClusterLockTimeout`], [`CfsError::ClusterLockNoQuorum`], [`CfsError::ClusterLockOffline`].
    pub fn lock(&self, id: &LockId, timeout: Duration) -> Result<ClusterLock, CfsError> {
        let id = id.to_string();
        let kind = if self.is_mounted() {
            self.lock_mounted(&id, timeout)?
        } else {
            self.lock_plain(&id, timeout)?
        };
        Ok(ClusterLock {
            id,
            since: Instant::now(),
            _kind: kind,
        })
    }

    fn lock_plain(&self, id: &str, timeout: Duration) -> Result<Kind, CfsError> {
        let path = self.site().path(PLAIN_DIR).join(id.replace(['/', '\0'], "_"));
        let mut waiting = |words: &str| {
            if words.starts_with("trying") {
                eprintln!("trying to acquire cfs lock '{id}' ...");
            }
        };
        match FileLock::acquire(&path, Mode::Exclusive, timeout, &mut waiting) {
            Ok(lock) => Ok(Kind::Plain { _lock: lock }),
            Err(CfsError::LockTimeout(_)) => Err(CfsError::ClusterLockTimeout(id.to_owned())),
            Err(error) => Err(error),
        }
    }

    fn lock_mounted(&self, id: &str, timeout: Duration) -> Result<Kind, CfsError> {
        let dir = self.site().etc_pve().join("priv/lock");
        // There already, as a rule; if it cannot be made, what follows says so.
        let _ = fs::create_dir(&dir);
        if !dir.is_dir() {
            return Err(CfsError::ClusterLockOffline(id.to_owned()));
        }
        let path = dir.join(id.replace(['/', '\0'], "_"));
        let mut wait = Wait::new(timeout);
        loop {
            if DirBuilder::new().mode(0o700).create(&path).is_ok() {
                return Ok(Kind::Mounted {
                    _lease: Lease::start(path),
                });
            }
            let Some(pause) = wait.next_pause() else {
                return Err(if self.is_quorate() {
                    CfsError::ClusterLockTimeout(id.to_owned())
                } else {
                    CfsError::ClusterLockNoQuorum(id.to_owned())
                });
            };
            if wait.begins_second() {
                eprintln!("trying to acquire cfs lock '{id}' ...");
            }
            // Asks the cluster file system to drop the lock if its lease has run out; refused otherwise.
            let _ = touch(&path, 0);
            std::thread::sleep(pause);
        }
    }
}

/// The pauses between two tries: 1 s while 10 s or more remain, shrinking to 0.1 s (reference 04 §1.7).
#[derive(Debug)]
struct Wait {
    timeout: u64,
    slept: Duration,
    told: Option<u64>,
}

impl Wait {
    fn new(timeout: Duration) -> Self {
        Self {
            timeout: timeout.as_secs(),
            slept: Duration::ZERO,
            told: None,
        }
    }

    /// How long to sleep now; `None` when the time is over.
    fn next_pause(&mut self) -> Option<Duration> {
        let remaining = self.timeout.saturating_sub(self.slept.as_secs()).max(1);
        let pause = Duration::from_millis(remaining.min(10) * 100);
        if (self.slept + pause).as_secs() >= self.timeout {
            return None;
        }
        self.slept += pause;
        Some(pause)
    }

    /// Whether a second has begun of which nothing was said yet.
    fn begins_second(&mut self) -> bool {
        let second = Some(self.slept.as_secs());
        let begins = self.told != second;
        self.told = second;
        begins
    }
}

/// A lock directory that is ours: renewed by a thread of its own while held, removed at the end.
#[derive(Debug)]
struct Lease {
    path: PathBuf,
    renewer: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Lease {
    fn start(path: PathBuf) -> Self {
        Self::renewed_every(RENEW_EVERY, path)
    }

    fn renewed_every(pause: Duration, path: PathBuf) -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        let renewed = path.clone();
        let spawned = std::thread::Builder::new().name("cfs-lease".to_owned()).spawn(move || {
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                let seconds = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(0));
                if let Err(error) = touch(&renewed, seconds) {
                    log::warn!("unable to renew lock '{}': {error}", renewed.display());
                }
            }
        });
        Self {
            path,
            renewer: spawned.ok().map(|thread| (stop, thread)),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.renewer.take() {
            drop(stop);
            let _ = thread.join();
        }
        if let Err(error) = fs::remove_dir(&self.path) {
            log::warn!("unable to give back lock '{}': {error}", self.path.display());
        }
    }
}

fn touch(path: &Path, seconds: i64) -> nix::Result<()> {
    let time = TimeSpec::seconds(seconds);
    utimensat(AT_FDCWD, path, &time, &time, UtimensatFlags::FollowSymlink)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 04 §20, vectors 4 and 5: number of `mkdir` attempts and time slept.
    #[test]
    fn waits_as_long_and_as_often_as_upstream() {
        for (timeout, attempts, slept) in [(10, 28, 9_900), (3, 18, 2_900)] {
            let mut wait = Wait::new(Duration::from_secs(timeout));
            let pauses: Vec<_> = std::iter::from_fn(|| wait.next_pause()).collect();
            let total: Duration = pauses.iter().sum();
            assert_eq!(
                (pauses.len() + 1, total.as_millis()),
                (attempts, slept),
                "timeout {timeout}: {pauses:?}"
            );
        }
    }

    /// Reference 04 §1.7: the holder moves the directory's time forward, long before 120 s are over.
    #[test]
    fn a_lock_that_is_held_is_renewed_until_it_is_given_back() {
        const { assert!(RENEW_EVERY.as_secs() * 3 < 120) };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("domain-ha");
        fs::create_dir(&path).unwrap();
        touch(&path, 1_000_000).unwrap();
        let mtime = || fs::metadata(&path).unwrap().modified().unwrap();
        let old = mtime();
        let lease = Lease::renewed_every(Duration::from_millis(5), path.clone());
        pve_testing::wait_for("the lease is renewed", || mtime() > old);
        drop(lease);
        assert!(!path.exists());
    }

    /// The way of a cluster file system works on any directory, as long as nobody crashes.
    #[test]
    fn a_lock_directory_is_held_by_one_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let cfs = Cfs::new(&pve_testing::context(dir.path(), "pve1"));
        let lock = |seconds| cfs.lock_mounted("domain-ha", Duration::from_secs(seconds));
        let text = |error: CfsError| error.to_string();
        assert_eq!(
            text(lock(1).unwrap_err()),
            "cfs-lock 'domain-ha' error: pve cluster filesystem not online."
        );
        fs::create_dir_all(dir.path().join("etc/pve/priv")).unwrap();
        let held = lock(1).unwrap();
        let path = dir.path().join("etc/pve/priv/lock/domain-ha");
        assert!(path.is_dir());
        assert_eq!(text(lock(1).unwrap_err()), "cfs-lock 'domain-ha' error: no quorum!");
        cfs.ensure_tree().unwrap();
        assert_eq!(
            text(lock(1).unwrap_err()),
            "cfs-lock 'domain-ha' error: got lock request timeout"
        );
        drop(held);
        assert!(!path.exists());
        drop(lock(1).unwrap());
    }
}
