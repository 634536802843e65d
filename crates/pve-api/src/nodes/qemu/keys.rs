//! `PUT /nodes/{node}/qemu/{vmid}/sendkey`

use pve_contract::id;
use pve_qemu::power;
use pve_rest::{ApiResult, Call, Registry, Reply};

use super::shared::{self, check_exists, check_root_only, vmid};

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::PUT_NODES_NODE_QEMU_VMID_SENDKEY, |call| {
        Box::pin(shared::run(call, send_key))
    });
}

fn send_key(call: &Call) -> ApiResult {
    let vmid = vmid(call)?;
    check_root_only(call, &["skiplock"])?;
    check_exists(call, vmid)?;
    power::send_key(&call.context, vmid, call.params.required("key"))?;
    Ok(Reply::null())
}
