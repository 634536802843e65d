//! What is to be restored, and the checks before the task (reference 05 §15, 06b §7).

use std::path::PathBuf;

use pve_access::UserConfig;
use pve_qemu::config::{DriveKey, ParameterError};
use pve_qemu::create;
use pve_schema::ids::{AuthId, StorageId, VmId, VolumeId};
use pve_schema::{Context, Params};
use pve_storage::archive::ArchiveInfo;
use pve_storage::{Content, StorageKind, Storages};
use serde::{Deserialize, Serialize};

use super::error::RestoreError;

/// What is to be restored, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// A volume id, or an absolute path.
    pub archive: String,
    /// Where all disks go; where they were if none is given.
    pub storage: Option<StorageId>,
    /// The VM is to live beside the one that was backed up.
    pub unique: bool,
    /// At most so many KiB per second; 0 is without limit.
    pub bwlimit: Option<f64>,
    /// The caller's own values for keys of the config, and the pool that the VM joins.
    pub own: create::Order,
}

impl Order {
    /// Reads the parameters of a restore, and checks that the caller may use archive, storage and values. That he may
    /// restore the VM was checked before.
    ///
    /// # Errors
    /// What is wrong with the parameters, or a privilege that is missing.
    pub fn check(
        context: &Context,
        vmid: VmId,
        params: &Params,
        rights: &UserConfig,
        who: &AuthId,
    ) -> Result<Self, RestoreError> {
        if let Some(key) = params.iter().map(|(name, _)| name).find(|name| is_drive(name)) {
            let key = if key == "cdrom" { "ide2" } else { key };
            return Err(ParameterError::at(key, "option conflicts with option 'archive'").into());
        }
        let archive = params.text("archive").unwrap_or_default();
        if archive == "-" {
            return Err(RestoreError::Pipe);
        }
        let storages = Storages::open(context)?;
        check_archive(&storages, vmid, archive, rights, who)?;
        let on_server = archive
            .parse::<VolumeId>()
            .ok()
            .and_then(|volume| Some(storages.config(&volume.storage).ok()?.kind == StorageKind::Pbs));
        if params.is_set("live-restore") && on_server != Some(true) {
            return Err(RestoreError::LiveRestore);
        }
        let own = create::check(context, vmid, params, rights, who)?;
        Ok(Self {
            archive: archive.to_owned(),
            storage: params.parse("storage").ok().flatten(),
            unique: params.is_set("unique"),
            bwlimit: params.text("bwlimit").and_then(|text| text.parse().ok()),
            own,
        })
    }

    /// Where the archive is, and what its name says.
    ///
    /// # Errors
    /// There is no such volume, or it is no backup of a VM that this build reads.
    pub(super) fn locate(&self, storages: &Storages) -> Result<(PathBuf, ArchiveInfo), RestoreError> {
        let path = match self.archive.parse::<VolumeId>() {
            Ok(volume) => {
                storages.activate(&volume.storage)?;
                storages.path(&volume)?
            }
            Err(_) => PathBuf::from(&self.archive),
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let info = ArchiveInfo::of(&name)?;
        match (info.guest_type, info.format) {
            ("qemu", "vma") => Ok((path, info)),
            ("qemu", _) => Err(RestoreError::NotYet("restoring a VM from a '.tar' archive")),
            _ => Err(RestoreError::OtherGuest(self.archive.clone())),
        }
    }

    /// The storage that the archive is on.
    pub(super) fn source(&self) -> Option<StorageId> {
        Some(self.archive.parse::<VolumeId>().ok()?.storage)
    }
}

fn is_drive(name: &str) -> bool {
    name == "cdrom" || name.parse::<DriveKey>().is_ok()
}

/// The rule of reference 05 §12.3: the storage's, and always `VM.Backup` on the guest that was backed up.
fn check_archive(
    storages: &Storages,
    vmid: VmId,
    archive: &str,
    rights: &UserConfig,
    who: &AuthId,
) -> Result<(), RestoreError> {
    storages.check_volume_access(rights, who, archive, Some(vmid), Some(Content::Backup))?;
    let Ok(volume) = archive.parse::<VolumeId>() else {
        return match archive.starts_with('/') {
            true => Ok(()),
            false => Err(ParameterError::at("archive", format!("unable to parse volume ID '{archive}'")).into()),
        };
    };
    let (_, name) = storages.parse(&volume)?;
    if let Some(owner) = name.owner {
        rights.require_all(who, &format!("/vms/{owner}"), &["VM.Backup"])?;
    }
    Ok(())
}
