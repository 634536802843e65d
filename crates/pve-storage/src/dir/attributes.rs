//! Notes and protection: what a backup has beside its archive (reference 08 §5.1).
//!
//! They are files next to the archive, `<archive>.notes` and `<archive>.protected`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::sync_directory_of;
use crate::error::StorageError;

/// Most bytes of notes that are read: more is no note.
const MAX_NOTES: u64 = 1 << 20;

fn beside(archive: &Path, extension: &str) -> PathBuf {
    let mut name = archive.as_os_str().to_owned();
    name.push(extension);
    PathBuf::from(name)
}

/// A backup's notes; empty without any.
pub(crate) fn notes(archive: &Path) -> Result<String, StorageError> {
    let path = beside(archive, ".notes");
    let failed = StorageError::io("read", &path);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened.map_err(&failed)?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_NOTES).read_to_end(&mut bytes).map_err(&failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Replaces a backup's notes; empty ones go.
pub(crate) fn set_notes(archive: &Path, notes: &str) -> Result<(), StorageError> {
    let path = beside(archive, ".notes");
    if notes.is_empty() {
        return remove(&path);
    }
    let temporary = beside(archive, &format!(".notes.tmp.{}", std::process::id()));
    let written = write(&temporary, notes.as_bytes()).and_then(|()| fs::rename(&temporary, &path));
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(StorageError::io("write", &path)(error));
    }
    sync_directory_of(&path)
}

/// Whether a backup is protected.
pub(crate) fn is_protected(archive: &Path) -> bool {
    beside(archive, ".protected").exists()
}

/// Protects a backup, or gives it free.
pub(crate) fn set_protected(archive: &Path, protected: bool) -> Result<(), StorageError> {
    let path = beside(archive, ".protected");
    if !protected {
        return remove(&path);
    }
    write(&path, b"").map_err(StorageError::io("create", &path))?;
    sync_directory_of(&path)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o644).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn remove(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StorageError::io("remove", path)(error)),
        Ok(()) => sync_directory_of(path),
    }
}
