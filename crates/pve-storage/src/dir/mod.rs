//! Storages of type `dir`: files below a directory of this node (reference 08 §5.1).
//!
//! | module | holds |
//! |---|---|
//! | here | activation and fill level |
//! | [`image`] | disks: make, remove, resize, snapshots |
//! | [`listing`] | what is there |
//! | [`attributes`] | notes and protection of backups |
//!
//! Locks, permissions and the choice of the type are [`crate::Storages`]' affair.

pub(crate) mod attributes;
pub(crate) mod image;
pub(crate) mod listing;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use pve_schema::errno_text;

use crate::config::StorageConfig;
use crate::error::StorageError;
use crate::kind::Content;
use crate::within::{DIRECTORY_DEADLINE, within};

/// How full a storage is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// All there is.
    pub total: u64,
    /// What users other than root may still take.
    pub available: u64,
    /// What is taken.
    pub used: u64,
    /// Whether it can be used at all; the figures are zero if not.
    pub active: bool,
}

/// Makes a storage usable: its directories are there afterwards.
///
/// # Errors
/// A mount point is not mounted, the base directory is not there or does not answer, a directory cannot be made.
pub(crate) fn activate(config: &StorageConfig) -> Result<(), StorageError> {
    let base = base_path(config)?;
    if let Some(path) = config.mount_point().filter(|path| !is_mounted(path)) {
        return Err(StorageError::NotMounted {
            storage: config.id.clone(),
            path,
        });
    }
    let (path, create) = (base.to_owned(), config.creates_base_path());
    let reachable = within(base, DIRECTORY_DEADLINE, move || {
        if create && !path.exists() {
            // What keeps it from being made shows in the check that follows.
            let _ = DirBuilder::new().recursive(true).create(&path);
        }
        path.is_dir()
    });
    if reachable != Some(true) {
        return Err(StorageError::Unreachable {
            storage: config.id.clone(),
            path: base.to_owned(),
        });
    }
    create_content_dirs(config)
}

/// The directory of a storage.
///
/// # Errors
/// It has none.
pub(crate) fn base_path(config: &StorageConfig) -> Result<&Path, StorageError> {
    config.path().ok_or_else(|| {
        StorageError::Path(crate::path::NoPath::MissingOption {
            storage: config.id.to_string(),
            option: "path",
        })
    })
}

fn create_content_dirs(config: &StorageConfig) -> Result<(), StorageError> {
    let content = config.content();
    let mut taken = BTreeSet::new();
    for kind in content.iter().copied() {
        let Some(path) = config.content_dir(kind) else { continue };
        if !taken.insert(path.clone()) {
            return Err(StorageError::SharedDirectory {
                storage: config.id.clone(),
                path,
            });
        }
    }
    if !config.creates_subdirs() {
        return Ok(());
    }
    let mut wanted = content.clone();
    // Backups of containers need it even where no backups may be stored.
    if content.contains(&Content::Rootdir) {
        wanted.insert(Content::Backup);
    }
    for kind in wanted {
        let Some(path) = config.content_dir(kind) else { continue };
        if path.is_dir() {
            continue;
        }
        let made = DirBuilder::new().recursive(true).create(&path);
        made.map_err(|error| StorageError::ContentDirectory {
            path,
            content: kind,
            reason: errno_text(&error),
        })?;
    }
    Ok(())
}

/// How full the file system below the base directory is.
pub(crate) fn status(config: &StorageConfig) -> Status {
    let Some(base) = config.path() else {
        return Status::default();
    };
    if config.mount_point().is_some_and(|path| !is_mounted(&path)) {
        return Status::default();
    }
    let path = base.to_owned();
    let answer = within(base, DIRECTORY_DEADLINE, move || statvfs(&path));
    let Some(Ok(figures)) = answer else {
        return Status::default();
    };
    let bytes = |blocks: u64| blocks.saturating_mul(figures.fragment_size());
    let total = bytes(figures.blocks());
    Status {
        total,
        available: bytes(figures.blocks_available()),
        used: bytes(figures.blocks().saturating_sub(figures.blocks_free())),
        active: total > 0,
    }
}

