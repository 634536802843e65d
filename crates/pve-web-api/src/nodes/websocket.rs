//! `/nodes/{node}/vncwebsocket`, and what it shares with the consoles of guests (reference 01 §4.4)

use pve_access::AccessControl;
use pve_contract::id;
use pve_rest::{ApiError, ApiResult, Call, Endpoint, Registry, Reply, blocking};
use serde_json::json;

/// Binds the handlers of this file.
pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_NODES_NODE_VNCWEBSOCKET, |call| {
        Box::pin(blocking(move || vnc_websocket(&call)))
    });
}

/// Connects a websocket to the port that `termproxy` gave out, if the ticket is for it.
fn vnc_websocket(call: &Call) -> ApiResult {
    let port: u16 = parameter(call, "port")?;
    let path = format!("/nodes/{}", call.params.required("node"));
    let ticket = call.params.required("vncticket");
    AccessControl::load(&call.context)?.verify_vnc_ticket(ticket, &call.auth_id(), &path, Some(port))?;
    Ok(to_port(port))
}

/// The answer that leads a websocket to a port of the site's address.
pub(super) fn to_port(port: u16) -> Reply {
    Reply {
        data: json!({ "port": port.to_string() }),
        websocket: Some(Endpoint::Port(port)),
        ..Reply::default()
    }
}

/// A parameter that the contract requires, as its type.
pub(super) fn parameter<T>(call: &Call, name: &str) -> Result<T, ApiError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let text = call.params.required(name);
    text.parse()
        .map_err(|error: T::Err| ApiError::parameter(name, error.to_string()))
}
