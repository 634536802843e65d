//! Network cards (reference 06a §7.7).
//!
//! Taps are made before QEMU starts and handed to it by name, so no script runs. Their names are those of
//! [`crate::network::tap_name`].

use super::builder::Builder;
use super::error::CommandError;
use super::facts::Request;
use crate::config::Net;
use crate::network::tap_name;

/// What the kernel takes of an interface name.
const MAX_INTERFACE_NAME: usize = 15;

/// The least MTU of IP.
const MIN_MTU: u64 = 576;

/// Adds the network cards.
pub(super) fn add(builder: &mut Builder<'_>) -> Result<(), CommandError> {
    for (number, net) in builder.request.vm.nets() {
        let netdev = netdev(&builder.request, number, &net)?;
        builder.dev("-netdev", netdev);
        let device = device(builder, number, &net)?;
        builder.device(device);
    }
    Ok(())
}

/// The host's side of a card.
pub(super) fn netdev(request: &Request<'_>, number: u8, net: &Net) -> Result<String, CommandError> {
    if net.bridge().is_none() {
        let name = request
            .vm
            .name()
            .map_or_else(|| format!("vm{}", request.vmid), str::to_owned);
        return Ok(format!("type=user,id=net{number},hostname={name}"));
    }
    let tap = tap_name(request.site, request.vmid, number);
    if tap.len() > MAX_INTERFACE_NAME {
        return Err(CommandError::InterfaceName(tap));
    }
    let vhost = if request.host.vhost_net && net.model == "virtio" {
        ",vhost=on"
    } else {
        ""
    };
    let queues = if net.queues() > 1 {
        format!(",queues={}", net.queues())
    } else {
        String::new()
    };
    Ok(format!(
        "type=tap,id=net{number},ifname={tap},script=no,downscript=no{vhost}{queues}"
    ))
}

/// The guest's side of a card.
pub(super) fn device(builder: &mut Builder<'_>, number: u8, net: &Net) -> Result<String, CommandError> {
    let id = format!("net{number}");
    let virtio = net.model == "virtio";
    let model = if virtio { "virtio-net-pci" } else { &net.model };
    let mac = net.mac.as_ref().map(|mac| format!(",mac={mac}")).unwrap_or_default();
    let address = builder.pci.address(&id);
    let mut device = format!("{model}{mac},netdev={id}{address},id={id}");
    if virtio {
        if net.queues() > 1 {
            device.push_str(&format!(",vectors={},mq=on,packed=on", net.queues() * 2 + 2));
        }
        device.push_str(",rx_queue_size=1024,tx_queue_size=256");
    }
    if let Some(index) = builder.boot_index(&id) {
        device.push_str(&format!(",bootindex={index}"));
    }
    let mtu = net.options.integer("mtu");
    if !virtio {
        if mtu.is_some() {
            builder.note(format!("netdev {id}: ignoring MTU, not a virtio device"));
        }
        return Ok(device);
    }
    if let Some(mtu) = host_mtu(&builder.request, number, net)?
        && (builder.machine.uses(10, 0, 1) || mtu != 1500)
    {
        device.push_str(&format!(",host_mtu={mtu}"));
    }
    device.push_str(tunnel(builder, net));
    Ok(device)
}

/// The MTU that the guest is told; unset, or 1, is the bridge's.
fn host_mtu(request: &Request<'_>, number: u8, net: &Net) -> Result<Option<u64>, CommandError> {
    let bridge_mtu = match net.bridge() {
        Some(bridge) => match request.host.bridges.get(bridge) {
            Some(mtu) => Some(*mtu),
            None => return Err(CommandError::NoBridge(bridge.to_owned())),
        },
        None => None,
    };
    let wanted = net.options.integer("mtu").filter(|mtu| *mtu != 1);
    match (wanted, bridge_mtu) {
        (Some(mtu), _) if mtu < MIN_MTU => Err(CommandError::MtuTooSmall { net: number, mtu }),
        (Some(mtu), Some(bridge)) if mtu > bridge => Err(CommandError::MtuTooBig {
            net: number,
            mtu,
            bridge,
        }),
        (wanted, bridge) => Ok(wanted.or(bridge)),
    }
}

/// Whether tunnelled packets may be offloaded.
fn tunnel(builder: &mut Builder<'_>, net: &Net) -> &'static str {
    let wanted = net.options.flag("host-tunnel");
    let known = builder.request.host.qemu.at_least(10, 2);
    let off = match wanted {
        _ if !known => false,
        Some(true) => false,
        Some(false) => builder.machine.at_least(10, 2),
        None => builder.machine.uses(11, 0, 1),
    };
    if off { ",host_tunnel=off" } else { "" }
}
