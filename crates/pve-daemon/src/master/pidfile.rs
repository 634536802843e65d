//! The pid file, and the lock that says there is one daemon (reference 01 §1.2 step 4).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pve_schema::{Site, errno_text};

use crate::process;

/// How long a fresh start waits for the daemon before it to let go.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// How often it looks.
const LOCK_RETRY: Duration = Duration::from_millis(100);

/// Where the pid of a daemon is written.
#[derive(Debug, Clone)]
pub(crate) struct PidFile {
    path: PathBuf,
    lock_path: PathBuf,
    /// The lock file as messages name it: upstream says `/var/run`.
    lock_name: String,
}

/// The lock, held as long as the value or a copy of its descriptor in another process exists.
#[derive(Debug)]
pub(crate) struct PidLock(pub(crate) OwnedFd);

/// The daemon cannot be the only one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PidFileError {
    /// Another one runs.
    #[error("can't acquire lock '{lock}' - daemon already started (pid = {pid})")]
    AlreadyStarted {
        /// The lock file.
        lock: String,
        /// The other one.
        pid: u32,
    },
    /// Somebody holds the lock, or it cannot be opened.
    #[error("can't acquire lock '{lock}' - {}", errno_text(.error))]
    Lock {
        /// The lock file.
        lock: String,
        /// Why.
        error: io::Error,
    },
    /// The pid file cannot be written.
    #[error("can't write '{}' - {}", .path.display(), errno_text(.error))]
    Write {
        /// The pid file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Files of a daemon that is gone could not be removed.
    #[error("cleanup failed - {}", errno_text(.0))]
    Cleanup(io::Error),
}

impl PidFile {
    pub(crate) fn new(site: &Site, file: &str) -> Self {
        let path = site.path(file);
        let mut lock_path = path.clone().into_os_string();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let lock_name = match site.is_system() {
            true => format!("/var{}", lock_path.display()),
            false => lock_path.display().to_string(),
        };
        Self {
            path,
            lock_path,
            lock_name,
        }
    }

    /// The pid in the file: its first line, if that is all digits.
    fn pid(&self) -> Option<u32> {
        let content = std::fs::read_to_string(&self.path).ok()?;
        let line = content.lines().next()?;
        if line.bytes().all(|byte| byte.is_ascii_digit()) {
            line.parse().ok()
        } else {
            None
        }
    }

    /// The pid in the file, if that process lives and is of the user who wrote the file: what stands in a file of the web
    /// user's must not have root signal somebody else.
    pub(crate) fn running(&self) -> Option<u32> {
        // Of a symbolic link, who made it.
        let writer = std::fs::symlink_metadata(&self.path).ok()?.uid();
        self.pid()
            .filter(|&pid| process::is_alive(pid) && process::user(pid) == Some(writer))
    }

    /// The pid in the file, if a daemon holds the lock.
    pub(crate) fn held(&self) -> Option<u32> {
        let lock = File::open(&self.lock_path).ok()?;
        match try_lock(&lock) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.running(),
            _ => None,
        }
    }

    /// Whether there is a pid file.
    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Takes the lock, waiting up to five seconds for it.
    pub(crate) fn acquire(&self) -> Result<PidLock, PidFileError> {
        self.acquire_within(LOCK_WAIT)
    }

    fn acquire_within(&self, wait: Duration) -> Result<PidLock, PidFileError> {
        let failed = |error| PidFileError::Lock {
            lock: self.lock_name.clone(),
            error,
        };
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            // Root must not make a file wherever a link of the web user's leads.
            .custom_flags(libc::O_NOFOLLOW)
            .open(&self.lock_path)
            .map_err(failed)?;
        let deadline = Instant::now() + wait;
        loop {
            match try_lock(&file) {
                Ok(()) => return Ok(PidLock(file.into())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed(error)),
            }
            if Instant::now() >= deadline {
                return Err(match self.running() {
                    Some(pid) => PidFileError::AlreadyStarted {
                        lock: self.lock_name.clone(),
                        pid,
                    },
                    None => failed(io::Error::from_raw_os_error(libc::EAGAIN)),
                });
            }
            std::thread::sleep(LOCK_RETRY);
        }
    }

    /// Writes this process's pid.
    pub(crate) fn write(&self) -> Result<(), PidFileError> {
        std::fs::write(&self.path, format!("{}\n", std::process::id())).map_err(|error| PidFileError::Write {
            path: self.path.clone(),
            error,
        })
    }

    /// Removes pid file and lock file; the caller holds the lock.
    pub(crate) fn remove(&self, _lock: &PidLock) {
        for path in [&self.path, &self.lock_path] {
            remove_quietly(path);
        }
    }

    /// Removes what a daemon that is gone left behind.
    pub(crate) fn clean_up(&self) -> Result<(), PidFileError> {
        match self.acquire_within(LOCK_WAIT) {
            Ok(lock) => {
                self.remove(&lock);
                Ok(())
            }
            Err(PidFileError::Lock { error, .. }) => Err(PidFileError::Cleanup(error)),
            Err(other) => Err(other),
        }
    }
}

