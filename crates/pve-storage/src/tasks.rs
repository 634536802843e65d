//! Long work on storages, as tasks of their own.

use std::path::PathBuf;

use pve_schema::ids::{NodeName, StorageId, VmId, VolumeId};
use pve_task::{Kinds, Task, TaskError, Worker};
use serde::{Deserialize, Serialize};

use crate::config::Retention;
use crate::dir;
use crate::error::StorageError;
use crate::import::{self, Checksum, Destination, Upload};
use crate::kind::Content;
use crate::prune::Mark;
use crate::storages::{Storages, operable};

/// Adds this crate's kinds of tasks.
pub fn register_tasks(kinds: &mut Kinds) {
    kinds
        .register::<ImportUpload>()
        .register::<RemoveVolume>()
        .register::<PruneBackups>();
}

/// `imgcopy`: takes an upload into a storage. The upload is gone afterwards, whatever happens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ImportUpload {
    /// Where to.
    pub storage: StorageId,
    /// As what.
    pub content: Content,
    /// Under which name: one that [`crate::upload::upload_name`] gave.
    pub file_name: String,
    /// The upload.
    pub upload: PathBuf,
    /// What its checksum is to be.
    pub checksum: Option<Checksum>,
    /// The node whose storage it is, if that is another one.
    #[serde(default)]
    pub node: Option<NodeName>,
}

impl Task for ImportUpload {
    const KIND: &'static str = "storage::import_upload";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        let mut upload = Upload::open(&self.upload)?;
        let storages = Storages::open(&worker.context)?;
        let volume = VolumeId {
            storage: self.storage,
            name: format!("{}/{}", self.content, self.file_name),
        };
        let target = storages.path(&volume)?;
        if let Some(node) = &self.node {
            let config = storages.check_enabled(&volume.storage, Some(node))?;
            operable(config)?;
            let destination = Destination {
                peer: storages.cfs().peer(node).map_err(StorageError::from)?,
                base: dir::base_path(config)?.to_owned(),
                mount_point: config.mount_point(),
                target,
            };
            return import::send(worker, &mut upload, self.content, self.checksum.as_ref(), &destination);
        }
        storages.activate(&volume.storage)?;
        import::import(worker, &mut upload, self.content, &target, self.checksum.as_ref())
    }
}

/// `imgdel`: removes a volume of any content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RemoveVolume {
    /// The volume.
    pub volume: VolumeId,
}

impl Task for RemoveVolume {
    const KIND: &'static str = "storage::remove_volume";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        let storages = Storages::open(&worker.context)?;
        let path = storages.path(&self.volume)?;
        storages.activate(&self.volume.storage)?;
        let was_there = path.symlink_metadata().is_ok();
        storages.free(&self.volume)?;
        if !was_there {
            worker.log(format!("disk image '{}' does not exist", path.display()));
        }
        worker.log(format!("Removed volume '{}'", self.volume));
        Ok(())
    }
}

/// `prunebackups`: removes the backups that a retention does not keep.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PruneBackups {
    /// Where.
    pub storage: StorageId,
    /// What to keep, as the `prune-backups` option has it; the storage's own retention if not given.
    pub retention: Option<String>,
    /// Only this guest's.
    pub vmid: Option<VmId>,
    /// Only those of guests of this type: `qemu` or `lxc`.
    pub guest_type: Option<String>,
}

impl Task for PruneBackups {
    const KIND: &'static str = "storage::prune_backups";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        let storages = Storages::open(&worker.context)?;
        let retention: Option<Retention> = self.retention.as_deref().map(str::parse).transpose()?;
        let entries = storages.prune_marks(&self.storage, retention, self.vmid, self.guest_type.as_deref())?;
        let mut failed = false;
        for entry in entries.iter().filter(|entry| entry.mark == Mark::Remove) {
            worker.check_interrupt()?;
            worker.log(format!("removing backup '{}'", entry.volid));
            let volume: VolumeId = entry.volid.parse()?;
            if let Err(error) = storages.free(&volume) {
                failed = true;
                worker.log(format!("error when removing backup '{}' - {error}", entry.volid));
            }
        }
        if failed {
            return Err(StorageError::Prune.into());
        }
        Ok(())
    }
}
