//! `/cluster/backup-info` (reference 05 §4).

use pve_access::AccessControl;
use pve_cfs::{Cfs, GuestEntry, GuestKind};
use pve_contract::id;
use pve_jobs::{JobKind, JobsCfg};
use pve_rest::{ApiError, ApiResult, Call, Registry};
use serde_json::{Value, json};

use super::{run, selection};

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_CLUSTER_BACKUP_INFO, |call| Box::pin(run(call, index)));
    registry.bind(id::GET_CLUSTER_BACKUP_INFO_NOT_BACKED_UP, |call| {
        Box::pin(run(call, not_backed_up))
    });
}

/// `GET /cluster/backup-info`
fn index(_call: &Call) -> ApiResult {
    Ok(json!([{ "subdir": "not-backed-up" }]).into())
}

/// `GET /cluster/backup-info/not-backed-up`
fn not_backed_up(call: &Call) -> ApiResult {
    let cfs = Cfs::new(&call.context);
    let access = AccessControl::load(&call.context)?;
    let guests = cfs.guests()?;
    let selections = JobsCfg::read(&cfs)?
        .sections(JobKind::Vzdump)
        .map(|job| selection(call, &access, job))
        .collect::<Result<Vec<_>, _>>()?;
    let caller = call.auth_id();
    let mut rows = Vec::new();
    for guest in &guests {
        let is_selected = selections.iter().any(|selection| selection.contains(guest.vmid));
        if !is_selected && access.has(&caller, &format!("/vms/{}", guest.vmid), &["VM.Audit"]) {
            rows.push(row(&cfs, guest)?);
        }
    }
    Ok(Value::from(rows).into())
}

fn row(cfs: &Cfs, guest: &GuestEntry) -> Result<Value, ApiError> {
    let key = name_key(guest.kind);
    let name = cfs.guest_options(guest, &[key])?.remove(key);
    let mut row = json!({ "vmid": guest.vmid.get(), "type": guest.kind.as_str() });
    if let (Some(name), Some(row)) = (name, row.as_object_mut()) {
        row.insert("name".to_owned(), name.into());
    }
    Ok(row)
}

/// The option that names a guest.
pub(super) fn name_key(kind: GuestKind) -> &'static str {
    match kind {
        GuestKind::Qemu => "name",
        GuestKind::Lxc => "hostname",
    }
}
