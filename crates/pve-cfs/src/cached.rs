//! Values made from files, made again only when the file changed.
//!
//! A value is kept per process, keyed by path and stamp: every use looks at the file, so a change counts at once. A file
//! that was changed within the last second is not kept: a second change in the same tick of the file system's clock could
//! look the same.

use std::any::Any;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{Cfs, CfsError, Stamp};

/// Most values that are kept; beyond, all are dropped and read anew.
const MAX_KEPT: usize = 64;

type Kept = HashMap<(PathBuf, &'static str), (Option<Stamp>, Arc<dyn Any + Send + Sync>)>;

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

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
        let key = (self.full_path(rel)?, kind);
        let stamp = Self::stamp_at(&key.0)?;
        let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some((kept_stamp, value)) = kept
            && kept_stamp == stamp
            && let Ok(value) = value.downcast::<T>()
        {
            return Ok(value);
        }
        let bytes = self.read(rel)?;
        let value = Arc::new(make(bytes.as_deref(), stamp));
        // Only what surely belongs to this stamp is kept.
        if Self::stamp_at(&key.0)? == stamp && stamp.is_none_or(is_settled) {
            let mut map = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
            if map.len() >= MAX_KEPT {
                map.clear();
            }
            let value: Arc<dyn Any + Send + Sync> = value.clone();
            map.insert(key, (stamp, value));
        }
        Ok(value)
    }
}

/// Whether a file's last change lies at least a second back, by the machine's clock that also stamped the file.
fn is_settled(stamp: Stamp) -> bool {
    let changed = Duration::from_secs(u64::try_from(stamp.changed()).unwrap_or(0).saturating_add(2));
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .is_ok_and(|now| now >= changed)
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
