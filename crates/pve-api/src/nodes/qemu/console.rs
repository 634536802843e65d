//! `POST /nodes/{node}/qemu/{vmid}/vncproxy` and `…/spiceproxy` (reference 06b §13).

use std::time::{Duration, Instant};

use pve_access::AccessControl;
use pve_cfs::Cfs;
use pve_contract::id;
use pve_qemu::config::VmConfig;
use pve_qemu::console::{is_listening, ports, spice, vnc};
use pve_qemu::error::VmError;
use pve_qemu::{files, tasks};
use pve_rest::{ApiError, ApiResult, Call, Registry};
use serde_json::json;

use super::super::viewer::Viewer;
use super::shared::{self, start_task, vmid};

/// How long the task may take to listen.
const LISTEN: Duration = Duration::from_secs(5);
/// How often that is looked at.
const POLL: Duration = Duration::from_millis(20);

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::POST_NODES_NODE_QEMU_VMID_VNCPROXY, |call| {
        Box::pin(shared::run(call, vnc_proxy))
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

fn wait_until_listening(call: &Call, port: u16) -> Result<(), ApiError> {
    let deadline = Instant::now() + LISTEN;
    while !is_listening(call.context.site.address, port) {
        if Instant::now() >= deadline {
            return Err(ApiError::plain(format!(
                "Timeout while waiting for port '{port}' to get ready!"
            )));
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
