//! `/cluster/qemu`

mod cpu_flags;

use pve_contract::id;
use pve_rest::{ApiResult, Call, Registry};
use serde_json::json;

/// Binds the handlers below this folder.
pub(crate) fn register(registry: &mut Registry) {
    registry.bind(id::GET_CLUSTER_QEMU, |call| Box::pin(index(call)));
    registry.bind(id::GET_CLUSTER_QEMU_CPU_FLAGS, |call| Box::pin(cpu_flags::list(call)));
}

/// What is below it: one without a handler answers 501.
async fn index(_call: Call) -> ApiResult {
    Ok(json!([{ "name": "cpu-flags" }, { "name": "custom-cpu-models" }]).into())
}
