//! `/nodes/{node}/lxc/{vmid}/status`: what a container does.

use pve_contract::id;
use pve_lxc::status::{self, row::row};
use pve_rest::{ApiResult, Call, Registry};
use serde_json::{Value, json};

use crate::nodes::guest;

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_NODES_NODE_LXC_VMID_STATUS, |call| {
        Box::pin(guest::run(call, index))
    });
    registry.bind(id::GET_NODES_NODE_LXC_VMID_STATUS_CURRENT, |call| {
        Box::pin(guest::run(call, current))
    });
}

fn index(_call: &Call) -> ApiResult {
    Ok(guest::index(&[
        "current", "start", "stop", "shutdown", "reboot", "migrate",
    ]))
}

fn current(call: &Call) -> ApiResult {
    let mut page = row(&status::current(&call.context, guest::vmid(call)?)?);
    // The high-availability manager is not part of the suite yet: it manages nothing.
    page.insert("ha".to_owned(), json!({ "managed": 0 }));
    Ok(Value::Object(page).into())
}
