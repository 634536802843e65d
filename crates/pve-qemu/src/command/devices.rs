//! The small devices: serial and parallel lines, agent, random numbers, balloon, watchdog, shared memory
//! (reference 06a §7.2).

use super::builder::Builder;
use super::error::CommandError;
use crate::config::AgentPort;
use crate::runtime::Runtime;

/// `vmgenid`: a number that changes when the guest is not what it was (a clone, a rollback).
pub(super) fn add_generation_id(builder: &mut Builder<'_>) {
    if let Some(guid) = builder
        .request
        .vm
        .get("vmgenid")
        .filter(|guid| !matches!(*guid, "0" | "1"))
    {
        builder.device(format!("vmgenid,guid={guid}"));
    }
}

/// Serial lines: sockets, or devices of the node.
pub(super) fn add_serials(builder: &mut Builder<'_>) -> Result<(), CommandError> {
    let request = builder.request;
    for (number, target) in request.vm.family("serial", 3) {
        let id = format!("serial{number}");
        if target == "socket" {
            let path = Runtime::new(request.site, request.vmid).serial(number);
            builder.dev(
                "-chardev",
                format!("socket,id={id},path={},server=on,wait=off", path.display()),
            );
        } else if target.starts_with("/dev/") {
            builder.dev("-chardev", format!("serial,id={id},path={target}"));
        } else {
            return Err(CommandError::NoSerialDevice);
        }
        builder.device(format!("isa-serial,chardev={id}"));
    }
    Ok(())
}

/// Parallel ports of the node.
pub(super) fn add_parallels(builder: &mut Builder<'_>) {
    for (number, path) in builder.request.vm.family("parallel", 2) {
        let kind = if path.starts_with("/dev/usb/lp") {
            "serial"
        } else {
            "parallel"
        };
        builder.dev("-chardev", format!("{kind},id=parallel{number},path={path}"));
        builder.device(format!("isa-parallel,chardev=parallel{number}"));
    }
}

/// The line to the agent inside the guest.
pub(super) fn add_agent(builder: &mut Builder<'_>) {
    let Some(agent) = builder.request.vm.agent() else {
        return;
    };
    let path = Runtime::new(builder.request.site, builder.request.vmid).agent();
    builder.dev(
        "-chardev",
        format!("socket,path={},server=on,wait=off,id=qga0", path.display()),
    );
    match agent.port {
        AgentPort::Isa => builder.device("isa-serial,chardev=qga0"),
        AgentPort::Virtio => {
            let address = builder.pci.address("qga0");
            builder.device(format!("virtio-serial,id=qga0{address}"));
            builder.device("virtserialport,chardev=qga0,name=org.qemu.guest_agent.0");
        }
    }
}

/// Random numbers from the node.
pub(super) fn add_rng(builder: &mut Builder<'_>) -> Result<(), CommandError> {
    let Some(rng) = builder.request.vm.props("rng0")? else {
        return Ok(());
    };
    let source = rng.get("source").unwrap_or("/dev/urandom");
    let limit = match rng.integer("max_bytes").unwrap_or(1024) {
        0 => String::new(),
        bytes => format!(",max-bytes={bytes},period={}", rng.integer("period").unwrap_or(1000)),
    };
    let address = builder.pci.address("rng0");
    builder.dev("-object", format!("rng-random,filename={source},id=rng0"));
    builder.device(format!("virtio-rng-pci,rng=rng0{limit}{address}"));
    Ok(())
}

/// The balloon, through which the node asks for memory back.
pub(super) fn add_balloon(builder: &mut Builder<'_>) {
    if builder.request.vm.balloon() != Some(0) {
        let address = builder.pci.address("balloon0");
        builder.device(format!(
            "virtio-balloon-pci,id=balloon0{address},free-page-reporting=on"
        ));
    }
}

/// The watchdog. The ISA model has no place on a PCI bus (reference 06a §7.2).
pub(super) fn add_watchdog(builder: &mut Builder<'_>) -> Result<(), CommandError> {
    let Some(watchdog) = builder.request.vm.props("watchdog")? else {
        return Ok(());
    };
    let model = watchdog.get("model").unwrap_or("i6300esb");
    let address = if model == "ib700" {
        String::new()
    } else {
        builder.pci.address("watchdog")
    };
    builder.device(format!("{model}{address}"));
    if let Some(action) = watchdog.get("action") {
        builder.dev("-watchdog-action", action);
    }
    Ok(())
}

/// Memory shared with a program of the node. In a lab its name carries the instance mark.
pub(super) fn add_shared_memory(builder: &mut Builder<'_>) -> Result<(), CommandError> {
    let request = builder.request;
    let Some(memory) = request.vm.props("ivshmem")? else {
        return Ok(());
    };
    let name = memory
        .get("name")
        .map_or_else(|| request.vmid.to_string(), str::to_owned);
    let mark = request
        .site
        .instance
        .as_ref()
        .map(|mark| format!("{}-", mark.as_str()))
        .unwrap_or_default();
    let size = memory.integer("size").unwrap_or(1);
    let address = builder.pci.address("ivshmem");
    builder.device(format!("ivshmem-plain,memdev=ivshmem{address},").trim_end_matches(','));
    builder.dev(
        "-object",
        format!("memory-backend-file,id=ivshmem,share=on,mem-path=/dev/shm/pve-shm-{mark}{name},size={size}M"),
    );
    Ok(())
}

/// The paravirtual IOMMU.
pub(super) fn add_virtio_iommu(builder: &mut Builder<'_>) -> Result<(), CommandError> {
    let machine = builder.request.vm.machine()?;
    if machine.viommu == Some(crate::config::Viommu::Virtio) {
        let bits = machine
            .address_bits
            .map(|bits| format!(",aw-bits={bits}"))
            .unwrap_or_default();
        builder.device(format!("virtio-iommu-pci{bits}"));
    }
    Ok(())
}
