//! Drives: controllers, block graphs and the devices that the guest sees (reference 06a §7.8).

use std::collections::BTreeSet;

use pve_schema::ParamErrors;

use super::block::{self, Opening};
use super::builder::Builder;
use super::error::CommandError;
use super::facts::{Backing, BlockDriver, Request};
use crate::config::{Bus, Drive, Source};

/// Disks per controller of the LSI models.
const LSI_DISKS: u8 = 7;

/// The SCSI type of a tape.
const SCSI_TAPE: u8 = 1;

/// What the guest sees of a drive on a SCSI controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScsiDevice {
    Cd,
    Disk,
    /// A passed-through disk.
    Block,
    /// A passed-through tape.
    Generic,
}

impl ScsiDevice {
    fn of(drive: &Drive, backing: Option<&Backing>) -> Self {
        let passed = drive.options.flag("scsiblock").unwrap_or(false);
        let device = backing.filter(|backing| matches!(backing.driver, BlockDriver::HostDevice(_)));
        match device.and_then(|backing| backing.scsi_type) {
            _ if drive.is_cdrom() => Self::Cd,
            Some(SCSI_TAPE) => Self::Generic,
            Some(0) if passed => Self::Block,
            _ => Self::Disk,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cd => "scsi-cd",
            Self::Disk => "scsi-hd",
            Self::Block => "scsi-block",
            Self::Generic => "scsi-generic",
        }
    }

    /// Whether the device is QEMU's own and so may have a name of its own.
    fn is_emulated(self) -> bool {
        matches!(self, Self::Cd | Self::Disk)
    }
}

/// Adds the drives that the guest sees: all but the UEFI variables and the TPM state.
pub(super) fn add(builder: &mut Builder<'_>) -> Result<(), CommandError> {
    let drives = builder.request.vm.drives();
    let mut controllers = BTreeSet::new();
    for drive in drives.iter().filter(|drive| drive.key.is_bootable()) {
        let backing = backing_of(&builder.request, drive)?;
        if let Some(thread) = io_thread(builder, drive) {
            builder.fixed(["-object", &format!("iothread,id={thread}")]);
        }
        builder.fixed(["-object", &block::sorted(block::throttle_object(drive)).to_string()]);
        if let Some(controller) = controller(builder, drive)
            && controllers.insert(controller.id.clone())
        {
            builder.device(controller.device);
        }
        if let Some(backing) = backing {
            let opening = Opening {
                read_only: drive.is_cdrom() || drive.options.flag("ro").unwrap_or(false),
                io_uring: builder.request.host.io_uring,
                size: None,
                bare: is_passed_through(drive, backing),
            };
            let graph = block::graph(drive, backing, opening)?;
            builder.dev("-blockdev", graph.to_string());
        }
        let device = device(builder, drive, backing)?;
        builder.device(device);
    }
    Ok(())
}

/// Whether the guest talks to a SCSI device of the node itself.
pub(super) fn is_passed_through(drive: &Drive, backing: &Backing) -> bool {
    drive.key.bus == Bus::Scsi && !ScsiDevice::of(drive, Some(backing)).is_emulated()
}

/// The device of a drive alone, for hotplug.
pub(super) fn device(
    builder: &mut Builder<'_>,
    drive: &Drive,
    backing: Option<&Backing>,
) -> Result<String, CommandError> {
    let front = match drive.key.bus {
        Bus::Virtio => virtio_front(builder, drive),
        Bus::Scsi => scsi_front(builder, drive, backing)?,
        Bus::Sata => ide_front(drive, &format!("bus=ahci0.{}", drive.key.index)),
        Bus::Ide | Bus::Efidisk | Bus::Tpmstate | Bus::Unused => {
            let place = ide_place(drive.key.index, builder.machine.is_q35());
            ide_front(drive, &place)
        }
    };
    Ok(format!("{front}{}", tail(builder, drive, backing)))
}

