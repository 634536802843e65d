//! `/nodes/{node}/qemu/{vmid}/status`: what a VM does.

use pve_contract::id;
use pve_qemu::status;
use pve_rest::{ApiResult, Call, Registry};
use serde_json::Value;

use super::shared;

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_NODES_NODE_QEMU_VMID_STATUS, |call| {
        Box::pin(shared::run(call, index))
    });
    registry.bind(id::GET_NODES_NODE_QEMU_VMID_STATUS_CURRENT, |call| {
        Box::pin(shared::run(call, current))
    });
}

/// Without `resume`, which exists all the same: upstream's list.
fn index(_call: &Call) -> ApiResult {
    Ok(shared::index(&[
        "current", "start", "stop", "reset", "shutdown", "suspend", "reboot",
    ]))
}

fn current(call: &Call) -> ApiResult {
    let page = status::current(&call.context, shared::vmid(call)?)?;
    Ok(Value::Object(page).into())
}
