//! All configured storages of a site, and what can be done with their volumes.
//!
//! A [`Storages`] is one look at `storage.cfg`: cheap to open, opened anew for each call, never kept. Volumes are named
//! by their ids; which code answers is decided here, by the storage's type. This build has operations for `dir`; of the
//! other types it knows the configuration, the names and the paths.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pve_cfs::lock::DEFAULT_TIMEOUT;
use pve_cfs::{Cfs, FileLock, GuestKind, LockId};
use pve_schema::Context;
use pve_schema::ids::{NodeName, StorageId, VmId, VolumeId};

use crate::config::{StorageConfig, StorageFile};
use crate::dir::{self, Status, attributes, image, listing};
use crate::error::StorageError;
use crate::kind::{Content, ContentSet, ImageFormat, StorageKind};
use crate::path::volume_path;
use crate::qemu_img::SnapshotAction;
use crate::size::{SizeInfo, file_size_info};
use crate::volume::{VolumeFormat, VolumeName, parse_volume_name};
use crate::{VolumeEntry, volume};

/// One look at the configured storages.
#[derive(Debug)]
pub struct Storages {
    context: Context,
    cfs: Cfs,
    file: StorageFile,
    /// What this look has made usable already.
    activated: Mutex<BTreeSet<StorageId>>,
}

/// A disk that is to be made.
#[derive(Debug, Clone)]
pub struct AllocRequest {
    /// Where.
    pub storage: StorageId,
    /// For which guest.
    pub vmid: VmId,
    /// In which format; the storage's default if none is given.
    pub format: Option<ImageFormat>,
    /// Its file or device name; the next free one if none is given.
    pub name: Option<String>,
    /// How large, in KiB.
    pub size_kib: u64,
}

impl Storages {
    /// Reads the configuration.
    ///
    /// # Errors
    /// The file is there and cannot be read. What is wrong inside of it is logged and left out.
    pub fn open(context: &Context) -> Result<Self, StorageError> {
        let cfs = Cfs::new(context);
        let file = StorageFile::read(&cfs)?;
        Ok(Self {
            context: context.clone(),
            cfs,
            file,
            activated: Mutex::default(),
        })
    }

    pub(crate) fn cfs(&self) -> &Cfs {
        &self.cfs
    }

    /// The configuration file as read.
    pub fn file(&self) -> &StorageFile {
        &self.file
    }

