//! Files below `/etc/pve`: read, atomic durable write, stamps.
//!
//! ```text
//! write: NAME.tmp.TID (O_EXCL) ─▶ owner, mode ─▶ content ─▶ fsync ─▶ rename over NAME ─▶ fsync of the directory
//!            └── any failure: the temporary file goes, the old file stays as it was
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};
use nix::unistd::{Gid, Uid, fchown, geteuid, gettid};
use pve_schema::{Context, Site, errno_text};

use crate::error::{CfsError, shown};
use crate::path::{RelPath, is_temporary};

/// Most bytes of one file (reference 04 §1.4).
pub const MAX_FILE: usize = 1024 * 1024;
/// How often a stale temporary file is removed before a write gives up (reference 04 §1.5).
const OPEN_TRIES: usize = 3;

/// `/etc/pve` of one site. Cheap to make and to clone: it holds no open file and no cache.
#[derive(Debug, Clone)]
pub struct Cfs {
    pub(crate) context: Context,
}

/// What tells one state of a file from the next. Seconds of mtime alone do not: compare the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    inode: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
    size: u64,
}

impl Stamp {
    fn of(meta: &fs::Metadata) -> Self {
        Self {
            inode: meta.ino(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            ctime: (meta.ctime(), meta.ctime_nsec()),
            size: meta.size(),
        }
    }

    /// Of a file anywhere, such as a key that the administrator keeps elsewhere; `None` if it cannot be looked at.
    pub fn of_path(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|meta| Self::of(&meta))
    }

    /// When the content was last changed, Unix seconds.
    pub fn mtime(&self) -> i64 {
        self.mtime.0
    }

    /// When content or anything else about the file was last changed, Unix seconds and nanoseconds: what `touch` and
    /// `cp -p` cannot set back.
    pub(crate) fn changed(&self) -> (i64, i64) {
        self.mtime.max(self.ctime)
    }

