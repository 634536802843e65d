//! The directories outside of `/etc/pve` that the daemons need, with modes and owners (reference 01 §1.1, §1.10): what
//! packages and tmpfiles make on a system. The tree of `/etc/pve` is [`pve_cfs::Cfs::ensure_tree`]'s.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use pve_schema::site::Ids;
use pve_schema::{Failure, Site, errno_text};

/// A directory that must be there.
#[derive(Debug, Clone, Copy)]
pub struct Directory {
    /// Where it is, below the site's root.
    pub path: &'static str,
    /// Its mode.
    pub mode: u32,
    /// Whose it is.
    pub owner: Owner,
    /// What becomes of one that is there.
    pub existing: Existing,
}

/// Whose a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// root:root.
    Root,
    /// root:www-data.
    RootWeb,
    /// www-data:www-data.
    Web,
}

/// What becomes of a directory that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It gets its mode and owner: only the daemons use it.
    SetRight,
    /// It stays as it is: an administrator may have put a disk there, or let others read it.
    Keep,
}

impl Directory {
    /// One that only the daemons use.
    pub const fn ours(path: &'static str, mode: u32, owner: Owner) -> Self {
        Self {
            path,
            mode,
            owner,
            existing: Existing::SetRight,
        }
    }

    /// One for images, templates and backups.
    const fn storage(path: &'static str) -> Self {
        Self {
            path,
            mode: 0o755,
            owner: Owner::Root,
            existing: Existing::Keep,
        }
    }

    /// One for logs: who reads them is the administrator's choice.
    const fn logs(path: &'static str, mode: u32, owner: Owner) -> Self {
        Self {
            path,
            mode,
            owner,
            existing: Existing::Keep,
        }
    }

    /// Gives it its owner and mode, unless it has them: where nothing may be written, that must do.
    fn set_right(&self, path: &Path, ids: Ids) -> Result<(), DirectoryError> {
        let is = fs::metadata(path).map_err(failed("look at", path))?;
        if (is.uid(), is.gid()) != (ids.uid, ids.gid) {
            chown(path, Some(ids.uid), Some(ids.gid)).map_err(failed("give away", path))?;
        }
        // A change of owner may take bits of the mode away, so it is looked at again.
        let is = fs::metadata(path).map_err(failed("look at", path))?;
        if is.mode() & 0o7777 != self.mode {
            let permissions = Permissions::from_mode(self.mode);
            fs::set_permissions(path, permissions).map_err(failed("set the mode of", path))?;
        }
        Ok(())
    }
}

/// The directories of the suite, parents first.
pub const OF_SUITE: [Directory; 15] = [
    Directory::ours("/run/pve", 0o750, Owner::RootWeb),
    Directory::ours("/run/pveproxy", 0o700, Owner::Web),
    Directory::ours("/run/qemu-server", 0o755, Owner::Root),
    Directory::ours("/var/lib/pve-cluster", 0o755, Owner::Root),
    Directory::ours("/var/lib/pve-manager", 0o755, Owner::Root),
    Directory::storage("/var/lib/vz"),
    Directory::storage("/var/lib/vz/dump"),
    Directory::storage("/var/lib/vz/images"),
    Directory::storage("/var/lib/vz/snippets"),
    Directory::storage("/var/lib/vz/template"),
    Directory::storage("/var/lib/vz/template/cache"),
    Directory::storage("/var/lib/vz/template/iso"),
    Directory::logs("/var/log/pve", 0o755, Owner::Root),
    Directory::logs("/var/log/pve/tasks", 0o755, Owner::Root),
    Directory::logs("/var/log/pveproxy", 0o700, Owner::Web),
];

/// A directory could not be made as it must be.
#[derive(Debug, thiserror::Error)]
#[error("unable to {what} '{}' - {}", .path.display(), errno_text(.error))]
pub struct DirectoryError {
    what: &'static str,
    path: PathBuf,
    error: io::Error,
}

impl Failure for DirectoryError {}

/// Makes directories that are missing; which these were. The caller's umask must let their modes be: parents that are not
/// listed get what it leaves.
///
/// # Errors
/// [`DirectoryError`]; what was made until then stays.
pub fn make(site: &Site, directories: &[Directory]) -> Result<Vec<PathBuf>, DirectoryError> {
    let mut made = Vec::new();
    for directory in directories {
        let path = site.path(directory.path);
        let is_new = !path.is_dir();
        if is_new {
            fs::create_dir_all(&path).map_err(failed("create directory", &path))?;
        }
        if is_new || directory.existing == Existing::SetRight {
            directory.set_right(&path, directory.owner.ids(site))?;
        }
        if is_new {
            made.push(path);
        }
    }
    Ok(made)
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |error| DirectoryError { what, path, error }
}

impl Owner {
    fn ids(self, site: &Site) -> Ids {
        match self {
            Self::Root => site.root_user,
            Self::RootWeb => Ids {
                uid: site.root_user.uid,
                gid: site.web_user.gid,
            },
            Self::Web => site.web_user,
        }
    }
}