    /// All storages, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &StorageConfig> {
        self.file.iter()
    }

    /// A storage's configuration.
    ///
    /// # Errors
    /// There is no such storage.
    pub fn config(&self, storage: &StorageId) -> Result<&StorageConfig, StorageError> {
        let config = self.file.get(storage);
        config.ok_or_else(|| StorageError::NoStorage(storage.to_string()))
    }

    /// A storage's configuration, if a node may use it; this node if none is named.
    ///
    /// # Errors
    /// There is no such storage, it is disabled, or it is not for the node.
    pub fn check_enabled(&self, storage: &StorageId, node: Option<&NodeName>) -> Result<&StorageConfig, StorageError> {
        let config = self.config(storage)?;
        if config.is_disabled() {
            return Err(StorageError::Disabled(storage.clone()));
        }
        let node = node.unwrap_or(&self.context.site.node);
        if !config.is_for_node(node) {
            return Err(StorageError::NotOnNode {
                storage: storage.clone(),
                node: node.clone(),
            });
        }
        Ok(config)
    }

    /// Makes a storage usable on this node, once per look.
    ///
    /// # Errors
    /// It may not be used, or cannot be made usable.
    pub fn activate(&self, storage: &StorageId) -> Result<&StorageConfig, StorageError> {
        let config = self.check_enabled(storage, None)?;
        let mut activated = self.activated.lock().unwrap_or_else(PoisonError::into_inner);
        if !activated.contains(storage) {
            operable(config)?;
            dir::activate(config)?;
            activated.insert(storage.clone());
        }
        Ok(config)
    }

    /// How full a storage is; one that cannot be used is inactive.
    ///
    /// # Errors
    /// There is no such storage, or this build has no operations for its type.
    pub fn status(&self, storage: &StorageId) -> Result<Status, StorageError> {
        let config = self.config(storage)?;
        operable(config)?;
        Ok(dir::status(config))
    }

    /// What a volume's name says, and the storage it is on.
    ///
    /// # Errors
    /// No such storage, or no such name.
    pub fn parse(&self, volume: &VolumeId) -> Result<(&StorageConfig, VolumeName), StorageError> {
        let config = self.config(&volume.storage)?;
        let name = parse_volume_name(config.kind, &volume.name)?;
        Ok((config, name))
    }

    /// Where a volume is. That it is there is not looked at.
    ///
    /// # Errors
    /// No such storage or name, or a volume without a path.
    pub fn path(&self, volume: &VolumeId) -> Result<PathBuf, StorageError> {
        let (config, name) = self.parse(volume)?;
        Ok(volume_path(config, &name, None)?)
    }

    /// Where a volume is, and its format as its name tells.
    ///
    /// # Errors
    /// As [`Storages::path`].
    pub fn path_and_format(&self, volume: &VolumeId) -> Result<(PathBuf, Option<VolumeFormat>), StorageError> {
        let (config, name) = self.parse(volume)?;
        Ok((volume_path(config, &name, None)?, name.format))
    }

    /// The format that new disks get when nobody asks for one.
    ///
    /// # Errors
    /// No such storage, or one without disks.
    pub fn default_format(&self, storage: &StorageId) -> Result<ImageFormat, StorageError> {
        let config = self.config(storage)?;
        config.default_format().ok_or_else(|| StorageError::NoContent {
            storage: storage.clone(),
            content: Content::Images,
        })
    }

    /// Whether a storage is configured to hold a kind of content.
    ///
    /// # Errors
    /// No such storage.
    pub fn supports(&self, storage: &StorageId, content: Content) -> Result<bool, StorageError> {
        Ok(self.config(storage)?.holds(content))
    }

    /// Makes a disk.
    ///
    /// # Errors
    /// The storage cannot be used, the name is taken or does not fit the format, the disk cannot be made.
    pub fn alloc(&self, request: &AllocRequest) -> Result<VolumeId, StorageError> {
        let config = self.activate(&request.storage)?;
        let format = match request.format {
            Some(format) => format,
            None => self.default_format(&request.storage)?,
        };
        let new = image::NewImage {
            vmid: request.vmid.get(),
            format,
            name: request.name.as_deref(),
            size_kib: request.size_kib,
        };
        let name = self.with_lock(config, || image::alloc(config, new))?;
        Ok(VolumeId {
            storage: request.storage.clone(),
            name,
        })
    }

    /// Removes a volume of any content. One that is not there is only worth a warning in the log.
    ///
    /// # Errors
    /// The storage cannot be used, a linked clone needs the volume, it is a protected backup, it cannot be removed.
    pub fn free(&self, volume: &VolumeId) -> Result<(), StorageError> {
        let (_, name) = self.parse(volume)?;
        let config = self.activate(&volume.storage)?;
        self.with_lock(config, || {
            if name.is_base {
                check_unused(config, volume, &name)?;
            }
            if name.content == Content::Backup && attributes::is_protected(&volume_path(config, &name, None)?) {
                return Err(StorageError::Protected {
                    volume: volume.name.clone(),
                    storage: volume.storage.clone(),
                });
            }
            image::free(config, &name)
        })
    }

    /// Sets a disk's size in bytes, rounded up to whole KiB. Only for guests that do not run: QEMU grows the disks of a
    /// running one itself.
    ///
    /// # Errors
    /// The storage cannot be used, the format cannot grow, `qemu-img` fails.
    pub fn resize(&self, volume: &VolumeId, bytes: u64) -> Result<(), StorageError> {
        let (_, name) = self.parse(volume)?;
        let config = self.activate(&volume.storage)?;
        self.with_lock(config, || image::resize(config, &name, bytes))
    }

    /// How large a volume is.
    ///
    /// # Errors
    /// The storage cannot be used, or nobody can tell.
    pub fn size_info(&self, volume: &VolumeId) -> Result<SizeInfo, StorageError> {
        let (config, name) = self.parse(volume)?;
        self.activate(&config.id)?;
        let path = volume_path(config, &name, None)?;
        let format = name
            .format
            .as_ref()
            .and_then(VolumeFormat::image)
            .unwrap_or(ImageFormat::Raw);
        let info = file_size_info(&path, format)?;
        info.ok_or_else(|| StorageError::NoSize(volume.to_string()))
    }

    /// Lists a storage's volumes, sorted by lower-cased id: all content it is configured for, or one kind of it.
    ///
    /// # Errors
    /// The storage cannot be used or read.
    pub fn list(
        &self,
        storage: &StorageId,
        content: Option<Content>,
        vmid: Option<VmId>,
    ) -> Result<Vec<VolumeEntry>, StorageError> {
        let config = self.activate(storage)?;
        let mut wanted = listing::Wanted {
            content: config.content(),
            vmid: vmid.map(VmId::get),
        };
        if let Some(content) = content {
            wanted.content.retain(|held| *held == content);
        }
        let containers = self.containers(&wanted.content)?;
        listing::list(config, &wanted, &|vmid| containers.contains(&vmid))
    }

    /// The containers of the cluster, if anybody asks for disks.
    fn containers(&self, wanted: &ContentSet) -> Result<BTreeSet<u32>, StorageError> {
        if !wanted.contains(&Content::Images) && !wanted.contains(&Content::Rootdir) {
            return Ok(BTreeSet::new());
        }
        let guests = self.cfs.guests()?;
        let containers = guests.into_iter().filter(|guest| guest.kind == GuestKind::Lxc);
        Ok(containers.map(|guest| guest.vmid.get()).collect())
    }

    /// Makes volumes usable: their storages are active and they are there.
    ///
    /// # Errors
    /// The first thing that is missing.
    pub fn activate_volumes(&self, volumes: &[VolumeId]) -> Result<(), StorageError> {
        for volume in volumes {
            let (_, name) = self.parse(volume)?;
            let config = self.activate(&volume.storage)?;
            if !volume_path(config, &name, None)?.exists() {
                return Err(StorageError::NoVolume(volume.clone()));
            }
        }
        Ok(())
    }

    /// Takes a snapshot inside a disk's file. Only for guests that do not run.
    ///
    /// # Errors
    /// The format has no snapshots, or `qemu-img` fails.
    pub fn snapshot_create(&self, volume: &VolumeId, snapshot: &str) -> Result<(), StorageError> {
        self.snapshot(volume, SnapshotAction::Create, snapshot)
    }

    /// Goes back to a snapshot inside a disk's file. Only for guests that do not run.
    ///
    /// # Errors
    /// As [`Storages::snapshot_create`].
    pub fn snapshot_rollback(&self, volume: &VolumeId, snapshot: &str) -> Result<(), StorageError> {
        self.snapshot(volume, SnapshotAction::Apply, snapshot)
    }

    /// Removes a snapshot inside a disk's file. Only for guests that do not run.
    ///
    /// # Errors
    /// As [`Storages::snapshot_create`].
    pub fn snapshot_delete(&self, volume: &VolumeId, snapshot: &str) -> Result<(), StorageError> {
        self.snapshot(volume, SnapshotAction::Delete, snapshot)
    }

    fn snapshot(&self, volume: &VolumeId, action: SnapshotAction, snapshot: &str) -> Result<(), StorageError> {
        let (_, name) = self.parse(volume)?;
        let config = self.activate(&volume.storage)?;
        self.with_lock(config, || image::snapshot(config, &name, action, snapshot))
    }

    /// A backup's notes; empty without any.
    ///
    /// # Errors
    /// The volume is no backup, or the notes cannot be read.
    pub fn notes(&self, volume: &VolumeId) -> Result<String, StorageError> {
        attributes::notes(&self.backup_path(volume, StorageError::NotesOnly)?)
    }

    /// Replaces a backup's notes; empty ones go.
    ///
    /// # Errors
    /// The volume is no backup, or the notes cannot be written.
    pub fn set_notes(&self, volume: &VolumeId, notes: &str) -> Result<(), StorageError> {
        attributes::set_notes(&self.existing_backup(volume, StorageError::NotesOnly)?, notes)
    }

    /// Whether a backup is protected.
    ///
    /// # Errors
    /// The volume is no backup.
    pub fn is_protected(&self, volume: &VolumeId) -> Result<bool, StorageError> {
        let path = self.backup_path(volume, StorageError::ProtectedOnly)?;
        Ok(attributes::is_protected(&path))
    }

    /// Protects a backup, or gives it free. `unlimited`: whether the caller is free of the limit that holds when none is
    /// configured (`Datastore.Allocate` on the storage).
    ///
    /// # Errors
    /// The volume is no backup, or its guest has too many protected ones.
    pub fn set_protected(&self, volume: &VolumeId, protected: bool, unlimited: bool) -> Result<(), StorageError> {
        let path = self.existing_backup(volume, StorageError::ProtectedOnly)?;
        let config = self.config(&volume.storage)?;
        self.with_lock(config, || {
            if protected && !attributes::is_protected(&path) {
                self.check_protected_limit(config, volume, unlimited)?;
            }
            attributes::set_protected(&path, protected)
        })
    }

    fn check_protected_limit(
        &self,
        config: &StorageConfig,
        volume: &VolumeId,
        unlimited: bool,
    ) -> Result<(), StorageError> {
        let Some(limit) = config.protected_backups(unlimited) else {
            return Ok(());
        };
        let wanted = listing::Wanted {
            content: [Content::Backup].into(),
            vmid: None,
        };
        let backups = listing::list(config, &wanted, &|_| false)?;
        let owner = backups
            .iter()
            .find(|row| row.volid == volume.to_string())
            .map(|row| row.vmid);
        let protected = backups
            .iter()
            .filter(|row| row.protected.is_some() && Some(row.vmid) == owner);
        if u64::try_from(protected.count()).unwrap_or(u64::MAX) >= limit {
            return Err(StorageError::ProtectedLimit {
                limit,
                storage: config.id.clone(),
            });
        }
        Ok(())
    }

    fn backup_path(&self, volume: &VolumeId, otherwise: StorageError) -> Result<PathBuf, StorageError> {
        let (config, name) = self.parse(volume)?;
        if name.content != Content::Backup {
            return Err(otherwise);
        }
        operable(config)?;
        Ok(volume_path(config, &name, None)?)
    }

    fn existing_backup(&self, volume: &VolumeId, otherwise: StorageError) -> Result<PathBuf, StorageError> {
        let path = self.backup_path(volume, otherwise)?;
        self.activate(&volume.storage)?;
        if path.exists() {
            Ok(path)
        } else {
            Err(StorageError::NoVolume(volume.clone()))
        }
    }

    /// The volume that a path belongs to, if it is one of a file based storage that this node may use.
    pub fn associate_path(&self, path: &Path) -> Option<VolumeId> {
        let usable = |config: &&StorageConfig| !config.is_disabled() && config.is_for_node(&self.context.site.node);
        self.file
            .iter()
            .filter(usable)
            .find_map(|config| associate(config, path))
    }

    /// Runs code while nobody else changes the storage's content: cluster-wide if it is shared.
    fn with_lock<T>(
        &self,
        config: &StorageConfig,
        code: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if config.is_shared() {
            let id = LockId::storage(config.id.as_str());
            return self.cfs.with_lock(&id, DEFAULT_TIMEOUT, code);
        }
        let path = format!("/var/lock/pve-manager/pve-storage-{}", config.id);
        let _lock = FileLock::exclusive(&self.context.site.path(path), DEFAULT_TIMEOUT)?;
        code()
    }
}

