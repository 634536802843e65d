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
    let is_over = permit(call, vmid, &access)?;
    if call.params.has("archive") {
        return restore_vm(call, vmid, &access, is_over);
    }
    let order = create::check(&call.context, vmid, &call.params, &access, &call.auth_id())?;
    create::reserve(&call.context, vmid)?;
    let start = call.params.is_set("start");
    let task = tasks::Create { vmid, order, start };
    start_task(call, "qmcreate", vmid, &task).inspect_err(|_| create::release(&call.context, vmid))
}

fn restore_vm(call: &Call, vmid: VmId, access: &AccessControl, is_over: bool) -> ApiResult {
    let order = Order::check(&call.context, vmid, &call.params, access, &call.auth_id())?;
    // A VM that came into being since the checks was not part of them.
    let existed = restored::claim(&call.context, vmid, is_over)?;
    let start = call.params.is_set("start");
    let task = Restore { vmid, order, start };
    start_task(call, "qmrestore", vmid, &task).inspect_err(|_| restored::abandon(&call.context, vmid, existed))
}

/// The checks before all others, in upstream's order. Tells whether a VM is to be overwritten.
///
/// Stricter than upstream there: rights on a pool say what may be made in it. They do not reach a VM that exists, which
/// the pool's members get to themselves by this call.
fn permit(call: &Call, vmid: VmId, access: &AccessControl) -> Result<bool, ApiError> {
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
    let is_over = call.params.has("archive") && call.params.is_set("force") && files::exists(&call.context, vmid)?;
    let of_pool = pool.filter(|_| !is_over);
    if call.params.is_set("start") {
        access.require_on_guest(&who, vmid.get(), of_pool, &["VM.PowerMgmt"])?;
    }
    // Whoever may back up a VM may also bring it back, where it was.
    let is_back = is_over && pool.is_none() && access.has(&who, &format!("/vms/{vmid}"), &["VM.Backup"]);
    if !is_back {
        access.require_on_guest(&who, vmid.get(), of_pool, &["VM.Allocate"])?;
    }
    Ok(is_over)
}
