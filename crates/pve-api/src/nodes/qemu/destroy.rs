//! `DELETE /nodes/{node}/qemu/{vmid}`

use pve_contract::id;
use pve_qemu::{destroy, tasks};
use pve_rest::{ApiResult, Call, Registry};

use super::shared::{self, check_root_only, start_task, vmid};

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::DELETE_NODES_NODE_QEMU_VMID, |call| {
        Box::pin(shared::run(call, destroy_vm))
    });
}

fn destroy_vm(call: &Call) -> ApiResult {
    let vmid = vmid(call)?;
    check_root_only(call, &["skiplock"])?;
    let scope = destroy::Scope {
        skip_lock: call.params.is_set("skiplock"),
        purge: call.params.is_set("purge"),
        unreferenced_disks: call.params.is_set("destroy-unreferenced-disks"),
    };
    destroy::check(&call.context, vmid, scope.skip_lock)?;
    start_task(call, "qmdestroy", vmid, &tasks::Destroy { vmid, scope })
}