/// Whether this build has operations for a storage's type.
pub(crate) fn operable(config: &StorageConfig) -> Result<(), StorageError> {
    match config.kind {
        StorageKind::Dir => Ok(()),
        kind => Err(StorageError::Unsupported(kind)),
    }
}

/// A base volume goes last.
fn check_unused(config: &StorageConfig, volume: &VolumeId, name: &VolumeName) -> Result<(), StorageError> {
    let owner = name.owner.unwrap_or_default();
    let prefix = format!("{}:{owner}/{}/", config.id, name.name);
    let clones = listing::images(config, None)?;
    if clones.iter().any(|clone| clone.volid.starts_with(&prefix)) {
        return Err(StorageError::BaseInUse(volume.name.clone()));
    }
    Ok(())
}

/// The volume of a file based storage that has this path.
fn associate(config: &StorageConfig, path: &Path) -> Option<VolumeId> {
    if !config.kind.is_file_based() {
        return None;
    }
    let volume = |name: String| {
        parse_volume_name(config.kind, &name).ok()?;
        Some(VolumeId {
            storage: config.id.clone(),
            name,
        })
    };
    let below = |content: Content| path.strip_prefix(config.content_dir(content)?).ok()?.to_str();
    if let Some(disk) = below(Content::Images) {
        let format = volume::parse_image_file_name(disk.split_once('/')?.1).ok()?;
        let info = file_size_info(path, format).ok().flatten();
        let base = info.as_ref().and_then(listing::base_prefix);
        return volume(base.map_or(disk.to_owned(), |base| format!("{base}/{disk}")));
    }
    let kinds = [
        Content::Iso,
        Content::Vztmpl,
        Content::Backup,
        Content::Snippets,
        Content::Import,
    ];
    kinds
        .into_iter()
        .find_map(|content| volume(format!("{content}/{}", below(content)?)))
}