/// The volume of a drive that has one.
fn backing_of<'a>(request: &Request<'a>, drive: &Drive) -> Result<Option<&'a Backing>, CommandError> {
    if drive.source() == Source::Empty {
        return Ok(None);
    }
    let backing = request.backings.get(&drive.key);
    backing
        .map(Some)
        .ok_or_else(|| CommandError::NoBacking(drive.key.to_string()))
}

/// A SCSI or SATA controller.
struct Controller {
    id: String,
    device: String,
}

fn scsi_hardware<'a>(request: &Request<'a>) -> &'a str {
    request.vm.get("scsihw").unwrap_or("lsi")
}

/// The number of the controller, for models that take several disks each.
fn controller_number(hardware: &str, index: u8) -> u8 {
    if hardware.starts_with("lsi") {
        index / LSI_DISKS
    } else {
        0
    }
}

fn controller(builder: &mut Builder<'_>, drive: &Drive) -> Option<Controller> {
    match drive.key.bus {
        Bus::Scsi => Some(scsi_controller(builder, drive)),
        Bus::Sata => {
            let id = "ahci0".to_owned();
            let address = builder.pci.address(&id);
            Some(Controller {
                device: format!("ahci,id={id},multifunction=on{address}"),
                id,
            })
        }
        _ => None,
    }
}

fn scsi_controller(builder: &mut Builder<'_>, drive: &Drive) -> Controller {
    let hardware = scsi_hardware(&builder.request);
    if hardware != "virtio-scsi-single" {
        let id = format!("scsihw{}", controller_number(hardware, drive.key.index));
        let address = builder.pci.address(&id);
        return Controller {
            device: format!("{hardware},id={id}{address}"),
            id,
        };
    }
    let id = format!("virtioscsi{}", drive.key.index);
    let address = builder.pci.address(&id);
    let thread = io_thread_option(builder, drive);
    let queues = drive
        .options
        .get("queues")
        .map(|queues| format!(",num_queues={queues}"))
        .unwrap_or_default();
    Controller {
        device: format!("virtio-scsi-pci,id={id}{address}{thread}{queues}"),
        id,
    }
}

/// The I/O thread of a drive: of its own for a virtio disk, of its controller's for a virtio-scsi-single one.
fn io_thread(builder: &mut Builder<'_>, drive: &Drive) -> Option<String> {
    if !drive.wants_io_thread() || drive.is_cdrom() {
        return None;
    }
    match (drive.key.bus, scsi_hardware(&builder.request)) {
        (Bus::Virtio, _) => Some(format!("iothread-{}", drive.key)),
        (Bus::Scsi, "virtio-scsi-single") => Some(format!("iothread-virtioscsi{}", drive.key.index)),
        _ => {
            builder.note("iothread is only valid with virtio disk or virtio-scsi-single controller, ignoring");
            None
        }
    }
}

/// `,iothread=…`; whether there is one was said when its object was made.
fn io_thread_option(builder: &Builder<'_>, drive: &Drive) -> String {
    let single = scsi_hardware(&builder.request) == "virtio-scsi-single";
    match drive.key.bus {
        _ if !drive.wants_io_thread() || drive.is_cdrom() => String::new(),
        Bus::Virtio => format!(",iothread=iothread-{}", drive.key),
        Bus::Scsi if single => format!(",iothread=iothread-virtioscsi{}", drive.key.index),
        _ => String::new(),
    }
}

fn virtio_front(builder: &mut Builder<'_>, drive: &Drive) -> String {
    let (key, node) = (drive.key.to_string(), block::top_node(drive));
    let address = builder.pci.address(&key);
    let thread = io_thread_option(builder, drive);
    format!("virtio-blk-pci,drive={node},id={key}{address}{thread}")
}

