//! Local file locks: `flock` with a deadline.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::marker::PhantomData;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use pve_schema::errno_text;

use crate::error::{CfsError, shown};

/// How long to sleep between two tries: short enough that nobody notices, long enough not to burn a processor.
const PAUSE: Duration = Duration::from_millis(20);

/// Who may read a file may lock it, and so keep a daemon from its work: only root may, or who made it.
const LOCK_MODE: u32 = 0o600;

/// Whether others may hold the lock too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nobody else.
    Exclusive,
    /// Others who asked for the same.
    Shared,
}

/// Where the words about a wait go: `trying to acquire lock...`, ` OK\n`, ` failed\n`.
pub type Progress<'a> = &'a mut dyn FnMut(&str);

/// A lock on a file of this node; dropped, it is given back. A `kill -9` gives it back too.
///
/// It belongs to the thread that took it, and that thread may take it again.
#[derive(Debug)]
pub struct FileLock {
    held: Rc<Held>,
    thread_bound: PhantomData<*const ()>,
}

#[derive(Debug)]
struct Held {
    /// Closing gives the lock back.
    _file: Flock<File>,
    mode: Mode,
}

thread_local! {
    /// What this thread holds, by path.
    static HELD: RefCell<HashMap<PathBuf, Weak<Held>>> = RefCell::new(HashMap::new());
}

impl FileLock {
    /// Waits for a lock that nobody else may hold; a wait tells of itself on standard error, which in a task is its log.
    ///
    /// # Errors
    /// [`CfsError::LockTimeout`], [`CfsError::LockOpen`].
    pub fn exclusive(path: &Path, timeout: Duration) -> Result<Self, CfsError> {
        Self::acquire(path, Mode::Exclusive, timeout, &mut |text| eprint!("{text}"))
    }

    /// Waits for a lock that others may share.
    ///
    /// # Errors
    /// As [`FileLock::exclusive`].
    pub fn shared(path: &Path, timeout: Duration) -> Result<Self, CfsError> {
        Self::acquire(path, Mode::Shared, timeout, &mut |text| eprint!("{text}"))
    }

    /// Waits for a lock; the file, and the directory that holds it, are made if need be.
    ///
    /// # Errors
    /// As [`FileLock::exclusive`].
    pub fn acquire(path: &Path, mode: Mode, timeout: Duration, progress: Progress<'_>) -> Result<Self, CfsError> {
        if let Some(held) = held_here(path, mode) {
            return Ok(Self::own(held));
        }
        let deadline = Instant::now() + timeout;
        let mut waiting = false;
        let file = loop {
            match try_lock(path, mode)? {
                Some(file) => break file,
                None if !waiting => {
                    waiting = true;
                    progress("trying to acquire lock...");
                }
                None => {}
            }
            if Instant::now() >= deadline {
                progress(" failed\n");
                return Err(CfsError::LockTimeout(shown(path)));
            }
            std::thread::sleep(PAUSE);
        };
        if waiting {
            progress(" OK\n");
        }
        let held = Rc::new(Held { _file: file, mode });
        HELD.with_borrow_mut(|map| {
            map.retain(|_, weak| weak.strong_count() > 0);
            map.insert(path.to_owned(), Rc::downgrade(&held));
        });
        Ok(Self::own(held))
    }

    fn own(held: Rc<Held>) -> Self {
        Self {
            held,
            thread_bound: PhantomData,
        }
    }

    /// How it is held.
    pub fn mode(&self) -> Mode {
        self.held.mode
    }
}

/// A lock that this thread holds already and that covers what is asked for.
fn held_here(path: &Path, mode: Mode) -> Option<Rc<Held>> {
    HELD.with_borrow(|map| map.get(path).and_then(Weak::upgrade))
        .filter(|held| held.mode == Mode::Exclusive || mode == Mode::Shared)
}

/// One try. `None`: somebody else holds it.
fn try_lock(path: &Path, mode: Mode) -> Result<Option<Flock<File>>, CfsError> {
    let failed = |error: io::Error| CfsError::LockOpen {
        path: shown(path),
        reason: errno_text(&error),
    };
    let file = open(path).map_err(failed)?;
    let how = match mode {
        Mode::Exclusive => FlockArg::LockExclusiveNonblock,
        Mode::Shared => FlockArg::LockSharedNonblock,
    };
    match Flock::lock(file, how) {
        Ok(locked) if is_still_at(&locked, path) => Ok(Some(locked)),
        // Somebody removed or replaced the file between open and lock: what we hold guards nothing.
        Ok(_) | Err((_, Errno::EAGAIN | Errno::EINTR)) => Ok(None),
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(LOCK_MODE);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
            }
            options.open(path)
        }
        other => other,
    }
}

fn is_still_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(own), Ok(there)) => (own.dev(), own.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_held_lock_times_out_with_upstreams_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/x.lock");
        let _guard = FileLock::exclusive(&path, Duration::from_secs(1)).unwrap();
        let other = path.clone();
        let (message, words) = std::thread::spawn(move || {
            let mut words = String::new();
            let error = FileLock::acquire(&other, Mode::Shared, Duration::from_millis(60), &mut |w| {
                words.push_str(w)
            })
            .unwrap_err();
            (error.to_string(), words)
        })
        .join()
        .unwrap();
        assert_eq!(message, format!("can't lock file '{}' - got timeout", path.display()));
        assert_eq!(words, "trying to acquire lock... failed\n");
    }

    #[test]
    fn nobody_else_may_open_a_lock_file() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let _lock = FileLock::exclusive(&path, Duration::ZERO).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_thread_may_take_its_lock_again_and_others_get_it_after_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let outer = FileLock::exclusive(&path, Duration::ZERO).unwrap();
        let inner = FileLock::exclusive(&path, Duration::ZERO).unwrap();
        drop(outer);
        assert!(try_lock(&path, Mode::Exclusive).unwrap().is_none());
        drop(inner);
        assert!(try_lock(&path, Mode::Exclusive).unwrap().is_some());
    }

    #[test]
    fn readers_share_and_a_writer_waits_for_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let reader = FileLock::shared(&path, Duration::ZERO).unwrap();
        assert!(try_lock(&path, Mode::Shared).unwrap().is_some());
        let other = path.clone();
        let (tx, rx) = mpsc::channel();
        let writer = std::thread::spawn(move || {
            let mut words = String::new();
            let lock = FileLock::acquire(&other, Mode::Exclusive, Duration::from_secs(20), &mut |w| {
                words.push_str(w);
                let _ = tx.send(());
            });
            (lock.is_ok(), words)
        });
        rx.recv_timeout(Duration::from_secs(20)).unwrap();
        drop(reader);
        assert_eq!(
            writer.join().unwrap(),
            (true, "trying to acquire lock... OK\n".to_owned())
        );
    }

    #[test]
    fn a_lock_file_that_cannot_be_opened_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let error = FileLock::exclusive(dir.path(), Duration::ZERO).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "can't lock file '{}' - can't open file - Is a directory",
                dir.path().display()
            )
        );
    }
}
