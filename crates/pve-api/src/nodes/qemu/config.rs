//! `/nodes/{node}/qemu/{vmid}/config` and `/pending`.

use pve_contract::id;
use pve_qemu::config::json;
use pve_qemu::files;
use pve_rest::{ApiError, ApiResult, Call, Registry};
use pve_schema::ParamErrors;

use super::shared::{self, vmid};

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_NODES_NODE_QEMU_VMID_CONFIG, |call| {
        Box::pin(shared::run(call, read))
    });
    registry.bind(id::GET_NODES_NODE_QEMU_VMID_PENDING, |call| {
        Box::pin(shared::run(call, pending))
    });
}

fn read(call: &Call) -> ApiResult {
    let config = files::load(&call.context, vmid(call)?)?;
    let current = call.params.is_set("current");
    let shown = match call.params.text("snapshot") {
        Some(_) if current => {
            let text = "cannot use 'snapshot' parameter with 'current'".to_owned();
            let errors = ["snapshot", "current"].map(|name| (name.to_owned(), text.clone()));
            return Err(ApiError::parameters(ParamErrors::from(errors)));
        }
        Some(snapshot) => json::snapshot(&config, snapshot)?,
        None if current => json::current(&config),
        None => json::effective(&config),
    };
    Ok(shown.into())
}

fn pending(call: &Call) -> ApiResult {
    Ok(json::pending(&files::load(&call.context, vmid(call)?)?).into())
}
