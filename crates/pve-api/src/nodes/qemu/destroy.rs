//! `DELETE /nodes/{node}/qemu/{vmid}`

use pve_contract::id;
use pve_jobs::edit::forget_guest;
use pve_qemu::destroy;
use pve_rest::{ApiResult, Call, Registry};
use pve_schema::Context;
use pve_schema::ids::VmId;
use pve_task::{Kinds, Task, TaskError, Worker};
use serde::{Deserialize, Serialize};

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
    start_task(call, "qmdestroy", vmid, &Destroy { vmid, scope })
}

/// `qmdestroy`. Here rather than in `pve-qemu`, since jobs that name the VM are to forget it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Destroy {
    /// The VM.
    pub(crate) vmid: VmId,
    /// What goes along.
    pub(crate) scope: destroy::Scope,
}

impl Task for Destroy {
    const KIND: &'static str = "qemu-destroy";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        let context = worker.context.clone();
        let forget = |context: &Context, vmid| Ok(forget_guest(context, vmid)?);
        Ok(destroy::destroy(&context, self.vmid, self.scope, &forget, worker)?)
    }
}

/// Adds the kinds of task that are defined here.
pub(crate) fn register_tasks(kinds: &mut Kinds) {
    kinds.register::<Destroy>();
}
