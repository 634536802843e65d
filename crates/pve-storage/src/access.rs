//! Who may use a volume (reference 08 §4.1).

use pve_access::UserConfig;
use pve_schema::ids::{AuthId, VmId, VolumeId};

use crate::error::StorageError;
use crate::kind::{Content, ContentSet};
use crate::storages::Storages;

impl Storages {
    /// Whether a caller may use what he named: a volume id, or – root only – a path. `vmid` is the guest that the volume
    /// is for, `expected` what it must be. An `AccessControl` stands for its [`UserConfig`].
    ///
    /// # Errors
    /// The refusal; also for a volume that cannot be told from its name.
    pub fn check_volume_access(
        &self,
        rights: &UserConfig,
        caller: &AuthId,
        volume: &str,
        vmid: Option<VmId>,
        expected: Option<Content>,
    ) -> Result<(), StorageError> {
        let Ok(volume) = volume.parse::<VolumeId>() else {
            return if caller.is_root() {
                Ok(())
            } else {
                Err(StorageError::RootOnlyPath)
            };
        };
        let (_, name) = self.parse(&volume)?;
        if let Some(expected) = expected.filter(|expected| !fits(name.content, *expected)) {
            return Err(StorageError::WrongContent {
                volume: volume.to_string(),
                expected,
            });
        }
        let storage = format!("/storage/{}", volume.storage);
        if rights.has(caller, &storage, &["Datastore.Allocate"]) {
            return Ok(());
        }
        let readable = [Content::Iso, Content::Vztmpl, Content::Import].contains(&name.content);
        if readable && rights.has_any(caller, &storage, &["Datastore.AllocateSpace", "Datastore.Audit"]) {
            return Ok(());
        }
        let no_access = || StorageError::NoAccess(volume.to_string());
        let owner = name.owner.ok_or_else(no_access)?;
        if vmid.is_some_and(|vmid| vmid.get() == owner) {
            return Ok(());
        }
        let (on_storage, on_guest) = match name.content {
            Content::Backup => ("Datastore.AllocateSpace", "VM.Backup"),
            Content::Images | Content::Rootdir => ("Datastore.Audit", "VM.Config.Disk"),
            _ => return Err(no_access()),
        };
        rights.require_all(caller, &storage, &[on_storage])?;
        rights.require_all(caller, &format!("/vms/{owner}"), &[on_guest])?;
        Ok(())
    }
}

/// Whether a volume can serve as what is wanted: a container's disk is named as a VM's is.
fn fits(content: Content, expected: Content) -> bool {
    let disk: ContentSet = [Content::Images, Content::Rootdir].into();
    content == expected || (expected == Content::Rootdir && disk.contains(&content))
}
