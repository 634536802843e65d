//! `POST /nodes/{node}/wakeonlan` (reference 09 §8). It runs where it is called: the node it is about sleeps.

use pve_cfs::Cfs;
use pve_contract::id;
use pve_node::wake_on_lan;
use pve_rest::{ApiError, ApiResult, Call, Registry};
use serde_json::Value;

use crate::access::audit;

/// Binds the handler of this file.
pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::POST_NODES_NODE_WAKEONLAN, |call| {
        Box::pin(audit::change(call, wake))
    });
}

/// The hardware address that was called.
fn wake(call: &Call) -> ApiResult {
    let own = &call.context.site.node;
    let node = match call.params.required("node") {
        _ if call.is_for_this_node() => own.clone(),
        name => name.parse().map_err(|_| ApiError::unknown_node(name))?,
    };
    Ok(Value::from(wake_on_lan::wake(&Cfs::new(&call.context), &node)?).into())
}
