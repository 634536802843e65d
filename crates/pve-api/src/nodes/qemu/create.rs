//! `POST /nodes/{node}/qemu`: a new VM, or one from a backup (reference 06b §7, 05 §15)

use pve_access::AccessControl;
use pve_backup::restore::{Order, Restore};
use pve_cfs::Cfs;
use pve_contract::id;
use pve_qemu::error::VmError;
use pve_qemu::{create, files, restored, tasks};
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
        return restore_vm(call, vmid, &access);
    }
    let order = create::check(&call.context, vmid, &call.params, &access, &call.auth_id())?;
    create::reserve(&call.context, vmid)?;
    let start = call.params.is_set("start");
    let task = tasks::Create { vmid, order, start };
    start_task(call, "qmcreate", vmid, &task).inspect_err(|_| create::release(&call.context, vmid))
}

fn restore_vm(call: &Call, vmid: VmId, access: &AccessControl) -> ApiResult {
    let order = Order::check(&call.context, vmid, &call.params, access, &call.auth_id())?;
    let existed = restored::claim(&call.context, vmid, call.params.is_set("force"))?;
    let start = call.params.is_set("start");
    let task = Restore { vmid, order, start };
    start_task(call, "qmrestore", vmid, &task).inspect_err(|_| restored::abandon(&call.context, vmid, existed))
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
    // Whoever may back up a VM may also bring it back.
    let over = call.params.has("archive") && call.params.is_set("force") && files::exists(&call.context, vmid)?;
    if over && access.has(&who, &format!("/vms/{vmid}"), &["VM.Backup"]) {
        return Ok(());
    }
    access.require_on_guest(&who, vmid.get(), pool, &["VM.Allocate"])?;
    Ok(())
}
