//! `GET /cluster/backup/{id}/included_volumes`: which volumes of which guests a job backs up, and why (reference 05
//! §4.4).

use std::collections::BTreeMap;

use pve_access::AccessControl;
use pve_cfs::{Cfs, CfsError, GuestEntry, GuestKind};
use pve_qemu::config::{Bus, Drive, DriveKey};
use pve_rest::{ApiResult, Call};
use pve_schema::ids::VmId;
use serde_json::{Value, json};

use super::info::name_key;
use super::{job, selection};

/// Number of the last mount point that a container may have.
const LAST_MOUNT_POINT: u16 = 255;

/// A volume of a guest.
#[derive(Debug, PartialEq, Eq)]
struct Volume {
    key: String,
    name: String,
    is_included: bool,
    reason: &'static str,
}

pub(super) fn tree(call: &Call) -> ApiResult {
    let job = job(call)?;
    let cfs = Cfs::new(&call.context);
    let access = AccessControl::load(&call.context)?;
    let guests = cfs.guests()?;
    let selection = selection(call, &access, &job)?;
    let mut vmids: Vec<VmId> = selection.nodes.values().flatten().copied().collect();
    vmids.extend(&selection.orphans);
    vmids.sort_unstable();
    let caller = call.auth_id();
    let mut children = Vec::new();
    for vmid in vmids {
        if !access.has(&caller, &format!("/vms/{vmid}"), &["VM.Audit"]) {
            continue;
        }
        children.push(match guests.iter().find(|guest| guest.vmid == vmid) {
            Some(guest) => row(&cfs, guest)?,
            None => json!({ "id": vmid.get(), "type": "unknown", "leaf": 1 }),
        });
    }
    Ok(json!({ "children": children }).into())
}

fn row(cfs: &Cfs, guest: &GuestEntry) -> Result<Value, CfsError> {
    let (name, volumes) = match guest.kind {
        GuestKind::Qemu => vm(cfs, guest)?,
        GuestKind::Lxc => container(cfs, guest)?,
    };
    let leaves = volumes.iter().map(|volume| {
        json!({
            "id": format!("{}:{}", guest.vmid, volume.key),
            "name": volume.name,
            "included": u8::from(volume.is_included),
            "reason": volume.reason,
            "leaf": 1,
        })
    });
    let mut row = json!({
        "id": guest.vmid.get(),
        "type": guest.kind.as_str(),
        "leaf": u8::from(volumes.is_empty()),
        "children": Value::from_iter(leaves),
    });
    if let (Some(name), Some(row)) = (name, row.as_object_mut()) {
        row.insert("name".to_owned(), name.into());
    }
    Ok(row)
}

type Named = (Option<String>, Vec<Volume>);

fn vm(cfs: &Cfs, guest: &GuestEntry) -> Result<Named, CfsError> {
    let keys: Vec<String> = DriveKey::all().map(|key| key.to_string()).collect();
    let mut names: Vec<&str> = keys.iter().map(String::as_str).collect();
    names.extend(["bios", name_key(guest.kind)]);
    let mut options = cfs.guest_options(guest, &names)?;
    let is_ovmf = options.get("bios").is_some_and(|bios| bios == "ovmf");
    let volumes = DriveKey::all().filter_map(|key| {
        let drive = Drive::parse(key, options.get(&key.to_string())?).ok()?;
        (!drive.is_cdrom() && !drive.is_cloudinit()).then(|| vm_volume(&drive, is_ovmf))
    });
    let volumes = volumes.collect();
    Ok((options.remove(name_key(guest.kind)), volumes))
}

fn vm_volume(drive: &Drive, is_ovmf: bool) -> Volume {
    let (is_included, reason) = match drive.options.flag("backup") {
        _ if drive.key.bus == Bus::Efidisk && !is_ovmf => (false, "efidisk but no OVMF BIOS"),
        None => (true, "backup=yes"),
        // Upstream's word whenever the option is set at all.
        Some(wanted) => (wanted, "backup=no"),
    };
    Volume {
        key: drive.key.to_string(),
        name: drive.file.clone(),
        is_included,
        reason,
    }
}

fn container(cfs: &Cfs, guest: &GuestEntry) -> Result<Named, CfsError> {
    let mount_points = (0..=LAST_MOUNT_POINT).map(|number| format!("mp{number}"));
    let keys: Vec<String> = std::iter::once("rootfs".to_owned()).chain(mount_points).collect();
    let mut names: Vec<&str> = keys.iter().map(String::as_str).collect();
    names.push(name_key(guest.kind));
    let mut options: BTreeMap<String, String> = cfs.guest_options(guest, &names)?;
    let volumes = keys
        .iter()
        .filter_map(|key| Some(container_volume(key, options.get(key)?)))
        .collect();
    Ok((options.remove(name_key(guest.kind)), volumes))
}

fn container_volume(key: &str, text: &str) -> Volume {
    let parts = || text.split(',').map(str::trim);
    let option = |name: &str| parts().find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let bare = parts().find(|part| !part.contains('='));
    let name = option("volume").or(bare).unwrap_or_default();
    let is_wanted = option("backup").and_then(pve_schema::check::boolean_word) == Some(true);
    let (is_included, reason) = match key {
        "rootfs" => (true, "rootfs"),
        _ if name.starts_with('/') => (false, "not a volume"),
        _ if is_wanted => (true, "enabled"),
        _ => (false, "disabled"),
    };
    Volume {
        key: key.to_owned(),
        name: name.to_owned(),
        is_included,
        reason,
    }
}
