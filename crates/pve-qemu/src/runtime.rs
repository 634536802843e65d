//! The runtime files of a VM under `/run/qemu-server` (reference 06a §1).
//!
//! Only names and markers are here: who writes the sockets is QEMU, told so by `command`.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pve_schema::Site;
use pve_schema::ids::VmId;

/// Root may all, the web side may list and pass: the sockets themselves stay root's.
const DIRECTORY_MODE: u32 = 0o750;

/// The directory of all runtime files.
pub fn directory(site: &Site) -> PathBuf {
    site.path("/run/qemu-server")
}

/// Where the event daemon listens; every VM connects its second monitor to it.
pub fn event_socket(site: &Site) -> PathBuf {
    site.path("/run/qmeventd.sock")
}

/// Makes the runtime directory, 0750 and with the web side's group, unless it is there.
///
/// # Errors
/// What the file system says.
pub fn create_directory(site: &Site) -> io::Result<()> {
    let directory = directory(site);
    if directory.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(&directory)?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(DIRECTORY_MODE))?;
    std::os::unix::fs::chown(&directory, Some(site.root_user.uid), Some(site.web_user.gid))
}

/// Removes a file or a directory with everything in it, as far as that can be done; it may be gone already.
pub fn remove(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("unable to remove '{}' - {error}", path.display());
    }
}

/// The runtime files of one VM.
#[derive(Debug, Clone, Copy)]
pub struct Runtime<'a> {
    site: &'a Site,
    vmid: VmId,
}

impl<'a> Runtime<'a> {
    /// The files of a VM.
    pub fn new(site: &'a Site, vmid: VmId) -> Self {
        Self { site, vmid }
    }

    fn file(&self, suffix: &str) -> PathBuf {
        directory(self.site).join(format!("{}.{suffix}", self.vmid))
    }

    /// QEMU's pid file.
    pub fn pid_file(&self) -> PathBuf {
        self.file("pid")
    }

    /// The monitor socket; one client at a time.
    pub fn monitor(&self) -> PathBuf {
        self.file("qmp")
    }

    /// The guest agent's socket.
    pub fn agent(&self) -> PathBuf {
        self.file("qga")
    }

    /// The socket of a serial line.
    pub fn serial(&self, number: u8) -> PathBuf {
        self.file(&format!("serial{number}"))
    }

    /// The VNC socket.
    pub fn vnc(&self) -> PathBuf {
        self.file("vnc")
    }

    /// Marks the VM to be started again after its next stop.
    pub fn reboot_marker(&self) -> PathBuf {
        self.file("reboot")
    }

    /// Says that a stop-cleanup is due; holds the time of the start.
    pub fn cleanup_marker(&self) -> PathBuf {
        self.file("cleanup")
    }

    /// Says that a backup holds the VM, which process that is, and what it owes the guest.
    pub fn backup_marker(&self) -> PathBuf {
        self.file("backup")
    }

    /// Holds the `+pveN` of the machine type that the VM was started with: stock QEMU cannot tell.
    fn revision_file(&self) -> PathBuf {
        self.file("machine")
    }

    /// The `+pveN` that the VM was started with; empty for none.
    pub fn machine_revision(&self) -> String {
        let text = fs::read_to_string(self.revision_file()).unwrap_or_default();
        let text = text.trim();
        match text.strip_prefix("+pve").map(str::parse::<u32>) {
            Some(Ok(_)) => text.to_owned(),
            _ => String::new(),
        }
    }

    /// Remembers the `+pveN` of a start.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remember_revision(&self, revision: Option<u32>) -> io::Result<()> {
        let text = revision.map_or_else(String::new, |number| format!("+pve{number}"));
        fs::write(self.revision_file(), text)
    }

    /// Sets the reboot marker.
    ///
    /// # Errors
    /// What the file system says.
    pub fn request_restart(&self) -> io::Result<()> {
        fs::write(self.reboot_marker(), b"")
    }

    /// Takes the reboot marker away: whether it was there.
    pub fn take_restart_request(&self) -> bool {
        fs::remove_file(self.reboot_marker()).is_ok()
    }

    /// Says that a stop-cleanup is due from now on.
    ///
    /// # Errors
    /// What the file system says.
    pub fn set_cleanup_due(&self, now: i64) -> io::Result<()> {
        fs::write(self.cleanup_marker(), now.to_string())
    }

    /// Whether a stop-cleanup is due.
    pub fn is_cleanup_due(&self) -> bool {
        self.cleanup_marker().exists()
    }

    /// The stop-cleanup is done.
    pub fn clear_cleanup_due(&self) {
        remove_quietly(&self.cleanup_marker());
    }

    /// Removes everything that a destroyed VM could have left.
    pub fn remove_all(&self) {
        self.remove_sockets();
        for file in [self.cleanup_marker(), self.reboot_marker(), self.backup_marker()] {
            remove_quietly(&file);
        }
    }

    /// Removes the sockets and the pid file of a VM that is gone.
    pub fn remove_sockets(&self) {
        for suffix in ["mon", "qmp", "pid", "vnc", "qga", "machine"] {
            remove_quietly(&self.file(suffix));
        }
    }
}

/// Removes a file that may be gone already.
fn remove_quietly(path: &std::path::Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("unable to remove '{}' - {error}", path.display());
    }
}
