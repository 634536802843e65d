//! The status store: values that the daemons of a node tell each other (reference 04 §2, §3).
//!
//! A file per key below `/run/pve-cluster/status`, written by root's daemons, readable by the web side, lost at reboot.
//! Where a cluster file system is mounted this store still holds the node's own values only.

use std::any::Any;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{geteuid, gettid};
use pve_schema::{Context, Site, errno_text, text};

use crate::Cfs;
use crate::cached::FILES;
use crate::error::{CfsError, shown};
use crate::path::is_temporary;

/// First size that is too big (reference 04 §1.4).
const MAX_VALUE: usize = 32 * 1024;
/// Longest file name that file systems take.
const MAX_NAME: usize = 200;
/// The run directory that the daemons share.
pub(crate) const RUN_DIR: &str = "/run/pve-cluster";

/// The status store of one site.
#[derive(Debug, Clone)]
pub struct StatusStore {
    context: Context,
}

/// A value, and when it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// When it was set, Unix seconds of the machine's clock.
    pub at: i64,
}

impl Cfs {
    /// The status store of this node.
    pub fn status(&self) -> StatusStore {
        StatusStore {
            context: self.context.clone(),
        }
    }
}

impl StatusStore {
    fn dir(&self) -> PathBuf {
        self.context.site.path(RUN_DIR).join("status")
    }

    fn file(&self, key: &str) -> Result<PathBuf, CfsError> {
        let name = encode(key);
        if name.is_empty() || name.len() > MAX_NAME || is_temporary(&name) {
            return Err(CfsError::StatusKey(key.to_owned()));
        }
        Ok(self.dir().join(name))
    }

    /// Sets a value: `set("tasklist", json)`.
    ///
    /// # Errors
    /// [`CfsError::StatusTooBig`], [`CfsError::StatusKey`], [`CfsError::MakeDir`], [`CfsError::Write`].
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), CfsError> {
        if value.len() >= MAX_VALUE {
            return Err(CfsError::StatusTooBig(key.to_owned()));
        }
        let path = self.file(key)?;
        ensure_run_dir(&self.context.site, &self.dir())?;
        replace(&self.context.site, &path, value)
    }

    /// Forgets a value.
    ///
    /// # Errors
    /// [`CfsError::StatusKey`], [`CfsError::Remove`].
    pub fn unset(&self, key: &str) -> Result<(), CfsError> {
        let path = self.file(key)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(CfsError::Remove {
                path: shown(&path),
                reason: errno_text(&error),
            }),
            _ => Ok(()),
        }
    }

    /// A value, `None` if it was never told.
    ///
    /// # Errors
    /// [`CfsError::StatusKey`], [`CfsError::Read`].
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, CfsError> {
        Ok(read(&self.file(key)?)?.map(|(value, _)| value))
    }

    /// What `make` makes of all values whose key starts with `prefix`, from memory if no value was set since: each is
    /// set by a rename, so the directory's own stamp tells.
    ///
    /// # Errors
    /// As [`StatusStore::list`].
    pub fn cached<T: Any + Send + Sync>(
        &self,
        prefix: &'static str,
        make: impl FnOnce(Vec<Told>) -> T,
    ) -> Result<Arc<T>, CfsError> {
        FILES.get(self.dir(), prefix, |_| Ok(make(self.list(prefix)?)))
    }

    /// All values whose key starts with `prefix`, in order of the keys: `rrd/` for the figures.
    ///
    /// # Errors
    /// [`CfsError::Read`].
    pub fn list(&self, prefix: &str) -> Result<Vec<Told>, CfsError> {
        let dir = self.dir();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(read_error(&dir, &error)),
        };
        let mut told = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| read_error(&dir, &error))?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let key = text::decode(&name);
            if is_temporary(&name) || !key.starts_with(prefix) {
                continue;
            }
            if let Some((value, at)) = read(&entry.path())? {
                told.push(Told { key, value, at });
            }
        }
        told.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(told)
    }
}

/// Keys hold slashes, file names cannot; `%` keeps the two apart.
fn encode(key: &str) -> String {
    let key = key.replace('%', "%25").replace('/', "%2F").replace('\0', "%00");
    match key.strip_prefix('.') {
        Some(rest) => format!("%2E{rest}"),
        None => key,
    }
}

fn read(path: &Path) -> Result<Option<(Vec<u8>, i64)>, CfsError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(read_error(path, &error)),
    };
    let mut value = Vec::new();
    file.read_to_end(&mut value).map_err(|error| read_error(path, &error))?;
    let at = file.metadata().map_or(0, |meta| meta.mtime());
    Ok(Some((value, at)))
}

fn read_error(path: &Path, error: &io::Error) -> CfsError {
    CfsError::Read {
        path: shown(path),
        reason: errno_text(error),
    }
}

/// Makes the shared run directory and one below it: 0750 root:www-data.
pub(crate) fn ensure_run_dir(site: &Site, dir: &Path) -> Result<(), CfsError> {
    let failed = |error: io::Error| CfsError::MakeDir {
        path: shown(dir),
        reason: errno_text(&error),
    };
    if dir.is_dir() {
        return Ok(());
    }
    let run = site.path(RUN_DIR);
    if let Some(above) = run.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(above)
            .map_err(failed)?;
    }
    for path in [run.as_path(), dir] {
        match DirBuilder::new().mode(0o750).create(path) {
            Ok(()) if geteuid().is_root() => {
                chown(path, Some(site.root_user.uid), Some(site.web_user.gid)).map_err(failed)?;
            }
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Replaces a shared file of the run directory: 0640 root:www-data. Not synced, since a reboot empties `/run`.
pub(crate) fn replace(site: &Site, path: &Path, value: &[u8]) -> Result<(), CfsError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".tmp.{}", gettid()));
    let temporary = PathBuf::from(name);
    let result = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        if geteuid().is_root() {
            chown(&temporary, Some(site.root_user.uid), Some(site.web_user.gid))?;
        }
        file.write_all(value)?;
        file.set_permissions(Permissions::from_mode(0o640))?;
        fs::rename(&temporary, path)
    })();
    result.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        CfsError::Write {
            path: shown(path),
            reason: errno_text(&error),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_file_name() {
        for key in [
            "kv/static-info",
            "rrd/pve-storage-9.0/n/a%2Fb",
            "..",
            ".hidden",
            "a/../b",
        ] {
            let name = encode(key);
            assert!(!name.contains('/') && !name.starts_with('.'), "{name}");
            assert_eq!(text::decode(&name), key);
        }
    }
}
