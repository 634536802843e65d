//! `/nodes/{node}/qemu/{vmid}/vncwebsocket` (reference 06b §13, 01 §4.4)

use pve_access::AccessControl;
use pve_cfs::{Cfs, GuestKind};
use pve_contract::id;
use pve_rest::{ApiError, ApiResult, Call, Endpoint, Registry, Reply, blocking};
use pve_schema::ids::{NodeName, VmId};
use serde_json::json;

/// Binds the handlers below this folder.
pub(crate) fn register(registry: &mut Registry) {
    registry.bind(id::GET_NODES_NODE_QEMU_VMID_VNCWEBSOCKET, |call| {
        Box::pin(blocking(move || vnc_websocket(&call)))
    });
}

/// Connects a websocket to the port that `vncproxy` gave out, if the ticket is for it.
fn vnc_websocket(call: &Call) -> ApiResult {
    let vmid: VmId = parameter(call, "vmid")?;
    let node: NodeName = parameter(call, "node")?;
    let port: u16 = parameter(call, "port")?;
    let who = call.auth_id();
    let access = AccessControl::load(&call.context)?;
    let ticket = call.params.required("vncticket");
    access.verify_vnc_ticket(ticket, &who, &format!("/vms/{vmid}"), Some(port))?;
    let config = Cfs::guest_config_path(GuestKind::Qemu, &node, vmid);
    if !Cfs::new(&call.context).exists(&config)? {
        return Err(ApiError::plain(format!("Configuration file '{config}' does not exist")));
    }
    Ok(Reply {
        data: json!({ "port": port.to_string() }),
        websocket: Some(Endpoint::Port(port)),
        ..Reply::default()
    })
}

/// A parameter that the contract requires, as its type.
fn parameter<T>(call: &Call, name: &str) -> Result<T, ApiError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let text = call.params.required(name);
    text.parse()
        .map_err(|error: T::Err| ApiError::parameter(name, error.to_string()))
}
