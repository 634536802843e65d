//! `POST /nodes/{node}/qemu` (reference 06b §7)

use pve_access::AccessControl;
use pve_cfs::Cfs;
use pve_contract::id;
use pve_qemu::error::VmError;
use pve_qemu::{create, tasks};
use pve_rest::{ApiError, ApiResult, Call, Registry};
use pve_schema::ids::VmId;

use super::shared::{self, start_task, vmid};

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::POST_NODES_NODE_QEMU, |call| Box::pin(shared::run(call, create_vm)));
}

fn create_vm(call: &Call) -> ApiResult {
    let vmid = vmid(call)?;
    let access = AccessControl::load(&call.context)?;
    permit(call, vmid, &access)?;
    if call.params.has("archive") {
        return Err(VmError::NotYet("restoring a backup").into());
    }
    let order = create::check(&call.context, vmid, &call.params, &access, &call.auth_id())?;
    create::reserve(&call.context, vmid)?;
    let start = call.params.is_set("start");
    let task = tasks::Create { vmid, order, start };
    start_task(call, "qmcreate", vmid, &task).inspect_err(|_| create::release(&call.context, vmid))
}

/// The checks before all others, in upstream's order.
fn permit(call: &Call, vmid: VmId, access: &AccessControl) -> Result<(), ApiError> {
    let who = call.auth_id();
    let pool = call.params.text("pool");
    Cfs::new(&call.context).check_quorum()?;
    if let Some(pool) = pool {
        access.require_pool(pool)?;
    }
    if let Some(storage) = call.params.text("storage") {
        access.require_all(&who, &format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
    }
    if call.params.is_set("ha-managed") {
        access.require_all(&who, "/", &["Sys.Console"])?;
        return Err(VmError::NotYet("high availability").into());
    }
    if call.params.is_set("start") {
        access.require_on_guest(&who, vmid.get(), pool, &["VM.PowerMgmt"])?;
    }
    access.require_on_guest(&who, vmid.get(), pool, &["VM.Allocate"])?;
    Ok(())
}
