//! What can go wrong with storages and volumes. The texts are upstream's: clients match on them (reference 08).

use std::io;
use std::path::{Path, PathBuf};

use pve_access::AccessError;
use pve_cfs::CfsError;
use pve_daemon::command::CommandError;
use pve_schema::digest::Modified;
use pve_schema::ids::{InvalidVolumeId, NodeName, StorageId, VolumeId};
use pve_schema::{Failure, ParamErrors, errno_text};

use crate::archive::NoArchive;
use crate::config::ConfigError;
use crate::import::ImportError;
use crate::kind::{Content, ImageFormat, StorageKind};
use crate::path::NoPath;
use crate::volume::{InvalidVolumeName, NoFreeName};

/// What can go wrong with storages and volumes.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// `/etc/pve` or a lock.
    #[error(transparent)]
    Cfs(#[from] CfsError),
    /// The configuration changed since the caller read it.
    #[error(transparent)]
    Modified(#[from] Modified),
    /// Users and rights.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A change of the configuration.
    #[error("{prefix}: {source}")]
    Change {
        /// What was to be done.
        prefix: &'static str,
        /// Why it was not.
        source: Box<StorageError>,
    },
    /// What a storage's configuration may not be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A user's file that may not be stored.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// An external command.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A text that is no volume id.
    #[error(transparent)]
    VolumeId(#[from] InvalidVolumeId),
    /// A volume id whose name is none of its storage's type.
    #[error(transparent)]
    VolumeName(#[from] InvalidVolumeName),
    /// A file that is no backup.
    #[error(transparent)]
    Archive(#[from] NoArchive),
    /// A volume without a path.
    #[error(transparent)]
    Path(#[from] NoPath),
    /// No name is left for a disk.
    #[error(transparent)]
    NoFreeName(#[from] NoFreeName),

    /// No such storage.
    #[error("storage '{0}' does not exist")]
    NoStorage(String),
    /// It is switched off.
    #[error("storage '{0}' is disabled")]
    Disabled(StorageId),
    /// It is not for this node.
    #[error("storage '{storage}' is not available on node '{node}'")]
    NotOnNode {
        /// The storage.
        storage: StorageId,
        /// The node.
        node: NodeName,
    },
    /// This build has no operations for the type.
    #[error("storage type '{0}' is not supported by this build yet")]
    Unsupported(StorageKind),
    /// This build lacks an operation.
    #[error("{0} is not supported by this build yet")]
    NotYet(&'static str),

    /// The mount point that must be there is not.
    #[error(
        "unable to activate storage '{storage}' - directory is expected to be a mount point but is not mounted: '{}'",
        path.display()
    )]
    NotMounted {
        /// The storage.
        storage: StorageId,
        /// The mount point.
        path: PathBuf,
    },
    /// The base directory is not there, or does not answer.
    #[error(
        "unable to activate storage '{storage}' - directory '{}' does not exist or is unreachable",
        path.display()
    )]
    Unreachable {
        /// The storage.
        storage: StorageId,
        /// The directory.
        path: PathBuf,
    },
    /// A content type's directory cannot be made.
    #[error("failed to create content directory '{}' for content '{content}' - {reason}", path.display())]
    ContentDirectory {
        /// The directory.
        path: PathBuf,
        /// The content type.
        content: Content,
        /// The system's word.
        reason: String,
    },
    /// Two content types would share a directory.
    #[error("storage '{storage}' uses directory {} for multiple content types", path.display())]
    SharedDirectory {
        /// The storage.
        storage: StorageId,
        /// The directory.
        path: PathBuf,
    },

    /// A new disk's name does not end as its format has it.
    #[error("illegal name '{name}' - wrong extension for format ('{extension} != '{format}')")]
    WrongExtension {
        /// The name.
        name: String,
        /// Its extension.
        extension: String,
        /// The format.
        format: ImageFormat,
    },
    /// A new disk is there already.
    #[error("disk image '{}' already exists", .0.display())]
    ImageExists(PathBuf),
    /// The storage does not know the format.
    #[error("storage '{storage}' does not support format '{format}'")]
    UnsupportedFormat {
        /// The storage.
        storage: StorageId,
        /// The format.
        format: ImageFormat,
    },
    /// A directory cannot have a size.
    #[error("storage does not support subvol quotas")]
    SubvolQuota,
    /// `qemu-img create` failed.
    #[error("unable to create image: {0}")]
    Create(String),
    /// A linked clone needs this volume.
    #[error("base volume '{0}' is still in use by linked clones")]
    BaseInUse(String),
    /// A backup that is marked as protected.
    #[error("cannot remove protected volume '{volume}' on '{storage}'")]
    Protected {
        /// The volume's name.
        volume: String,
        /// Its storage.
        storage: StorageId,
    },
    /// Only raw and qcow2 can grow.
    #[error("can't resize this image format")]
    Resize,
    /// Only qcow2 has snapshots.
    #[error("can't snapshot this image format")]
    Snapshot,
    /// No such volume.
    #[error("volume '{0}' does not exist")]
    NoVolume(VolumeId),
    /// A volume whose size nobody can tell.
    #[error("volume_size_info on '{0}' failed - no format")]
    NoSize(String),
    /// Attributes that only backups have.
    #[error("only backups can have notes")]
    NotesOnly,
    /// Attributes that only backups have.
    #[error("only backups support attribute 'protected'")]
    ProtectedOnly,
    /// One protected backup too many.
    #[error("The number of protected backups per guest is limited to {limit} on storage '{storage}'")]
    ProtectedLimit {
        /// The limit.
        limit: u64,
        /// The storage.
        storage: StorageId,
    },
    /// The storage holds no backups.
    #[error("storage '{0}' does not support backups")]
    NoBackups(StorageId),
    /// Nobody says which backups to keep.
    #[error("no prune-backups options configured for storage '{0}'")]
    NoRetention(StorageId),
    /// Some backups could not be removed.
    #[error("error pruning backups - check log")]
    Prune,
    /// The storage holds no such content.
    #[error("storage '{storage}' does not support '{content}' content")]
    NoContent {
        /// The storage.
        storage: StorageId,
        /// The content.
        content: Content,
    },

    /// An image where a directory is.
    #[error("expected format '{format}', but '{}' is a directory", path.display())]
    IsDirectory {
        /// The format of the name.
        format: ImageFormat,
        /// The path.
        path: PathBuf,
    },
    /// An untrusted file that cannot be looked at.
    #[error("failed to stat '{0}'")]
    Stat(String),
    /// `qemu-img info` wrote something else.
    #[error("could not parse qemu-img info of '{path}' - {source}")]
    ImageInfo {
        /// The image.
        path: String,
        /// Where it stops making sense.
        source: serde_json::Error,
    },
    /// An untrusted image that refers to other files.
    #[error("{what} not allowed for untrusted image '{path}'!")]
    Untrusted {
        /// What it has.
        what: &'static str,
        /// The image.
        path: String,
    },

    /// The caller may not use a volume as what he wants it for.
    #[error("unable to use volume {volume} - content type needs to be '{expected}'")]
    WrongContent {
        /// The volume.
        volume: String,
        /// What it would have to be.
        expected: Content,
    },
    /// The caller may not read the volume.
    #[error("missing privileges to access {0}")]
    NoAccess(String),
    /// The caller named a path.
    #[error("Only root can pass arbitrary filesystem paths.")]
    RootOnlyPath,

    /// A file or directory.
    #[error("unable to {action} '{}' - {reason}", path.display())]
    Io {
        /// What was to be done: `remove`, `create`, …
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's word.
        reason: String,
    },
}

impl StorageError {
    /// A failed system call on a path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io {
            action,
            path: path.clone(),
            reason: errno_text(&error),
        }
    }
}

impl Failure for StorageError {
    fn status(&self) -> u16 {
        match self {
            Self::Unsupported(_) | Self::NotYet(_) | Self::Path(NoPath::Unsupported(_)) => 501,
            Self::Change { source, .. } => match source.status() {
                501 => 501,
                // What was wrong with a change is told in its text.
                _ => 500,
            },
            Self::Access(error) => error.status(),
            Self::Cfs(error) => error.status(),
            _ => 500,
        }
    }

    fn param_errors(&self) -> Option<&ParamErrors> {
        match self {
            Self::Access(error) => error.param_errors(),
            _ => None,
        }
    }
}