    /// Number of bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Cfs {
    /// `/etc/pve` of a context's site.
    pub fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
        }
    }

    /// The site.
    pub fn site(&self) -> &Site {
        &self.context.site
    }

    pub(crate) fn rel(&self, rel: &str) -> Result<RelPath, CfsError> {
        RelPath::parse(rel, &self.site().node)
    }

    pub(crate) fn absolute(&self, rel: &RelPath) -> PathBuf {
        rel.below(self.site().etc_pve())
    }

    /// The absolute path of a file below `/etc/pve`, for messages and for programs that are given a path. To open it is
    /// this crate's affair.
    ///
    /// # Errors
    /// [`CfsError::IllegalPath`].
    pub fn full_path(&self, rel: &str) -> Result<PathBuf, CfsError> {
        Ok(self.absolute(&self.rel(rel)?))
    }

    /// The content of a file, `None` if there is none.
    ///
    /// # Errors
    /// [`CfsError::IllegalPath`], [`CfsError::Open`], [`CfsError::Read`].
    pub fn read(&self, rel: &str) -> Result<Option<Vec<u8>>, CfsError> {
        let path = self.full_path(rel)?;
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => {
                return Err(CfsError::Open {
                    path: shown(&path),
                    reason: errno_text(&error),
                });
            }
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| CfsError::Read {
            path: shown(&path),
            reason: errno_text(&error),
        })?;
        Ok(Some(bytes))
    }

    /// The content of a file as text. Bytes that are no UTF-8 become U+FFFD: to rewrite a file byte by byte, and for
    /// its digest, take [`Cfs::read`].
    ///
    /// # Errors
    /// As [`Cfs::read`].
    pub fn read_text(&self, rel: &str) -> Result<Option<String>, CfsError> {
        Ok(self.read(rel)?.map(|bytes| {
            String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
        }))
    }

    /// What tells this state of a file from the next, `None` if there is no file.
    ///
    /// # Errors
    /// [`CfsError::IllegalPath`], [`CfsError::Open`].
    pub fn stamp(&self, rel: &str) -> Result<Option<Stamp>, CfsError> {
        Self::stamp_at(&self.full_path(rel)?)
    }

    pub(crate) fn stamp_at(path: &Path) -> Result<Option<Stamp>, CfsError> {
        match fs::metadata(path) {
            Ok(meta) => Ok(Some(Stamp::of(&meta))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(CfsError::Open {
                path: shown(path),
                reason: errno_text(&error),
            }),
        }
    }

    /// Whether something is there.
    ///
    /// # Errors
    /// As [`Cfs::stamp`].
    pub fn exists(&self, rel: &str) -> Result<bool, CfsError> {
        Ok(self.stamp(rel)?.is_some())
    }

    /// Names in a directory, sorted, without writes under way; empty if there is no such directory.
    ///
    /// # Errors
    /// [`CfsError::IllegalPath`], [`CfsError::Open`].
    pub fn list(&self, dir: &str) -> Result<Vec<String>, CfsError> {
        let path = self.full_path(dir)?;
        let open = |error: io::Error| CfsError::Open {
            path: shown(&path),
            reason: errno_text(&error),
        };
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(open(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry.map_err(open)?.file_name().into_string()
                && !is_temporary(&name)
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Replaces a file's content as a whole, durably; makes the file, and missing directories outside of `nodes`, if
    /// need be. After an error the old file is as it was.
    ///
    /// # Errors
    /// [`CfsError::IllegalPath`], [`CfsError::TooLarge`], [`CfsError::Open`], [`CfsError::Write`],
    /// [`CfsError::Commit`].
    pub fn write(&self, rel: &str, bytes: &[u8]) -> Result<(), CfsError> {
        self.replace(&self.rel(rel)?, bytes, Commit::Replace)
    }

    /// Makes a new file, durably. Of several callers one wins.
    ///
    /// # Errors
    /// [`CfsError::Exists`] if it is there already; else as [`Cfs::write`].
    pub fn create(&self, rel: &str, bytes: &[u8]) -> Result<(), CfsError> {
        self.replace(&self.rel(rel)?, bytes, Commit::New)
    }

    /// Removes a file; `false` if there was none.
    ///
    /// # Errors
    /// [`CfsError::IllegalPath`], [`CfsError::Remove`].
    pub fn remove(&self, rel: &str) -> Result<bool, CfsError> {
        let path = self.full_path(rel)?;
        match fs::remove_file(&path) {
            Ok(()) => {
                sync_parent(&path).map_err(|error| remove_error(&path, &error))?;
                Ok(true)
            }
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(remove_error(&path, &error)),
        }
    }

    /// Moves a file: a guest's config to another node, for one.
    ///
    /// # Errors
    /// [`CfsError::IllegalPath`], [`CfsError::Rename`].
    pub fn rename(&self, from: &str, to: &str) -> Result<(), CfsError> {
        let (from, to) = (self.full_path(from)?, self.full_path(to)?);
        let failed = |error: io::Error| CfsError::Rename {
            from: shown(&from),
            to: shown(&to),
            reason: errno_text(&error),
        };
        fs::rename(&from, &to).map_err(failed)?;
        sync_parent(&to).map_err(failed)?;
        sync_parent(&from).map_err(failed)
    }

    /// Makes a directory with the mode and owner of its place, and those above it; one that is there gets both anew.
    ///
    /// # Errors
    /// [`CfsError::IllegalPath`], [`CfsError::MakeDir`].
    pub fn make_dir(&self, rel: &str) -> Result<(), CfsError> {
        self.make_dirs(&self.rel(rel)?)
    }

    pub(crate) fn make_dirs(&self, rel: &RelPath) -> Result<(), CfsError> {
        if let Some(parent) = rel.parent()
            && !self.absolute(&parent).is_dir()
        {
            self.make_dirs(&parent)?;
        }
        let path = self.absolute(rel);
        let failed = |error: io::Error| CfsError::MakeDir {
            path: shown(&path),
            reason: errno_text(&error),
        };
        match DirBuilder::new().mode(rel.dir_mode()).create(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let dir = File::open(&path).map_err(failed)?;
        self.dress(&dir, rel.dir_mode()).map_err(failed)
    }

    /// Whether `/etc/pve` is a mounted cluster file system rather than a plain directory.
    pub fn is_mounted(&self) -> bool {
        let path = self.site().etc_pve();
        let Ok(kind) = statfs(&path) else { return false };
        if kind.filesystem_type() != FUSE_SUPER_MAGIC {
            return false;
        }
        // A lab that lives on some FUSE file system is a plain directory all the same.
        let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev());
        match (device(&path), path.parent().map(device)) {
            (Ok(own), Some(Ok(parent))) => own != parent,
            _ => false,
        }
    }

    /// Gives an open file owner and mode. Without root's rights the owner stays as it is; a cluster file system keeps
    /// both by path, and may refuse.
    fn dress(&self, file: &File, mode: u32) -> io::Result<()> {
        let tolerated = |error: &io::Error| error.raw_os_error() == Some(Errno::EPERM as i32) && self.is_mounted();
        if geteuid().is_root() {
            let owner = Uid::from_raw(self.site().root_user.uid);
            let group = Gid::from_raw(self.site().web_user.gid);
            match fchown(file.as_fd(), Some(owner), Some(group)).map_err(io::Error::from) {
                Err(error) if !tolerated(&error) => return Err(error),
                _ => {}
            }
        }
        match file.set_permissions(Permissions::from_mode(mode)) {
            Err(error) if !tolerated(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn replace(&self, rel: &RelPath, bytes: &[u8], commit: Commit) -> Result<(), CfsError> {
        let path = self.absolute(rel);
        if bytes.len() > MAX_FILE {
            return Err(CfsError::TooLarge(shown(&path)));
        }
        if let Some(parent) = rel.parent()
            && !rel.as_str().starts_with("nodes/")
            && !self.absolute(&parent).exists()
        {
            self.make_dirs(&parent)?;
        }
        let (temporary, file) = open_temporary(&path)?;
        let result = self
            .fill(&file, rel, bytes)
            .map_err(|error| CfsError::Write {
                path: shown(&temporary),
                reason: errno_text(&error),
            })
            .and_then(|()| commit.run(&temporary, &path));
        if result.is_err() {
            // The failure that counts is the one at hand; a left-over file is ignored by readers and removed by the
            // next writer of the same number.
            let _ = fs::remove_file(&temporary);
        }
        result
    }

    fn fill(&self, mut file: &File, rel: &RelPath, bytes: &[u8]) -> io::Result<()> {
        fail::fail_point!("cfs::write", |_| Err(io::Error::from(Errno::ENOSPC)));
        self.dress(file, rel.file_mode())?;
        file.write_all(bytes)?;
        fail::fail_point!("cfs::fsync", |_| Err(io::Error::from(Errno::EIO)));
        file.sync_all()
    }
}

/// How a complete temporary file takes its place.
#[derive(Clone, Copy)]
enum Commit {
    /// Over whatever is there.
    Replace,
    /// Only where nothing is.
    New,
}

impl Commit {
    fn run(self, temporary: &Path, path: &Path) -> Result<(), CfsError> {
        let failed = |error: io::Error| CfsError::Commit {
            path: shown(path),
            reason: errno_text(&error),
        };
        fail::fail_point!("cfs::rename", |_| Err(failed(io::Error::from(Errno::EIO))));
        match self {
            Self::Replace => fs::rename(temporary, path).map_err(failed)?,
            Self::New => match rename_new(temporary, path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    return Err(CfsError::Exists(shown(path)));
                }
                other => other.map_err(failed)?,
            },
        }
        sync_parent(path).map_err(failed)
    }
}

/// Renames where nothing may be replaced ([`ErrorKind::AlreadyExists`]). File systems that cannot promise that in one step (FUSE) are asked first.
///
/// # Errors
/// The system's.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            if fs::symlink_metadata(to).is_ok() {
                return Err(io::Error::from(ErrorKind::AlreadyExists));
            }
            fs::rename(from, to)
        }
        other => other.map_err(io::Error::from),
    }
}

/// Opens `NAME.tmp.TID`. A thread's number is unique on the machine as a process's is, so two threads of one daemon do
/// not meet in one file; a left-over of that name belongs to nobody alive.
fn open_temporary(path: &Path) -> Result<(PathBuf, File), CfsError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".tmp.{}", gettid()));
    let temporary = PathBuf::from(name);
    let mut last = io::Error::from(ErrorKind::AlreadyExists);
    for _ in 0..OPEN_TRIES {
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
        {
            Ok(file) => return Ok((temporary, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let _ = fs::remove_file(&temporary);
                last = error;
            }
            Err(error) => {
                last = error;
                break;
            }
        }
    }
    Err(CfsError::Open {
        path: shown(&temporary),
        reason: errno_text(&last),
    })
}

/// Makes a rename or removal durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => match File::open(parent)?.sync_all() {
            // FUSE file systems need not know how to sync a directory.
            Err(error) if matches!(error.raw_os_error(), Some(code) if code == Errno::EINVAL as i32 || code == Errno::ENOSYS as i32) => {
                Ok(())
            }
            other => other,
        },
        None => Ok(()),
    }
}

fn remove_error(path: &Path, error: &io::Error) -> CfsError {
    CfsError::Remove {
        path: shown(path),
        reason: errno_text(error),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
