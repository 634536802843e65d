//! Cluster locks: `flock` where `/etc/pve` is a plain directory, `mkdir` where a cluster file system is mounted.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::{TimeSpec, TimeValLike};

use super::{FileLock, LockId, Mode};
use crate::{Cfs, CfsError};

/// Where the lock files of a plain directory are.
const PLAIN_DIR: &str = "/run/lock/pve-cfs";
/// Upstream aborts the locked code after this time; here a warning is logged.
const LONG_HOLD: Duration = Duration::from_secs(60);
/// How long nobody else may take a lock that was renewed.
const LEASE: Duration = Duration::from_secs(120);
/// How often a held lock's lease is renewed.
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

/// A lock directory that is ours: renewed by a thread of its own while held, removed at the end - unless it was lost: to
/// another node, which has a directory of the same name then.
#[derive(Debug)]
struct Lease {
    held: Arc<Held>,
    renewer: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Lease {
    fn start(path: PathBuf) -> Self {
        Self::renewed_every(RENEW_EVERY, path)
    }

    fn renewed_every(pause: Duration, path: PathBuf) -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        let held = Arc::new(Held::new(path));
        let renewed = Arc::clone(&held);
        let spawned = std::thread::Builder::new().name("cfs-lease".to_owned()).spawn(move || {
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                if !renewed.renew() {
                    return;
                }
            }
        });
        Self {
            held,
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
        let path = &self.held.path;
        if self.held.is_lost() {
            // Whoever has it now gives it back; where nobody has, its lease runs out.
            return;
        }
        if let Err(error) = fs::remove_dir(path) {
            log::warn!("unable to give back lock '{}': {error}", path.display());
        }
    }
}

/// Which directory it is, and until when nobody else may take it.
#[derive(Debug)]
struct Held {
    path: PathBuf,
    /// Open as long as it is held: no other directory can have its number meanwhile.
    directory: Option<File>,
    renewed: Mutex<Instant>,
    told: AtomicBool,
}

impl Held {
    fn new(path: PathBuf) -> Self {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let directory = OpenOptions::new().read(true).custom_flags(flags.bits()).open(&path);
        Self {
            directory: directory.ok(),
            path,
            renewed: Mutex::new(Instant::now()),
            told: AtomicBool::new(false),
        }
    }

    /// Renews the lease; tells whether it is still ours.
    fn renew(&self) -> bool {
        if self.is_lost() {
            return false;
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seconds = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(0));
        match touch(&self.path, seconds) {
            Ok(()) => *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now(),
            Err(error) => log::warn!("unable to renew lock '{}': {error}", self.path.display()),
        }
        true
    }

    /// Whether another node has the lock, or may have it since the lease was not renewed in time. Said once.
    fn is_lost(&self) -> bool {
        let renewed = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_lost = renewed.elapsed() >= LEASE || self.is_another();
        if is_lost && !self.told.swap(true, Ordering::Relaxed) {
            log::error!(
                "lock '{}' was lost: it was not renewed in time, or somebody removed it",
                self.path.display()
            );
        }
        is_lost
    }

    /// Whether another directory, or none, has the name.
    fn is_another(&self) -> bool {
        let Some(Ok(ours)) = self.directory.as_ref().map(File::metadata) else {
            return false;
        };
        match fs::symlink_metadata(&self.path) {
            Ok(meta) => (meta.dev(), meta.ino()) != (ours.dev(), ours.ino()),
            Err(error) => error.kind() == ErrorKind::NotFound,
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
        const { assert!(RENEW_EVERY.as_secs() * 3 < LEASE.as_secs()) };
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

    #[test]
    fn a_lock_that_another_node_took_meanwhile_is_left_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("domain-ha");
        for pause in [Duration::from_millis(5), RENEW_EVERY] {
            fs::create_dir(&path).unwrap();
            let lease = Lease::renewed_every(pause, path.clone());
            fs::remove_dir(&path).unwrap();
            fs::create_dir(&path).unwrap();
            drop(lease);
            assert!(path.is_dir());
            fs::remove_dir(&path).unwrap();
        }
    }

    #[test]
    fn a_lease_that_was_not_renewed_in_time_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let held = Held::new(dir.path().to_owned());
        assert!(held.renew() && !held.is_lost());
        let Some(long_ago) = Instant::now().checked_sub(LEASE) else {
            return;
        };
        *held.renewed.lock().unwrap() = long_ago;
        assert!(held.is_lost() && !held.renew());
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
