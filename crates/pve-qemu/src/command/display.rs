//! The guest's picture: VGA, VNC, SPICE (reference 06a §7.11).

use super::builder::Builder;
use super::error::CommandError;
use super::facts::{HostFacts, Request};
use crate::accel::Accel;
use crate::config::{OsType, Vga, VmConfig};
use crate::runtime::Runtime;

/// The display that a guest gets.
#[derive(Debug, Clone)]
pub(super) struct Display {
    vga: Vga,
    /// The type, never unset: `std`, `qxl2`, `serial0`, …
    kind: String,
    /// Whether a SPICE server runs.
    pub(super) spice: bool,
}

impl Display {
    /// The display of a config on a node.
    pub(super) fn of(vm: VmConfig<'_>, host: &HostFacts) -> Self {
        let vga = vm.vga();
        let old_windows = matches!(vm.ostype(), OsType::Windows(version) if version < 6);
        let default = if old_windows { "cirrus" } else { "std" };
        let kind = match &vga.kind {
            // Without SPICE there is no QXL either.
            Some(_) if vga.qxl_heads().is_some() && !host.spice => "std",
            Some(kind) => kind,
            None => default,
        };
        let kind = kind.to_owned();
        let spice = host.spice && vga.has_spice();
        Self { vga, kind, spice }
    }

    /// Whether there is no picture at all.
    pub(super) fn is_headless(&self) -> bool {
        self.vga.is_headless()
    }

    /// Whether the picture is QXL's.
    pub(super) fn is_qxl(&self) -> bool {
        self.kind.starts_with("qxl")
    }

    /// Whether the guest gets a tablet unless its config says otherwise.
    pub(super) fn wants_tablet(&self) -> bool {
        !self.is_qxl() && !self.vga.is_serial()
    }

    /// The device's name in QEMU.
    fn device(&self) -> &str {
        match self.kind.as_str() {
            "std" => "VGA",
            "cirrus" => "cirrus-vga",
            "vmware" => "vmware-svga",
            "virtio" => "virtio-vga",
            "virtio-gl" => "virtio-vga-gl",
            _ => "qxl-vga",
        }
    }

    fn heads(&self) -> u8 {
        if self.is_qxl() {
            self.vga.qxl_heads().unwrap_or(1)
        } else {
            1
        }
    }
}

/// Adds what VNC or the lack of a picture needs.
pub(super) fn add_screen(builder: &mut Builder<'_>, display: &Display) {
    if display.is_headless() {
        if display.kind == "none" {
            builder.fixed(["-vga", "none"]);
        }
        builder.fixed(["-nographic"]);
        return;
    }
    if display.kind == "virtio-gl" {
        builder.fixed(["-display", "egl-headless,gl=core"]);
    }
    let socket = Runtime::new(builder.request.site, builder.request.vmid).vnc();
    builder.fixed(["-vnc", &format!("unix:{},password=on", socket.display())]);
}

/// Adds the VGA device.
pub(super) fn add_vga(builder: &mut Builder<'_>, display: &Display) {
    if display.is_headless() {
        return;
    }
    let vm = builder.request.vm;
    let address = builder.pci.address("vga");
    let memory = match (display.vga.memory, display.kind.as_str()) {
        (None, _) => String::new(),
        (Some(mib), kind) if kind.starts_with("virtio") => format!(",max_hostmem={}", mib * 1024 * 1024),
        (Some(mib), _) if display.is_qxl() => qxl_memory(mib),
        (Some(mib), _) => format!(",vgamem_mb={mib}"),
    };
    let outputs = if display.is_qxl() && !vm.ostype().is_windows() {
        ",max_outputs=4"
    } else {
        ""
    };
    let edid = if display.kind == "std" && vm.ostype().is_windows() && !vm.is_ovmf() {
        ",edid=off"
    } else {
        ""
    };
    builder.device(format!("{},id=vga{memory}{outputs}{address}{edid}", display.device()));
}

fn qxl_memory(mib: u64) -> String {
    format!(",vgamem_mb={mib},ram_size_mb={},vram_size_mb={}", mib * 4, mib * 2)
}

/// Adds further QXL heads, and SPICE with its agent.
pub(super) fn add_spice(builder: &mut Builder<'_>, display: &Display) -> Result<(), CommandError> {
    add_heads(builder, display);
    add_agent(builder, display)?;
    if display.spice {
        add_server(builder);
    }
    Ok(())
}

