//! The directories and links that must be below `/etc/pve` (reference 04 §1.1, §1.2, §3).

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;

use nix::unistd::{Gid, Uid, geteuid};

use pve_schema::errno_text;

use crate::Cfs;
use crate::error::{CfsError, shown};

/// Directories besides those of the node.
const SHARED: [&str; 12] = [
    "priv",
    "priv/acme",
    "priv/lock",
    "priv/storage",
    "priv/metricserver",
    "nodes",
    "firewall",
    "ha",
    "mapping",
    "sdn",
    "virtual-guest",
    "",
];
/// Directories of the node.
const OF_NODE: [&str; 5] = ["", "/lxc", "/qemu-server", "/openvz", "/priv"];
/// The links of the top level, and where they lead below the node's directory.
const LINKS: [(&str, &str); 4] = [
    ("local", ""),
    ("qemu-server", "/qemu-server"),
    ("lxc", "/lxc"),
    ("openvz", "/openvz"),
];

impl Cfs {
    /// Makes the directories, with modes and owners, and the links. What is there is set right; nothing is removed but
    /// a link that leads to another node's directory, after a change of the host name.
    ///
    /// On a mounted cluster file system the links are served, and only directories are made.
    ///
    /// # Errors
    /// [`CfsError::MakeDir`], [`CfsError::MakeLink`].
    pub fn ensure_tree(&self) -> Result<(), CfsError> {
        let root = self.site().etc_pve();
        fs::create_dir_all(root.parent().unwrap_or(&root)).map_err(|error| CfsError::MakeDir {
            path: shown(&root),
            reason: errno_text(&error),
        })?;
        // The root comes first, since the others are in it.
        for dir in SHARED.iter().rev() {
            self.make_dir(dir)?;
        }
        let node = format!("nodes/{}", self.site().node);
        for dir in OF_NODE {
            self.make_dir(&format!("{node}{dir}"))?;
        }
        if !self.is_mounted() {
            for (name, tail) in LINKS {
                self.ensure_link(name, &format!("{node}{tail}"))?;
            }
        }
        Ok(())
    }

    fn ensure_link(&self, name: &str, target: &str) -> Result<(), CfsError> {
        let path = self.site().etc_pve().join(name);
        let failed = |error: std::io::Error| CfsError::MakeLink {
            path: shown(&path),
            reason: errno_text(&error),
        };
        match fs::read_link(&path) {
            Ok(old) if old.as_os_str() == target => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // A directory or file of that name is somebody's data.
            Err(error) => return Err(failed(error)),
        }
        // A link cannot be replaced in one step but by renaming another over it.
        let temporary = self
            .site()
            .etc_pve()
            .join(format!("{name}.tmp.{}", nix::unistd::gettid()));
        let _ = fs::remove_file(&temporary);
        symlink(target, &temporary).map_err(failed)?;
        if geteuid().is_root() {
            let owner = Uid::from_raw(self.site().root_user.uid);
            let group = Gid::from_raw(self.site().web_user.gid);
            std::os::unix::fs::lchown(&temporary, Some(owner.as_raw()), Some(group.as_raw())).map_err(failed)?;
        }
        fs::rename(&temporary, &path).map_err(failed)
    }
}