fn remove_quietly(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("unable to remove '{}' - {}", path.display(), errno_text(&error));
    }
}

/// An exclusive lock that does not wait. The kernel drops it with the last copy of the descriptor, so `kill -9` leaves
/// none behind; dropping the value in a forked worker must not unlock, which is why no guard type does that here.
fn try_lock(file: &File) -> io::Result<()> {
    // SAFETY: flock takes a descriptor, which is open for as long as `file` is borrowed, and no memory.
    #[allow(unsafe_code)]
    let result = unsafe { libc::flock(file.as_fd().as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn site(root: &Path) -> Site {
        std::fs::create_dir_all(root.join("run")).unwrap();
        pve_testing::site(root, "node")
    }

    #[test]
    fn the_second_daemon_learns_who_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let file = PidFile::new(&site(dir.path()), "/run/test.pid");
        let lock = file.acquire().unwrap();
        let error = file.acquire_within(Duration::ZERO).unwrap_err().to_string();
        assert!(
            error.ends_with("test.pid.lock' - Resource temporarily unavailable"),
            "{error}"
        );
        file.write().unwrap();
        let error = file.acquire_within(Duration::ZERO).unwrap_err().to_string();
        let expected = format!("test.pid.lock' - daemon already started (pid = {})", std::process::id());
        assert!(error.ends_with(&expected), "{error}");
        assert_eq!(file.held(), Some(std::process::id()));
        file.remove(&lock);
        drop(lock);
        assert!(!file.exists());
        // Whatever another test starts at that moment has the lock's file open until it is another program.
        drop(file.acquire().unwrap());
        pve_testing::wait_for("the lock is free", || file.held().is_none());
        file.write().unwrap();
        assert_eq!(
            (file.running(), file.held()),
            (Some(std::process::id()), None),
            "a number alone is no daemon"
        );
        file.acquire().unwrap();
    }

    #[test]
    fn only_digits_are_a_pid() {
        let dir = tempfile::tempdir().unwrap();
        let file = PidFile::new(&site(dir.path()), "/run/test.pid");
        for (content, expected) in [
            ("17\n", Some(17)),
            ("17", Some(17)),
            ("17 \n", None),
            ("", None),
            ("-1\n", None),
        ] {
            std::fs::write(dir.path().join("run/test.pid"), content).unwrap();
            assert_eq!(file.pid(), expected, "{content:?}");
        }
    }

    #[test]
    fn nobody_vouches_for_the_process_of_another_user() {
        let dir = tempfile::tempdir().unwrap();
        let file = PidFile::new(&site(dir.path()), "/run/test.pid");
        let _lock = file.acquire().unwrap();
        // Root's process, in a file that is not root's.
        std::fs::write(&file.path, "1\n").unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&file.path, Some(33), Some(33)).unwrap();
        }
        assert_eq!((file.pid(), file.running(), file.held()), (Some(1), None, None));
    }

    #[test]
    fn a_lock_is_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let file = PidFile::new(&site(dir.path()), "/run/test.pid");
        let elsewhere = dir.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, &file.lock_path).unwrap();
        let error = file.acquire_within(Duration::ZERO).unwrap_err().to_string();
        assert!(error.ends_with("Too many levels of symbolic links"), "{error}");
        assert!(!elsewhere.exists());
    }

    #[test]
    fn a_system_names_its_lock_as_upstream_does() {
        let mut site = site(tempfile::tempdir().unwrap().path());
        site.root = "/".into();
        assert_eq!(
            PidFile::new(&site, "/run/pvedaemon.pid").lock_name,
            "/var/run/pvedaemon.pid.lock"
        );
    }
}
