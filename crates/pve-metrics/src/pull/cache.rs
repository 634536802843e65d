//! The file that remembers the cycles of the last half hour, newest first.
//!
//! ```text
//! lock ─▶ a new file: this cycle's line, then up to 180 lines of the old file ─▶ rename
//! ```

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pve_cfs::lock::Mode;
use pve_cfs::{CfsError, FileLock, make_run_dir};
use pve_schema::{Context, Failure, Site, errno_text};
use serde_json::Value;

use super::line;
use crate::snapshot::Snapshot;

/// Where it is; readable by the web side.
const DIRECTORY: &str = "/run/pve";
const NAME: &str = "metrics";
/// How long one that writes waits for another (reference 04 §17).
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// Cycles that are remembered besides the newest: half an hour, with one every ten seconds.
const OLD: usize = 180;
/// Bytes that are remembered at most, in memory as `/run` is: the half hour of 1,400 guests.
const MAX_BYTES: u64 = 64 << 20;

/// What goes wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Another one writes all the time, or the directory cannot be made.
    #[error(transparent)]
    Lock(#[from] CfsError),
    /// It cannot be written.
    #[error("unable to write '{}' - {}", .path.display(), errno_text(.error))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It cannot be read.
    #[error("unable to read '{}' - {}", .path.display(), errno_text(.error))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl Failure for PullError {}

/// The file of a site.
#[derive(Debug, Clone)]
pub struct Cache {
    site: Arc<Site>,
}

impl Cache {
    /// The file of a context's site.
    pub fn new(context: &Context) -> Self {
        Self {
            site: Arc::clone(&context.site),
        }
    }

    fn path(&self) -> PathBuf {
        self.site.path(DIRECTORY).join(NAME)
    }

    /// Adds what a cycle saw, and forgets the oldest.
    ///
    /// # Errors
    /// [`PullError::Lock`], [`PullError::Write`]; the file is as it was then.
    pub fn add<'a>(&self, snapshots: impl IntoIterator<Item = &'a Snapshot>) -> Result<(), PullError> {
        let line = line::print(snapshots);
        let path = self.path();
        let failed = |error| PullError::Write {
            path: path.clone(),
            error,
        };
        make_run_dir(&self.site, DIRECTORY)?;
        let _lock = FileLock::acquire(&path.with_extension("lock"), Mode::Exclusive, LOCK_TIMEOUT, &mut |_| ())?;
        // Only who holds the lock writes, so what one that was killed left behind is the next one's.
        let temporary = path.with_extension("tmp");
        self.replace(&path, &temporary, &line)
            .inspect_err(|_| {
                // The failure that counts is the one at hand.
                let _ = fs::remove_file(&temporary);
            })
            .map_err(failed)
    }

    fn replace(&self, path: &Path, temporary: &Path, line: &str) -> io::Result<()> {
        let mut new = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(temporary)?;
        new.write_all(line.as_bytes())?;
        new.write_all(b"\n")?;
        match File::open(path) {
            Ok(old) => copy_lines(old, &mut new, MAX_BYTES.saturating_sub(line.len() as u64))?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.give_away(temporary)?;
        new.set_permissions(Permissions::from_mode(0o640))?;
        fs::rename(temporary, path)
    }

    /// To root and the group of the web side, where this process may.
    fn give_away(&self, path: &Path) -> io::Result<()> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(());
        }
        chown(path, Some(self.site.root_user.uid), Some(self.site.web_user.gid))
    }

    /// The newest cycles, newest first; those whose line makes no sense are left out. Nothing if nothing was remembered
    /// yet.
    ///
    /// # Errors
    /// [`PullError::Read`].
    pub fn read(&self, newest: usize) -> Result<Vec<Value>, PullError> {
        let mut cycles = Vec::new();
        self.each(newest, |cycle| cycles.push(cycle))?;
        Ok(cycles)
    }

    /// As [`Cache::read`], for whoever needs only one cycle at a time: all of them can be hundreds of megabytes.
    ///
    /// # Errors
    /// [`PullError::Read`].
    pub fn each(&self, newest: usize, mut take: impl FnMut(Value)) -> Result<(), PullError> {
        let path = self.path();
        let failed = |error| PullError::Read {
            path: path.clone(),
            error,
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let mut lines = BufReader::new(file.take(MAX_BYTES));
        let mut line = Vec::new();
        for _ in 0..newest.min(OLD + 1) {
            line.clear();
            if lines.read_until(b'\n', &mut line).map_err(failed)? == 0 {
                break;
            }
            if let Ok(cycle) = serde_json::from_slice(&line) {
                take(cycle);
            }
        }
        Ok(())
    }
}

