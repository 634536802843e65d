//! `POST /nodes/{node}/qemu/{vmid}/vncproxy`, `…/termproxy` and `…/spiceproxy` (reference 06b §13).

use pve_cfs::{Cfs, Peer};
use pve_contract::id;
use pve_guest::GuestConfig;
use pve_node::terminal::screen::{DEFAULT_SIDES, Display};
use pve_node::terminal::{Shell, ShellScreen};
use pve_qemu::config::VmConfig;
use pve_qemu::console::{serial, spice, vnc};
use pve_qemu::error::VmError;
use pve_qemu::{files, tasks};
use pve_rest::{ApiError, ApiResult, Call, Registry};
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
    let Guest { vmid, config, peer } = Guest::find(call)?;
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
    match (serial, peer) {
        (None, peer) => {
            let password = display.password.clone();
            let far = peer.map(|peer| far_display(&peer, vmid));
            let task = tasks::Vnc {
                vmid,
                port,
                password,
                far,
            };
            terminal::answer_display(call, "vncproxy", id, &display, &task)
        }
        (Some(serial), None) => {
            let task = tasks::SerialScreen {
                vmid,
                serial,
                display: display.clone(),
            };
            terminal::answer_display(call, "vncproxy", id, &display, &task)
        }
        (Some(serial), Some(peer)) => {
            let task = ShellScreen {
                display: display.clone(),
                command: far_terminal(&peer, vmid, serial),
            };
            terminal::answer_display(call, "vncproxy", id, &display, &task)
        }
    }
}

/// A serial port of the VM, for xterm.js.
fn term_proxy(call: &Call) -> ApiResult {
    let Guest { vmid, config, peer } = Guest::find(call)?;
    // The contract lets only serial0 to serial3 through.
    let asked = call
        .params
        .text("serial")
        .and_then(|name| name.strip_prefix("serial")?.parse().ok());
    let serial = serial::choose(VmConfig::new(&config.main), asked).ok_or(VmError::NoSerial)?;
    let pass = terminal::pass(call, &format!("/vms/{vmid}"), "VM.Console")?;
    let id = vmid.to_string();
    if let Some(peer) = peer {
        let task = Shell {
            pass: pass.clone(),
            command: far_terminal(&peer, vmid, serial),
        };
        return terminal::answer(call, "vncproxy", id, &pass, &task);
    }
    let task = tasks::SerialTerminal {
        vmid,
        serial,
        pass: pass.clone(),
    };
    terminal::answer(call, "vncproxy", id, &pass, &task)
}

/// The VM that a console is of. These methods run where they are called, and reach other nodes by ssh (reference 01
/// §4.5).
struct Guest {
    vmid: VmId,
    config: GuestConfig,
    /// The node that has it, if that is another one.
    peer: Option<Peer>,
}

impl Guest {
    fn find(call: &Call) -> Result<Self, ApiError> {
        let vmid = vmid(call)?;
        let node = terminal::other_node(call)?;
        let config = match &node {
            None => files::load(&call.context, vmid)?,
            Some(node) => files::load_from(&call.context, node, vmid)?,
        };
        let peer = node.map(|node| Cfs::new(&call.context).peer(&node)).transpose()?;
        Ok(Self { vmid, config, peer })
    }
}

/// What connects the display of another node's VM; the password goes along in the environment.
fn far_display(peer: &Peer, vmid: VmId) -> Vec<String> {
    let mut command = peer.with_pipes(&[vnc::PASSWORD_VARIABLE]);
    command.extend(["qm".to_owned(), "vncproxy".to_owned(), vmid.to_string()]);
    command
}

/// What shows a serial port of another node's VM.
fn far_terminal(peer: &Peer, vmid: VmId, serial: u8) -> Vec<String> {
    let mut command = peer.with_terminal();
    command.extend(["qm".to_owned(), "terminal".to_owned(), vmid.to_string()]);
    // Every key is the guest's.
    command.extend(["-escape", "0", "-iface"].map(str::to_owned));
    command.push(format!("serial{serial}"));
    command
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consoles_of_other_nodes_are_reached_by_ssh() {
        let peer = Peer {
            node: "n2".parse().unwrap(),
            address: [192, 0, 2, 2].into(),
            known_hosts: None,
        };
        let vmid: VmId = 105.try_into().unwrap();
        let display = far_display(&peer, vmid).join(" ");
        assert!(display.contains(" -o SendEnv=LC_PVE_TICKET "), "{display}");
        assert!(display.ends_with(" root@192.0.2.2 -- qm vncproxy 105"), "{display}");
        let terminal = far_terminal(&peer, vmid, 1).join(" ");
        let expected = " -t root@192.0.2.2 -- qm terminal 105 -escape 0 -iface serial1";
        assert!(terminal.ends_with(expected), "{terminal}");
    }
}
