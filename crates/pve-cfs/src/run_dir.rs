//! The directories below `/run` that the daemons of a node share: 0750 root:www-data.
//!
//! Whoever needs one makes it, and gives it its owner and mode if those are others: a daemon that was killed right after
//! it made one would otherwise leave a directory into which the web side cannot look.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use pve_schema::{Site, errno_text};

use crate::error::{CfsError, shown};

/// What the group, the web side, may do with them: look.
const MODE: u32 = 0o750;

/// Makes a directory below `/run`, `/run/pve` say, and those above it, and gives each its owner and mode. Returns where
/// it is. A few looks where nothing has to be done.
///
/// # Errors
/// [`CfsError::MakeDir`].
pub fn make_run_dir(site: &Site, directory: &str) -> Result<PathBuf, CfsError> {
    let whole = site.path(directory);
    let failed = |path: &Path, error: &io::Error| CfsError::MakeDir {
        path: shown(path),
        reason: errno_text(error),
    };
    let mut path = site.path("/run");
    if !path.is_dir() {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(&path);
        made.map_err(|error| failed(&path, &error))?;
    }
    let below = whole.strip_prefix(&path).map(Path::to_owned);
    let below = below.map_err(|_| failed(&whole, &ErrorKind::InvalidInput.into()))?;
    for name in &below {
        path.push(name);
        make(site, &path).map_err(|error| failed(&path, &error))?;
    }
    Ok(whole)
}

fn make(site: &Site, path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if is_as_it_should_be(site, &meta) => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => match DirBuilder::new().mode(MODE).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        },
        Err(error) => return Err(error),
    }
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let directory = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    mend(site, &directory)
}

fn is_as_it_should_be(site: &Site, meta: &fs::Metadata) -> bool {
    // Only root can give things away; elsewhere whoever made it keeps it.
    let is_owned = !geteuid().is_root() || (meta.uid(), meta.gid()) == (site.root_user.uid, site.web_user.gid);
    meta.is_dir() && is_owned && meta.mode() & 0o7777 == MODE
}

fn mend(site: &Site, directory: &File) -> io::Result<()> {
    let meta = directory.metadata()?;
    if is_as_it_should_be(site, &meta) {
        return Ok(());
    }
    if geteuid().is_root() {
        fchown(directory, Some(site.root_user.uid), Some(site.web_user.gid))?;
    } else if meta.uid() != geteuid().as_raw() {
        // Somebody else's: what is to be done in it says whether that may be.
        return Ok(());
    }
    directory.set_permissions(Permissions::from_mode(MODE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_was_left_half_made_gets_its_owner_and_mode() {
        let root = tempfile::tempdir().unwrap();
        let mut site = Site::clone(&pve_testing::context(root.path(), "n1").site);
        if geteuid().is_root() {
            site.web_user.gid = 33;
        }
        let seen = |name: &str| {
            let meta = fs::metadata(root.path().join(name)).unwrap();
            (meta.gid(), meta.mode() & 0o7777)
        };
        fs::create_dir_all(root.path().join("run/pve-cluster")).unwrap();
        fs::set_permissions(root.path().join("run/pve-cluster"), Permissions::from_mode(0o700)).unwrap();
        let gid = if geteuid().is_root() { 33 } else { seen("run").0 };
        for _ in 0..2 {
            let made = make_run_dir(&site, "/run/pve-cluster/status").unwrap();
            assert_eq!(made, root.path().join("run/pve-cluster/status"));
            assert_eq!(seen("run/pve-cluster"), (gid, 0o750));
            assert_eq!(seen("run/pve-cluster/status"), (gid, 0o750));
        }
    }

    #[test]
    fn what_is_no_directory_stays_and_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let site = &pve_testing::context(root.path(), "n1").site;
        fs::create_dir_all(root.path().join("run")).unwrap();
        fs::write(root.path().join("run/pve"), "x").unwrap();
        std::os::unix::fs::symlink("/nonexistent", root.path().join("run/link")).unwrap();
        for name in ["/run/pve", "/run/link", "/etc/pve"] {
            let error = make_run_dir(site, name).unwrap_err();
            assert!(matches!(error, CfsError::MakeDir { .. }), "{error}");
        }
        assert_eq!(fs::read(root.path().join("run/pve")).unwrap(), b"x");
    }
}