/// Copies as many of the first lines as are kept, whole ones only.
fn copy_lines(mut old: File, new: &mut File, room: u64) -> io::Result<()> {
    let mut lines = BufReader::with_capacity(1 << 16, &mut old);
    let mut length = 0;
    for _ in 0..OLD {
        let line = lines.skip_until(b'\n')? as u64;
        if line == 0 || length + line > room {
            break;
        }
        length += line;
    }
    old.rewind()?;
    io::copy(&mut old.take(length), new).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Objects;
    use serde_json::json;
    use std::collections::BTreeMap;
    use std::os::unix::fs::MetadataExt as _;

    fn cache() -> (tempfile::TempDir, Cache) {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(&pve_testing::context(root.path(), "n1"));
        (root, cache)
    }

    fn vms(time: i64, row: Value) -> Snapshot {
        let row = row.as_object().unwrap().clone();
        Snapshot {
            time,
            objects: Objects::Qemu(BTreeMap::from([(100.try_into().unwrap(), row)])),
        }
    }

    #[test]
    fn half_an_hour_is_remembered_newest_first() {
        let (root, cache) = cache();
        assert!(cache.read(9).unwrap().is_empty(), "nobody wrote yet");
        for time in 1..=190 {
            cache.add(&[vms(time, json!({"uptime": time}))]).unwrap();
        }
        let times = |newest| {
            let cycles = cache.read(newest).unwrap();
            let times = cycles.iter().map(|cycle| cycle["qemu"]["timestamp"].as_i64().unwrap());
            times.collect::<Vec<_>>()
        };
        assert_eq!(times(2), [190, 189]);
        assert_eq!(times(usize::MAX), (10..=190).rev().collect::<Vec<_>>());
        let file = root.path().join("run/pve/metrics");
        let meta = fs::metadata(&file).unwrap();
        assert_eq!(meta.mode() & 0o777, 0o640);
        assert_eq!(fs::metadata(root.path().join("run/pve")).unwrap().mode() & 0o777, 0o750);
        let site = pve_testing::site(root.path(), "n1");
        assert_eq!((meta.uid(), meta.gid()), (site.root_user.uid, site.web_user.gid));
        let names = fs::read_dir(root.path().join("run/pve")).unwrap();
        assert_eq!(names.count(), 2, "the file and its lock");
    }

    #[test]
    fn only_what_is_ever_told_is_kept() {
        let (_root, cache) = cache();
        let row = json!({"uptime": 1, "status": "running", "name": "web", "blockstat": {"scsi0": {"rd_bytes": 1}}});
        let node = json!({"uptime": 5, "cpustat": {"cpu": 0.5, "user": 7}, "nics": {
            "eno1": {"receive": 1, "transmit": 2, "type": "physical"},
            "tap100i0": {"receive": 3, "transmit": 4, "type": "virtual"}}});
        let node = Snapshot {
            time: 6,
            objects: Objects::Node(node.as_object().unwrap().clone()),
        };
        cache.add(&[node, vms(7, row)]).unwrap();
        assert_eq!(
            cache.read(1).unwrap(),
            [json!({
                "node": {"timestamp": 6, "data": {"uptime": 5, "cpustat": {"cpu": 0.5},
                    "nics": {"eno1": {"receive": 1, "transmit": 2, "type": "physical"}}}},
                "qemu": {"timestamp": 7, "data": {"100": {"uptime": 1, "status": "running"}}},
            })]
        );
    }

    #[test]
    fn what_one_that_was_killed_left_behind_is_put_right() {
        let (root, cache) = cache();
        let directory = root.path().join("run/pve");
        fs::create_dir_all(&directory).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
        fs::write(directory.join("metrics.tmp"), "half a line of an earlier run").unwrap();
        cache.add(&[vms(1, json!({}))]).unwrap();
        assert_eq!(cache.read(9).unwrap().len(), 1);
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o750);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2, "the file and its lock");
    }

    #[test]
    fn lines_that_make_no_sense_are_passed_by() {
        let (root, cache) = cache();
        cache.add(&[vms(1, json!({}))]).unwrap();
        let file = root.path().join("run/pve/metrics");
        let good = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{{\n\u{7f}\n{good}[1")).unwrap();
        let cycles = cache.read(9).unwrap();
        assert_eq!(cycles.len(), 1);
        cache.add(&[vms(2, json!({}))]).unwrap();
        assert_eq!(cache.read(9).unwrap().len(), 2);
    }

    #[test]
    fn one_that_holds_the_lock_is_waited_for_and_not_longer_than_two_seconds() {
        let (root, cache) = cache();
        let lock = root.path().join("run/pve/metrics.lock");
        let (held, is_held) = std::sync::mpsc::channel();
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let holder = std::thread::spawn(move || {
            let _lock = FileLock::exclusive(&lock, LOCK_TIMEOUT).unwrap();
            held.send(()).unwrap();
            let _ = wait.recv();
        });
        is_held.recv().unwrap();
        let error = cache.add(&[vms(1, json!({}))]).unwrap_err();
        assert!(matches!(error, PullError::Lock(_)), "{error}");
        drop(release);
        holder.join().unwrap();
        cache.add(&[vms(1, json!({}))]).unwrap();
    }
}
