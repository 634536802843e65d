//! Taking a user's file into a storage (reference 08 §8.2).
//!
//! ```text
//! /var/tmp/pveupload-X ─ open (no links), checksum ─▶ DIR/.NAME.tmp.PID ─ content check, fsync ─▶ DIR/NAME
//!                         rename, or copy from another file system ┘        rename, fsync of DIR ┘
//! ```
//!
//! `send` does the same with a storage of another node. Nothing half-done is ever under the final name, and whatever
//! happens the upload is gone afterwards: by then it has been taken over or it is removed. All of it goes by the open
//! file, since others may write to `/var/tmp`.

mod checksum;
mod content;
mod send;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use pve_task::{TaskError, Worker};

pub use checksum::{Algorithm, Checksum};
pub(crate) use send::{Destination, send};

use crate::dir::sync_directory_of;
use crate::error::StorageError;
use crate::kind::Content;

/// Bytes that are copied before the task looks whether it is to stop.
const CHUNK: usize = 1 << 20;
/// Media and templates are for everybody to read.
const FILE_MODE: u32 = 0o644;

/// Why a user's file may not be stored.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is no file of its own.
    #[error("'{0}' is not a regular file")]
    NoFile(String),
    /// It is not what the user said.
    #[error("checksum mismatch: got '{got}' != expect '{expected}'")]
    Checksum {
        /// Its checksum.
        got: String,
        /// What the user said.
        expected: String,
    },
    /// It does not get to another node.
    #[error("transfer to the other node failed: {0}")]
    Send(String),
    /// An OVA archive that describes no guest.
    #[error("ova archive has no .ovf file inside")]
    NoOvf,
}

/// An upload that is removed when this goes, unless it was taken over.
#[derive(Debug)]
pub(crate) struct Upload {
    path: PathBuf,
    file: File,
}

impl Upload {
    /// Opens an upload; one that cannot be taken is removed.
    pub(crate) fn open(path: &Path) -> Result<Self, StorageError> {
        let opened = open_regular(path);
        if opened.is_err() {
            remove_if_there(path);
        }
        Ok(Self {
            path: path.to_owned(),
            file: opened?,
        })
    }

    fn size(&self) -> Result<u64, StorageError> {
        let meta = self.file.metadata().map_err(StorageError::io("read", &self.path))?;
        Ok(meta.len())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        remove_if_there(&self.path);
    }
}

fn open_regular(path: &Path) -> Result<File, StorageError> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let file = opened.map_err(StorageError::io("open", path))?;
    let meta = file.metadata().map_err(StorageError::io("read", path))?;
    if meta.is_file() {
        Ok(file)
    } else {
        Err(ImportError::NoFile(path.display().to_string()).into())
    }
}

pub(crate) fn remove_if_there(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::warn!("unable to remove '{}' - {error}", path.display());
        }
        _ => {}
    }
}

/// Takes an upload into its place, with the log that users know.
pub(crate) fn import(
    worker: &mut Worker,
    upload: &mut Upload,
    content: Content,
    target: &Path,
    checksum: Option<&Checksum>,
) -> Result<(), TaskError> {
    let source = upload.path.display().to_string();
    worker.log(format!("starting file import from: {source}"));
    check_sum(worker, upload, checksum)?;
    worker.log(format!("target node: {}", worker.context.site.node));
    worker.log(format!("target file: {}", target.display()));
    worker.log(format!("file size is: {}", human(upload.size()?)));
    worker.log(format!("command: cp -- {source} {}", target.display()));
    let staged = Staged::take(worker, upload, target)?;
    content::check(&staged.path, target, content)?;
    fail::fail_point!("storage::import::checked", |_| Err(TaskError::new("fail point")));
    staged.finish(target)?;
    worker.log("finished file import successfully");
    Ok(())
}

