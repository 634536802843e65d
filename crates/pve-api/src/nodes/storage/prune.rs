//! Pruning backups: what would be done, and doing it.

use pve_access::AccessControl;
use pve_rest::{ApiError, ApiResult, Call, blocking};
use pve_schema::ids::VmId;
use pve_storage::Storages;
use pve_storage::config::Retention;
use pve_storage::tasks::PruneBackups;
use serde_json::Value;

use crate::storage::storage_id;
use crate::task;

fn vmid(call: &Call) -> Option<VmId> {
    call.params.parse("vmid").ok().flatten()
}

fn retention(call: &Call) -> Result<Option<Retention>, ApiError> {
    let given = call.params.parse("prune-backups");
    given.map_err(|error: pve_storage::config::retention::InvalidRetention| {
        ApiError::parameter("prune-backups", error.to_string())
    })
}

/// `GET /nodes/{node}/storage/{storage}/prunebackups`
pub(super) async fn dry_run(call: Call) -> ApiResult {
    blocking(move || {
        let storages = Storages::open(&call.context)?;
        let guest_type = call.params.text("type");
        let entries = storages.prune_marks(&storage_id(&call)?, retention(&call)?, vmid(&call), guest_type)?;
        let rows = serde_json::to_value(entries).map_err(|error| ApiError::plain(error.to_string()))?;
        Ok::<_, ApiError>(rows.into())
    })
    .await
}

/// `DELETE /nodes/{node}/storage/{storage}/prunebackups`
pub(super) async fn delete(call: Call) -> ApiResult {
    blocking(move || {
        let rights = AccessControl::load(&call.context)?;
        let caller = call.auth_id();
        let storage = storage_id(&call)?;
        let path = format!("/storage/{storage}");
        let id = match vmid(&call) {
            Some(vmid) => {
                rights.require_all(&caller, &path, &["Datastore.AllocateSpace"])?;
                rights.require_all(&caller, &format!("/vms/{vmid}"), &["VM.Backup"])?;
                format!("{vmid}@{storage}")
            }
            None => {
                rights.require_all(&caller, &path, &["Datastore.Allocate"])?;
                storage.to_string()
            }
        };
        let order = PruneBackups {
            storage,
            retention: retention(&call)?.map(|retention| retention.to_string()),
            vmid: vmid(&call),
            guest_type: call.params.text("type").map(str::to_owned),
        };
        let upid = task::start(&call, "prunebackups", id, &order)?;
        Ok::<_, ApiError>(Value::from(upid.to_string()).into())
    })
    .await
}