fn add_heads(builder: &mut Builder<'_>, display: &Display) {
    let heads = display.heads();
    if heads < 2 {
        return;
    }
    if builder.request.vm.ostype().is_windows() {
        for head in 1..heads {
            let id = format!("vga{head}");
            let address = builder.pci.address(&id);
            let memory = display.vga.memory.map(qxl_memory).unwrap_or_default();
            builder.device(format!("qxl,id={id}{memory}{address}"));
        }
        return;
    }
    // Linux drives all heads through one device, which then needs the memory of all.
    let mib = |each: u64| u64::from(heads) * each * 1024 * 1024;
    let (ram, vram) = match display.vga.memory {
        Some(memory) => (mib(memory * 4), mib(memory * 2)),
        None => (134_217_728, 67_108_864),
    };
    builder.dev("-global", format!("qxl-vga.ram_size={ram}"));
    builder.dev("-global", format!("qxl-vga.vram_size={vram}"));
}

/// The guest's end of the clipboard.
fn add_agent(builder: &mut Builder<'_>, display: &Display) -> Result<(), CommandError> {
    if display.vga.vnc_clipboard {
        if display.is_headless() {
            return Err(CommandError::Clipboard(display.kind.clone()));
        }
        if !builder.request.host.spice {
            builder.note("the VNC clipboard needs QEMU's SPICE parts, ignoring");
            return Ok(());
        }
    } else if !display.spice {
        return Ok(());
    }
    let address = builder.pci.address("spice");
    builder.device(format!("virtio-serial,id=spice{address}"));
    let chardev = if display.vga.vnc_clipboard {
        "qemu-vdagent,id=vdagent,name=vdagent,clipboard=on"
    } else {
        "spicevmc,id=vdagent,name=vdagent"
    };
    builder.dev("-chardev", chardev);
    builder.device("virtserialport,chardev=vdagent,name=com.redhat.spice.0");
    Ok(())
}

fn add_server(builder: &mut Builder<'_>) {
    let request = builder.request;
    let Ok(enhancements) = request.vm.props("spice_enhancements") else {
        return;
    };
    let enhancements = enhancements.unwrap_or_default();
    if enhancements.flag("foldersharing").unwrap_or(false) {
        builder.dev("-chardev", "spiceport,id=foldershare,name=org.spice-space.webdav.0");
        builder.device("virtserialport,chardev=foldershare,name=org.spice-space.webdav.0");
    }
    let Some(port) = request.spice_port else {
        builder.note("no free port for SPICE");
        return;
    };
    let pki = |file: &str| request.site.path(file).display().to_string();
    let video = match enhancements.get("videostreaming") {
        Some(mode) if mode != "off" => format!(",streaming-video={mode}"),
        _ => String::new(),
    };
    builder.dev(
        "-spice",
        format!(
            "tls-port={port},addr={},tls-ciphers=HIGH,seamless-migration=on{video},x509-key-file={},\
             x509-cert-file={},x509-cacert-file={}",
            request.site.address,
            pki("/etc/pve/local/pve-ssl.key"),
            pki("/etc/pve/local/pve-ssl.pem"),
            pki("/etc/pve/pve-root-ca.pem"),
        ),
    );
}

/// Whether a start needs a free port for SPICE.
pub(super) fn needs_spice(request: &Request<'_>) -> bool {
    Display::of(request.vm, request.host).spice
}

/// Adds the sound device.
pub(super) fn add_audio(builder: &mut Builder<'_>, display: &Display) -> Result<(), CommandError> {
    let Some(audio) = builder.request.vm.props("audio0")? else {
        return Ok(());
    };
    let device = audio.get("device").unwrap_or("ich9-intel-hda");
    let mut driver = audio.get("driver").unwrap_or("spice");
    if driver == "spice" && !display.spice {
        builder.note("audio0: without a SPICE display nobody hears the sound, using driver 'none'");
        driver = "none";
    }
    let address = builder.pci.address("audio0");
    let backend = format!("{driver}-backend0");
    if device == "AC97" {
        builder.device(format!("AC97,id=audiodev0{address},audiodev={backend}"));
    } else {
        builder.device(format!("{device},id=audiodev0{address}"));
        for (number, codec) in ["hda-micro", "hda-duplex"].iter().enumerate() {
            builder.device(format!(
                "{codec},id=audiodev0-codec{number},bus=audiodev0.0,cad={number},audiodev={backend}"
            ));
        }
    }
    builder.dev("-audiodev", format!("{driver},id={backend}"));
    Ok(())
}

/// Whether Windows on KVM needs its timer to skip ticks.
pub(super) fn discards_ticks(request: &Request<'_>) -> bool {
    request.host.accel == Accel::Kvm && request.vm.ostype().windows_at_least(6)
}
