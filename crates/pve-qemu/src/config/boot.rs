//! What the guest boots from, and in which order (reference 06a §3.3).

use std::collections::BTreeMap;
use std::fmt;

use super::drive_key::DriveKey;
use super::error::ConfigError;
use super::props::Props;
use super::view::VmConfig;

/// The `boot` key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// `order=scsi0;net0`
    Order(Vec<String>),
    /// Classes of devices, `cdn` for one: `c` disk, `d` CD-ROM, `n` network, `a` floppy.
    Legacy(String),
}

impl Boot {
    /// Reads the `boot` key; an empty text is an empty order.
    ///
    /// # Errors
    /// [`ConfigError::Format`], [`ConfigError::BootDevice`]
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let props = Props::parse("boot", text)?;
        if let Some(order) = props.get("order") {
            let devices: Vec<String> = pve_schema::list::split(order).into_iter().map(str::to_owned).collect();
            if let Some(bad) = devices.iter().find(|device| !is_boot_device(device)) {
                return Err(ConfigError::BootDevice(bad.clone()));
            }
            return Ok(Self::Order(devices));
        }
        Ok(Self::Legacy(props.get("legacy").unwrap_or("cdn").to_owned()))
    }

    /// What is assumed when the key is not set.
    pub fn default_legacy() -> Self {
        Self::Legacy("cdn".to_owned())
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order(devices) => write!(f, "order={}", devices.join(";")),
            Self::Legacy(classes) => f.write_str(classes),
        }
    }
}

/// Whether the name is that of a device which can stand in a boot order: a drive but for the UEFI and TPM ones, or
/// `netN`, `usbN`, `hostpciN`.
pub fn is_boot_device(name: &str) -> bool {
    if let Ok(key) = name.parse::<DriveKey>() {
        return key.is_bootable();
    }
    [("net", 31), ("usb", 13), ("hostpci", 15)]
        .iter()
        .any(|(family, last)| {
            name.strip_prefix(family)
                .and_then(|number| number.parse::<u8>().ok())
                .is_some_and(|number| number <= *last)
        })
}

/// The `bootindex` of each device: the lowest is tried first.
pub fn boot_indices(vm: VmConfig<'_>) -> BTreeMap<String, u32> {
    match vm.boot() {
        Boot::Order(devices) => devices.into_iter().zip(100..).collect(),
        Boot::Legacy(classes) => legacy_indices(vm, &classes),
    }
}

fn legacy_indices(vm: VmConfig<'_>, classes: &str) -> BTreeMap<String, u32> {
    let base = |class: char| -> Option<u32> {
        let place = classes.chars().position(|c| c == class)?;
        Some((u32::try_from(place).ok()? + 1) * 100)
    };
    let mut indices = BTreeMap::new();
    let (mut disks, mut cdroms) = (base('c').zip(vm.get("bootdisk")), base('d'));
    for drive in vm.drives() {
        let name = drive.key.to_string();
        if drive.is_cdrom() {
            if let Some(next) = cdroms.as_mut().filter(|_| !drive.is_cloudinit()) {
                indices.insert(name, *next);
                *next += 1;
            }
        } else if let Some((next, boot_disk)) = &mut disks {
            if name == *boot_disk {
                indices.insert(name, *next);
            }
            *next += 1;
        }
    }
    for (next, (number, _)) in (base('n').into_iter()).flat_map(|base| (base..).zip(vm.net_texts())) {
        indices.insert(format!("net{number}"), next);
    }
    indices
}

/// What a new VM boots from: its first disk, first CD-ROM and first network card.
/// `None` for a VM with none of these: an empty order cannot be stored.
pub fn default_order(vm: VmConfig<'_>) -> Option<Boot> {
    let drives = vm.drives();
    let bootable = || drives.iter().filter(|drive| drive.key.is_bootable());
    let disk = bootable()
        .find(|drive| !drive.is_cdrom())
        .map(|drive| drive.key.to_string());
    let cdrom = bootable()
        .find(|drive| drive.is_plain_cdrom())
        .map(|drive| drive.key.to_string());
    let net = vm.net_texts().next().map(|(number, _)| format!("net{number}"));
    let devices: Vec<String> = [disk, cdrom, net].into_iter().flatten().collect();
    (!devices.is_empty()).then_some(Boot::Order(devices))
}