/// Whether something is mounted exactly there.
fn is_mounted(path: &Path) -> bool {
    lists_mount(&fs::read_to_string("/proc/self/mounts").unwrap_or_default(), path)
}

/// Whether the kernel's table has a line for exactly that place.
fn lists_mount(mounts: &str, path: &Path) -> bool {
    let wanted: PathBuf = path.components().collect();
    mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .any(|mounted| Path::new(&unescaped(mounted)) == wanted)
}

/// The kernel writes blanks, tabs, line feeds and backslashes as three octal digits.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((head, tail)) = rest.split_once('\\') {
        plain.push_str(head);
        let code = tail.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                plain.push('\\');
                rest = tail;
            }
        }
    }
    plain.push_str(rest);
    plain
}

/// Makes an entry's appearance or disappearance durable.
pub(crate) fn sync_directory_of(path: &Path) -> Result<(), StorageError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(StorageError::io("sync", directory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::config;

    #[test]
    fn activation_makes_the_directories_of_the_enabled_content() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("new/base");
        let config = config(&format!(
            "dir: aa path={} content=iso,rootdir content-dirs=iso=i.so",
            base.display()
        ));
        activate(&config).unwrap();
        let mut made: Vec<_> = fs::read_dir(&base)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        made.sort();
        assert_eq!(made, ["dump", "i.so", "private"]);
        activate(&config).unwrap();
    }

    #[test]
    fn what_keeps_a_directory_from_being_used_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().display().to_string();
        fs::write(dir.path().join("file"), "").unwrap();
        let message = |line: &str| activate(&config(&line.replace("BASE", &base))).unwrap_err().to_string();
        let unreachable = |path: &str| {
            format!("unable to activate storage 'aa' - directory '{base}/{path}' does not exist or is unreachable")
        };
        assert_eq!(message("dir: aa path=BASE/none mkdir=0"), unreachable("none"));
        assert_eq!(message("dir: aa path=BASE/file"), unreachable("file"));
        assert_eq!(message("dir: aa path=BASE/file/below"), unreachable("file/below"));
        assert_eq!(
            message("dir: aa path=BASE is_mountpoint=yes"),
            format!(
                "unable to activate storage 'aa' - directory is expected to be a mount point but is not mounted: '{base}'"
            )
        );
        assert_eq!(
            message("dir: aa path=BASE content=iso,backup content-dirs=iso=x,backup=x"),
            format!("storage 'aa' uses directory {base}/x for multiple content types")
        );
        assert_eq!(
            message("dir: aa path=BASE content=iso content-dirs=iso=file/x"),
            format!("failed to create content directory '{base}/file/x' for content 'iso' - Not a directory")
        );
        activate(&config("dir: aa path=/proc is_mountpoint=yes content=none")).unwrap();
    }

    #[test]
    fn fill_levels_add_up() {
        let full = status(&config("dir: aa path=/"));
        assert!(full.active && full.total >= full.used && full.total >= full.available && full.used > 0);
        assert_eq!(status(&config("dir: aa path=/nonexistent")), Status::default());
        assert_eq!(
            status(&config("dir: aa path=/ is_mountpoint=/nonexistent")),
            Status::default()
        );
    }

    #[test]
    fn mount_table_escapes() {
        assert_eq!(unescaped(r"/mnt/a\040b\134c\x"), r"/mnt/a b\c\x");
    }

    /// Reference 04 §20, vector 14.
    #[test]
    fn fields_of_the_mount_table() {
        let line = r"a\040b /m\134nt tmpfs rw,x=1 0 0";
        let fields: Vec<String> = line.split(' ').map(unescaped).collect();
        assert_eq!(fields, ["a b", r"/m\nt", "tmpfs", "rw,x=1", "0", "0"]);
        assert!(lists_mount(line, Path::new(r"/m\nt")));
        assert!(!lists_mount(line, Path::new("/m\nt")) && !lists_mount(line, Path::new("/m")));
    }
}
