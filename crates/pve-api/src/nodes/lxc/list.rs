//! `GET /nodes/{node}/lxc` and the index of a container (reference 07 §8, §12).

use pve_access::AccessControl;
use pve_contract::id;
use pve_lxc::files;
use pve_lxc::status::{self, row::row};
use pve_rest::{ApiResult, Call, Registry};
use pve_schema::ids::VmId;
use serde_json::Value;

use crate::nodes::guest;

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_NODES_NODE_LXC, |call| Box::pin(guest::run(call, list)));
    registry.bind(id::GET_NODES_NODE_LXC_VMID, |call| Box::pin(guest::run(call, index)));
}

/// The containers that the caller may see. What cannot be found out of one is left out of its row, and the statistics
/// daemon says why.
fn list(call: &Call) -> ApiResult {
    let access = AccessControl::load(&call.context)?;
    let who = call.auth_id();
    let all = files::list(&call.context)?;
    let visible: Vec<VmId> = all
        .iter()
        .copied()
        .filter(|vmid| access.has(&who, &format!("/vms/{vmid}"), &["VM.Audit"]))
        .collect();
    let seen = status::list(&call.context, &visible, false);
    let rows = seen.statuses.iter().map(|status| Value::Object(row(status)));
    Ok(Value::Array(rows.collect()).into())
}

/// The children of a container, as upstream lists them: those without a handler answer 501.
fn index(_call: &Call) -> ApiResult {
    Ok(guest::index(&[
        "config",
        "pending",
        "status",
        "vncproxy",
        "termproxy",
        "vncwebsocket",
        "spiceproxy",
        "migrate",
        "clone",
        "rrd",
        "rrddata",
        "firewall",
        "snapshot",
        "resize",
        "interfaces",
    ]))
}
