//! `POST /nodes/{node}/qemu/{vmid}/vncproxy`, `…/termproxy` and `…/spiceproxy` (reference 06b §13).

use pve_access::AccessControl;
use pve_cfs::Cfs;
use pve_contract::id;
use pve_node::console::ports;
use pve_qemu::config::VmConfig;
use pve_qemu::console::{serial, spice, vnc};
use pve_qemu::error::VmError;
use pve_qemu::{files, tasks};
use pve_rest::{ApiError, ApiResult, Call, Registry};
use serde_json::json;

use super::super::terminal::{self, wait_until_listening};
use super::super::viewer::Viewer;
use super::shared::{self, start_task, vmid};

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::POST_NODES_NODE_QEMU_VMID_VNCPROXY, |call| {
        Box::pin(shared::run(call, vnc_proxy))
    });
    registry.bind(id::POST_NODES_NODE_QEMU_VMID_TERMPROXY, |call| {
        Box::pin(shared::run(call, term_proxy))
    });
    registry.bind(id::POST_NODES_NODE_QEMU_VMID_SPICEPROXY, |call| {
        Box::pin(shared::run(call, spice_proxy))
    });
}

fn vnc_proxy(call: &Call) -> ApiResult {
    let vmid = vmid(call)?;
    if !call.is_for_this_node() {
        return Err(VmError::NotYet("the console of another node's VM").into());
    }
    let config = files::load(&call.context, vmid)?;
    if VmConfig::new(&config.main).vga().is_serial() {
        return Err(VmError::NotYet("a VNC console for a serial display").into());
    }
    if !call.params.is_set("websocket") {
        return Err(VmError::VncWithoutWebsocket.into());
    }
    let port = ports::reserve(&call.context, ports::VNC)?;
    let password = vnc::random_password().map_err(|error| ApiError::plain(format!("no random bytes - {error}")))?;
    let who = call.auth_id();
    let path = format!("/vms/{vmid}");
    let ticket = AccessControl::load(&call.context)?.vnc_ticket(&who, &path, Some(port))?;
    let task = tasks::Vnc {
        vmid,
        port,
        password: password.clone(),
    };
    let upid = start_task(call, "vncproxy", vmid, &task)?.data;
    wait_until_listening(call, port)?;
    let certificate = Cfs::new(&call.context)
        .read_text("pve-root-ca.pem")?
        .unwrap_or_default();
    let reply = json!({
        "user": who.to_string(),
        // Old clients send the whole ticket as password, of which VNC takes the first eight characters.
        "ticket": format!("{password}:{ticket}"),
        "port": port,
        "upid": upid,
        "cert": certificate,
        "password": password,
    });
    Ok(reply.into())
}

/// A serial port of the VM, for xterm.js.
fn term_proxy(call: &Call) -> ApiResult {
    let vmid = vmid(call)?;
    if !call.is_for_this_node() {
        return Err(VmError::NotYet("the console of another node's VM").into());
    }
    let config = files::load(&call.context, vmid)?;
    // The contract lets only serial0 to serial3 through.
    let asked = call
        .params
        .text("serial")
        .and_then(|name| name.strip_prefix("serial")?.parse().ok());
    let serial = serial::choose(VmConfig::new(&config.main), asked).ok_or(VmError::NoSerial)?;
    let pass = terminal::pass(call, &format!("/vms/{vmid}"), "VM.Console")?;
    let task = tasks::SerialTerminal {
        vmid,
        serial,
        pass: pass.clone(),
    };
    terminal::answer(call, "vncproxy", vmid.to_string(), &pass, &task)
}

fn spice_proxy(call: &Call) -> ApiResult {
    let vmid = vmid(call)?;
    let config = files::load(&call.context, vmid)?;
    let admission = spice::admit(&call.context.site, vmid)?;
    let title = match VmConfig::new(&config.main).name() {
        Some(name) => format!("VM {vmid} - {name}"),
        None => format!("VM {vmid}"),
    };
    let viewer = Viewer {
        title: &title,
        vmid: vmid.get(),
        port: admission.port,
        password: &admission.password,
    };
    viewer.answer(call)
}
