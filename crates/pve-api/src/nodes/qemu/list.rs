//! `GET /nodes/{node}/qemu` and the index of a VM.

use pve_access::AccessControl;
use pve_contract::id;
use pve_qemu::files;
use pve_qemu::status::{self, Detail};
use pve_rest::{ApiResult, Call, Registry};
use pve_schema::ids::VmId;
use serde_json::Value;

use super::shared;

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_NODES_NODE_QEMU, |call| Box::pin(shared::run(call, list)));
    registry.bind(id::GET_NODES_NODE_QEMU_VMID, |call| {
        Box::pin(shared::run(call, vm_index))
    });
}

/// The VMs that the caller may see.
fn list(call: &Call) -> ApiResult {
    let access = AccessControl::load(&call.context)?;
    let who = call.auth_id();
    let all = files::list(&call.context)?;
    let visible: Vec<VmId> = all
        .iter()
        .copied()
        .filter(|vmid| access.has(&who, &format!("/vms/{vmid}"), &["VM.Audit"]))
        .collect();
    let detail = if call.params.is_set("full") {
        Detail::Full
    } else {
        Detail::Plain
    };
    let rows = status::list(&call.context, &visible, detail, false);
    Ok(Value::Array(rows.into_iter().map(Value::Object).collect()).into())
}

/// The children of a VM, as upstream lists them: those without a handler answer 501.
fn vm_index(_call: &Call) -> ApiResult {
    Ok(shared::index(&[
        "config",
        "cloudinit",
        "pending",
        "status",
        "unlink",
        "vncproxy",
        "termproxy",
        "migrate",
        "resize",
        "move",
        "rrd",
        "rrddata",
        "monitor",
        "agent",
        "snapshot",
        "spiceproxy",
        "sendkey",
        "firewall",
        "mtunnel",
        "remote_migrate",
    ]))
}
