//! `/nodes/{node}/qemu/{vmid}/vncwebsocket` (reference 06b §13, 01 §4.4)

use pve_access::AccessControl;
use pve_cfs::{Cfs, GuestKind};
use pve_contract::id;
use pve_rest::{ApiError, ApiResult, Call, Registry, blocking};
use pve_schema::ids::{NodeName, VmId};

use super::websocket::{parameter, to_port};

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
    Ok(to_port(port))
}