fn scsi_front(builder: &mut Builder<'_>, drive: &Drive, backing: Option<&Backing>) -> Result<String, CommandError> {
    let hardware = scsi_hardware(&builder.request);
    let (index, device) = (drive.key.index, ScsiDevice::of(drive, backing));
    let place = match hardware {
        "virtio-scsi-single" => format!("bus=virtioscsi{index}.0,channel=0,scsi-id=0,lun={index}"),
        "virtio-scsi-pci" | "megasas" => format!("bus=scsihw0.0,channel=0,scsi-id=0,lun={index}"),
        "pvscsi" => format!("bus=scsihw0.0,scsi-id={index}"),
        _ => format!(
            "bus=scsihw{}.0,scsi-id={}",
            controller_number(hardware, index),
            index % LSI_DISKS
        ),
    };
    let mut front = format!("{},{place}{}", device.name(), source_and_id(drive));
    if device.is_emulated() {
        front.push_str(&format!(",device_id={}", block::top_node(drive)));
    }
    front.push_str(&solid_state_and_name(drive));
    let names = ["vendor", "product"];
    for name in names.iter().filter(|name| drive.options.has(name)) {
        if !device.is_emulated() {
            let text = format!("'{name}' is not supported for '{}' devices", device.name());
            return Err(CommandError::Parameters(ParamErrors::from([(
                drive.key.to_string(),
                text,
            )])));
        }
        front.push_str(&format!(",{name}={}", drive.options.get(name).unwrap_or_default()));
    }
    Ok(front)
}

/// Where an IDE drive sits: two to a bus, one to a bus on Q35, whose controller is an AHCI one.
fn ide_place(index: u8, q35: bool) -> String {
    if !q35 {
        return format!("bus=ide.{},unit={}", index / 2, index % 2);
    }
    let bus = match index {
        1 => 2,
        2 => 1,
        other => other,
    };
    format!("bus=ide.{bus},unit=0")
}

fn ide_front(drive: &Drive, place: &str) -> String {
    let kind = if drive.is_cdrom() { "ide-cd" } else { "ide-hd" };
    let mut front = format!("{kind},{place}{}", source_and_id(drive));
    if let Some(model) = drive.options.get("model").filter(|_| !drive.is_cdrom()) {
        front.push_str(&format!(",model={}", plain(model)));
    }
    front.push_str(&solid_state_and_name(drive));
    front
}

/// `,drive=drive-scsi0,id=scsi0`; an empty CD-ROM drive has no node.
fn source_and_id(drive: &Drive) -> String {
    match drive.source() {
        Source::Empty => format!(",id={}", drive.key),
        _ => format!(",drive={},id={}", block::top_node(drive), drive.key),
    }
}

fn solid_state_and_name(drive: &Drive) -> String {
    let ssd = drive.options.flag("ssd").unwrap_or(false) && !drive.is_cdrom();
    let rate = if ssd { ",rotation_rate=1" } else { "" };
    let name = drive
        .options
        .get("wwn")
        .map(|name| format!(",wwn={name}"))
        .unwrap_or_default();
    format!("{rate}{name}")
}

/// What every device ends in.
fn tail(builder: &Builder<'_>, drive: &Drive, backing: Option<&Backing>) -> String {
    let mut tail = String::new();
    if let Some(index) = builder.boot_index(&drive.key.to_string()) {
        tail.push_str(&format!(",bootindex={index}"));
    }
    if let Some(serial) = drive.options.get("serial") {
        tail.push_str(&format!(",serial={}", plain(serial)));
    }
    let disk = !drive.is_cdrom() && (drive.key.bus != Bus::Scsi || ScsiDevice::of(drive, backing) == ScsiDevice::Disk);
    if disk {
        let cache = block::cache_mode(drive, backing.is_none_or(|backing| backing.direct));
        tail.push_str(if cache.write_cache {
            ",write-cache=on"
        } else {
            ",write-cache=off"
        });
    }
    for name in ["rerror", "werror"] {
        if let Some(action) = drive.options.get(name) {
            tail.push_str(&format!(",{name}={action}"));
        }
    }
    tail
}

/// A URL-encoded text as a QEMU option: decoded, with its commas doubled.
fn plain(text: &str) -> String {
    pve_schema::text::decode(text).replace(',', ",,")
}
