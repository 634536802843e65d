//! Values made from files, made again only when the file changed.
//!
//! A value is kept per process, keyed by path and stamp: every use looks at the file, so a change counts at once. A file
//! that was changed a moment ago is not kept: a second change in the same tick of the file system's clock could look the
//! same.

use std::any::Any;
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{Cfs, CfsError, Stamp};

/// Most values that are kept of the few files that requests look at.
const MAX_FILES: usize = 64;
/// Most guests of whose configs something is kept: some 300 bytes each.
const MAX_GUESTS: usize = 10_000;
/// The kernel's clock for files goes on at least a hundred times a second; this is some ticks of it.
const TICKS: Duration = Duration::from_millis(50);

pub(crate) static FILES: Kept = Kept::new(MAX_FILES);
pub(crate) static GUESTS: Kept = Kept::new(MAX_GUESTS);

type Value = Arc<dyn Any + Send + Sync>;

/// Values by path and kind. When there are too many, all are dropped and made anew.
pub(crate) struct Kept {
    limit: usize,
    values: LazyLock<Mutex<Values>>,
}

/// The path as bytes, not as components, which are slow to hash; and what tells apart what is made of one file.
type Key = (OsString, &'static str);

type Values = HashMap<Key, (Option<Stamp>, Value)>;

impl Kept {
    const fn new(limit: usize) -> Self {
        Self {
            limit,
            values: LazyLock::new(Mutex::default),
        }
    }

    /// What `make` makes of what is at a path, or has made since it last changed. `make` is not told the content but has
    /// to look by itself, which it does after the stamp was taken.
    ///
    /// # Errors
    /// Those of `make`; [`CfsError::Open`].
    pub(crate) fn get<T, F>(&self, path: PathBuf, kind: &'static str, make: F) -> Result<Arc<T>, CfsError>
    where
        T: Any + Send + Sync,
        F: FnOnce(Option<Stamp>) -> Result<T, CfsError>,
    {
        let stamp = Cfs::stamp_at(&path)?;
        let key = (path.into_os_string(), kind);
        let kept = self.values().get(&key).cloned();
        if let Some((kept_stamp, value)) = kept
            && kept_stamp == stamp
            && let Ok(value) = value.downcast::<T>()
        {
            return Ok(value);
        }
        // Asked before the content is read: what changes from now on gets a later time.
        let is_settled = stamp.is_none_or(is_settled);
        let value = Arc::new(make(stamp)?);
        // Only what surely belongs to this stamp is kept.
        if is_settled && Cfs::stamp_at(key.0.as_ref())? == stamp {
            let mut values = self.values();
            if values.len() >= self.limit {
                values.clear();
            }
            let value: Value = value.clone();
            values.insert(key, (stamp, value));
        }
        Ok(value)
    }

    fn values(&self) -> MutexGuard<'_, Values> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cfs {
    /// What `make` makes of a file's content (`None` for no file), from memory if the file is as it was.
    ///
    /// `kind` tells apart what different callers make of one file.
    ///
    /// # Errors
    /// As [`Cfs::read`].
    pub fn cached<T, F>(&self, rel: &str, kind: &'static str, make: F) -> Result<Arc<T>, CfsError>
    where
        T: Any + Send + Sync,
        F: FnOnce(Option<&[u8]>, Option<Stamp>) -> T,
    {
        FILES.get(self.full_path(rel)?, kind, |stamp| {
            Ok(make(self.read(rel)?.as_deref(), stamp))
        })
    }
}

/// Whether a file's last change lies so far back that the next one gets another time, by the machine's clock that also
/// stamped the file.
fn is_settled(stamp: Stamp) -> bool {
    let (seconds, nanoseconds) = stamp.changed();
    // Without a fraction the file system may well count whole seconds, as the cluster's does.
    let margin = if nanoseconds == 0 {
        Duration::from_secs(2)
    } else {
        TICKS
    };
    let changed = Duration::new(
        u64::try_from(seconds).unwrap_or(0),
        u32::try_from(nanoseconds).unwrap_or(0),
    );
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .is_ok_and(|now| now >= changed.saturating_add(margin))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, FileTimes};
    use std::time::SystemTime;

    use super::*;

    /// A site with one file that was last changed long ago, by all that the clock of its inode tells.
    struct Place {
        _dir: tempfile::TempDir,
        cfs: Cfs,
        path: PathBuf,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let cfs = Cfs::new(&pve_testing::context(dir.path(), "node1"));
            let path = cfs.full_path("x.cfg").unwrap();
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            Self { _dir: dir, cfs, path }
        }

        fn content(&self) -> String {
            let make = |bytes: Option<&[u8]>, _: Option<Stamp>| String::from_utf8(bytes.unwrap_or_default().to_vec());
            self.cfs
                .cached("x.cfg", "text", make)
                .unwrap()
                .as_ref()
                .clone()
                .unwrap()
        }
    }

    #[test]
    fn every_change_of_a_file_counts_at_once() {
        let place = Place::new();
        assert_eq!(place.content(), "");
        for round in 0..50 {
            // The same size, quickly one after the other, and now and then with an old time of change.
            let text = format!("{round:02}");
            fs::write(&place.path, &text).unwrap();
            if round % 3 == 0 {
                let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
                File::options()
                    .write(true)
                    .open(&place.path)
                    .unwrap()
                    .set_times(times)
                    .unwrap();
            }
            assert_eq!(place.content(), text);
            assert_eq!(place.content(), text, "from memory, if it is kept at all");
        }
        fs::remove_file(&place.path).unwrap();
        assert_eq!(place.content(), "");
    }
}
