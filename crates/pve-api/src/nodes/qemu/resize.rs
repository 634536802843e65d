//! `PUT /nodes/{node}/qemu/{vmid}/resize`

use pve_contract::id;
use pve_qemu::{resize, tasks};
use pve_rest::{ApiResult, Call, Registry};

use super::shared::{self, check_exists, check_root_only, start_task, vmid};

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::PUT_NODES_NODE_QEMU_VMID_RESIZE, |call| {
        Box::pin(shared::run(call, resize_disk))
    });
}

/// What is wrong with the disk or the size is found in the task, as upstream has it.
fn resize_disk(call: &Call) -> ApiResult {
    let vmid = vmid(call)?;
    check_root_only(call, &["skiplock"])?;
    check_exists(call, vmid)?;
    let order = resize::Order {
        disk: call.params.required("disk").to_owned(),
        size: call.params.required("size").to_owned(),
        digest: call.params.text("digest").map(str::to_owned),
        skip_lock: call.params.is_set("skiplock"),
    };
    start_task(call, "resize", vmid, &tasks::Resize { vmid, order })
}
