//! `POST /nodes/{node}/qemu/{vmid}/vncproxy`, `…/termproxy` and `…/spiceproxy` (reference 06b §13).

use pve_contract::id;
use pve_node::terminal::screen::{DEFAULT_SIDES, Display};
use pve_qemu::config::VmConfig;
use pve_qemu::console::{serial, spice};
use pve_qemu::error::VmError;
use pve_qemu::{files, tasks};
use pve_rest::{ApiResult, Call, Registry};
use pve_schema::ids::VmId;

use super::super::terminal;
use super::super::viewer::Viewer;
use super::shared::{self, vmid};

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
    let vm = VmConfig::new(&config.main);
    terminal::check_websocket(call)?;
    let serial = match vm.vga().is_serial() {
        true => Some(serial::choose(vm, None).ok_or(VmError::NoSerial)?),
        false => None,
    };
    let pass = terminal::pass(call, &format!("/vms/{vmid}"), "VM.Console")?;
    let password = terminal::random_password()?;
    let (port, id) = (pass.port, vmid.to_string());
    let display = Display {
        pass,
        password,
        width: DEFAULT_SIDES.0,
        height: DEFAULT_SIDES.1,
        name: title(vmid, vm),
    };
    match serial {
        None => {
            let password = display.password.clone();
            let task = tasks::Vnc { vmid, port, password };
            terminal::answer_display(call, "vncproxy", id, &display, &task)
        }
        Some(serial) => {
            let task = tasks::SerialScreen {
                vmid,
                serial,
                display: display.clone(),
            };
            terminal::answer_display(call, "vncproxy", id, &display, &task)
        }
    }
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
    let title = title(vmid, VmConfig::new(&config.main));
    let viewer = Viewer {
        title: &title,
        vmid: vmid.get(),
        port: admission.port,
        password: &admission.password,
    };
    viewer.answer(call)
}

/// What a viewer's window is called.
fn title(vmid: VmId, vm: VmConfig<'_>) -> String {
    match vm.name() {
        Some(name) => format!("VM {vmid} - {name}"),
        None => format!("VM {vmid}"),
    }
}
