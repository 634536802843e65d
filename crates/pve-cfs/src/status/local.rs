//! The status store of one node: a file per key below `/run/pve-cluster/status`, 0640 root:www-data in a directory
//! 0750, each replaced as a whole. No daemon holds any of it, so the end of one loses nothing; a reboot loses all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{geteuid, gettid};
use pve_schema::{Site, errno_text, text};

use super::Told;
use crate::error::{CfsError, shown};
use crate::path::is_temporary;
use crate::run_dir::make_run_dir;

/// Longest file name that file systems take.
const MAX_NAME: usize = 200;
/// Where the files are.
const DIRECTORY: &str = "/run/pve-cluster/status";

/// The store of one site.
#[derive(Debug, Clone)]
pub(super) struct LocalStore {
    pub(super) site: Site,
}

impl LocalStore {
    /// Where the files are. Each is set by a rename and unset by a removal, so the directory's own stamp tells of changes.
    pub(super) fn dir(&self) -> PathBuf {
        self.site.path(DIRECTORY)
    }

    fn file(&self, key: &str) -> Result<PathBuf, CfsError> {
        let name = encode(key);
        if name.is_empty() || name.len() > MAX_NAME || is_temporary(&name) {
            return Err(CfsError::StatusKey(key.to_owned()));
        }
        Ok(self.dir().join(name))
    }

    pub(super) fn set(&self, key: &str, value: &[u8]) -> Result<(), CfsError> {
        let path = self.file(key)?;
        make_run_dir(&self.site, DIRECTORY)?;
        replace(&self.site, &path, value)
    }

    pub(super) fn unset(&self, key: &str) -> Result<(), CfsError> {
        let path = self.file(key)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(CfsError::Remove {
                path: shown(&path),
                reason: errno_text(&error),
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, CfsError> {
        Ok(read(&self.file(key)?)?.map(|(value, _)| value))
    }

    pub(super) fn list(&self, prefix: &str) -> Result<Vec<Told>, CfsError> {
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
