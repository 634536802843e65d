//! Who may use a volume (reference 08 §4.1).

use pve_schema::ids::{AuthId, VmId, VolumeId};

use crate::error::StorageError;
use crate::kind::{Content, ContentSet};
use crate::storages::Storages;

/// Tells whether the caller holds one of the privileges on a path.
pub type HoldsAny<'a> = &'a dyn Fn(&str, &[&str]) -> bool;

/// Who asks for a volume, and what for.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Who asks.
    pub caller: &'a AuthId,
    /// The caller's rights.
    pub holds: HoldsAny<'a>,
    /// The guest that the volume is for.
    pub vmid: Option<VmId>,
    /// What it must be.
    pub expected: Option<Content>,
}

impl Storages {
    /// Whether a caller may use what he named: a volume id, or – root only – a path.
    ///
    /// # Errors
    /// The refusal; also for a volume that cannot be told from its name.
    pub fn check_volume_access(&self, request: &Request<'_>, volume: &str) -> Result<(), StorageError> {
        let Ok(volume) = volume.parse::<VolumeId>() else {
            return if request.caller.is_root() {
                Ok(())
            } else {
                Err(StorageError::RootOnlyPath)
            };
        };
        let (_, name) = self.parse(&volume)?;
        if let Some(expected) = request.expected.filter(|expected| !fits(name.content, *expected)) {
            return Err(StorageError::WrongContent {
                volume: volume.to_string(),
                expected,
            });
        }
        if request.caller.is_root() {
            return Ok(());
        }
        let storage = format!("/storage/{}", volume.storage);
        let holds = |privileges: &[&str]| (request.holds)(&storage, privileges);
        if holds(&["Datastore.Allocate"]) {
            return Ok(());
        }
        let readable = [Content::Iso, Content::Vztmpl, Content::Import].contains(&name.content);
        if readable && holds(&["Datastore.AllocateSpace", "Datastore.Audit"]) {
            return Ok(());
        }
        let Some(owner) = name.owner else {
            return Err(StorageError::NoAccess(volume.to_string()));
        };
        if request.vmid.is_some_and(|vmid| vmid.get() == owner) {
            return Ok(());
        }
        let (on_storage, on_guest) = match name.content {
            Content::Backup => ("Datastore.AllocateSpace", "VM.Backup"),
            Content::Images | Content::Rootdir => ("Datastore.Audit", "VM.Config.Disk"),
            _ => return Err(StorageError::NoAccess(volume.to_string())),
        };
        if !holds(&[on_storage]) {
            return Err(StorageError::permission(&storage, on_storage));
        }
        let guest = format!("/vms/{owner}");
        if !(request.holds)(&guest, &[on_guest]) {
            return Err(StorageError::permission(&guest, on_guest));
        }
        Ok(())
    }
}

/// Whether a volume can serve as what is wanted: a container's disk is named as a VM's is.
fn fits(content: Content, expected: Content) -> bool {
    let disk: ContentSet = [Content::Images, Content::Rootdir].into();
    content == expected || (expected == Content::Rootdir && disk.contains(&content))
}
