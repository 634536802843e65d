//! `GET /nodes/{node}/lxc/{vmid}/config` (reference 07 §12).

use pve_access::AccessControl;
use pve_contract::id;
use pve_lxc::config::json;
use pve_lxc::files;
use pve_rest::{ApiResult, Call, Registry};
use serde_json::Value;

use crate::nodes::guest::{self, Wanted};

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_NODES_NODE_LXC_VMID_CONFIG, |call| {
        Box::pin(guest::run(call, read))
    });
}

fn read(call: &Call) -> ApiResult {
    let vmid = guest::vmid(call)?;
    let config = files::load(&call.context, vmid)?;
    let mut shown = match Wanted::of(call)? {
        Wanted::Effective => json::effective(&config),
        Wanted::Current => json::current(&config),
        Wanted::Snapshot(name) => json::snapshot(&config, name)?,
    };
    // Variables may hold passwords (reference 07 §4.2).
    let access = AccessControl::load(&call.context)?;
    if !access.has(&call.auth_id(), &format!("/vms/{vmid}"), &["VM.Config.Options"]) {
        shown.remove("env");
    }
    Ok(Value::Object(shown).into())
}