/// Compares an upload with what its user said of it, if anything.
fn check_sum(worker: &mut Worker, upload: &mut Upload, checksum: Option<&Checksum>) -> Result<(), TaskError> {
    let Some(checksum) = checksum else { return Ok(()) };
    worker.print("calculating checksum...");
    let verified = checksum::verify(&mut upload.file, checksum, worker);
    worker.print(if verified.is_ok() {
        "OK, checksum verified\n"
    } else {
        "\n"
    });
    verified
}

/// A complete file in its directory, under a name that nobody lists; removed unless it is put in its place.
struct Staged {
    path: PathBuf,
    file: File,
}

impl Drop for Staged {
    fn drop(&mut self) {
        remove_if_there(&self.path);
    }
}

impl Staged {
    fn take(worker: &Worker, upload: &mut Upload, target: &Path) -> Result<Self, TaskError> {
        let path = staging_path(target);
        // Left by a process of our number that was killed.
        remove_if_there(&path);
        if let Some(staged) = Self::renamed(upload, &path)? {
            return Ok(staged);
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(FILE_MODE);
        let file = options.open(&path).map_err(StorageError::io("create", &path))?;
        let mut staged = Self { path, file };
        staged.fill(worker, upload)?;
        Ok(staged)
    }

    /// On one file system the upload becomes the file itself; `None` elsewhere.
    fn renamed(upload: &Upload, path: &Path) -> Result<Option<Self>, StorageError> {
        match fs::rename(&upload.path, path) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => return Ok(None),
            renamed => renamed.map_err(StorageError::io("rename", &upload.path))?,
        }
        let staged = Self {
            path: path.to_owned(),
            file: upload.file.try_clone().map_err(StorageError::io("open", path))?,
        };
        let there = fs::symlink_metadata(path).map_err(StorageError::io("read", path))?;
        let ours = staged.file.metadata().map_err(StorageError::io("read", path))?;
        // Somebody exchanged the upload after it was checked.
        if (there.dev(), there.ino()) != (ours.dev(), ours.ino()) {
            return Err(ImportError::NoFile(upload.path.display().to_string()).into());
        }
        // Without root's rights it stays the caller's, who is the same user then.
        let _ = std::os::unix::fs::fchown(
            &staged.file,
            Some(nix::unistd::geteuid().as_raw()),
            Some(nix::unistd::getegid().as_raw()),
        );
        Ok(Some(staged))
    }

    fn fill(&mut self, worker: &Worker, upload: &mut Upload) -> Result<(), TaskError> {
        upload.file.rewind().map_err(StorageError::io("read", &upload.path))?;
        let mut buffer = vec![0; CHUNK];
        loop {
            worker.check_interrupt()?;
            let length = upload
                .file
                .read(&mut buffer)
                .map_err(StorageError::io("read", &upload.path))?;
            let Some(chunk) = buffer.get(..length).filter(|chunk| !chunk.is_empty()) else {
                return Ok(());
            };
            self.file
                .write_all(chunk)
                .map_err(StorageError::io("write", &self.path))?;
            fail::fail_point!("storage::import::copying", |_| Err(TaskError::new("fail point")));
        }
    }

    /// Puts the file in its place, over whatever is there.
    fn finish(self, target: &Path) -> Result<(), StorageError> {
        let mode = Permissions::from_mode(FILE_MODE);
        let dressed = self.file.set_permissions(mode).and_then(|()| self.file.sync_all());
        dressed.map_err(StorageError::io("write", &self.path))?;
        fs::rename(&self.path, target).map_err(StorageError::io("create", target))?;
        sync_directory_of(target)
    }
}

/// Beside the target, hidden, with an extension that no content has.
fn staging_path(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.tmp.{}", std::process::id()))
}

/// Bytes for people: `1.37 GiB`.
fn human(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    // Figures for people: two digits are all that is shown.
    #[allow(clippy::cast_precision_loss)]
    let mut value = bytes as f64;
    let mut shown = "B";
    for unit in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        shown = unit;
    }
    if shown == "B" {
        format!("{bytes} B")
    } else {
        format!("{value:.2} {shown}")
    }
}
