//! What guests and schedules are configured with.

use serde_json::Value;

use super::{Checked, digits, number_in, when};
use crate::calendar::Event;
use crate::format::NamedFormat;
use crate::list;
use crate::startup::Startup;

/// The devices of a VM that come in numbers, and the highest of each.
const DRIVES: [(&str, u64); 6] = [
    ("ide", 3),
    ("sata", 5),
    ("scsi", 30),
    ("virtio", 15),
    ("efidisk", 0),
    ("tpmstate", 0),
];
const OTHER_BOOT_DEVICES: [(&str, u64); 3] = [("net", 31), ("usb", 13), ("hostpci", 15)];

/// Whether a text is one of the devices: its name and a number without leading zeros.
fn is_device(text: &str, devices: &[(&str, u64)]) -> bool {
    devices.iter().any(|(name, last)| {
        text.strip_prefix(name).is_some_and(|number| {
            let canonical = number.len() == 1 || !number.starts_with('0');
            canonical && number_in(number, 0..=*last).is_some()
        })
    })
}

/// `pve-qm-bootdev`: what a VM can boot from.
pub fn pve_qm_bootdev(format: &'static NamedFormat, value: &str) -> Checked {
    let fits = is_device(value, DRIVES.get(..4).unwrap_or_default()) || is_device(value, &OTHER_BOOT_DEVICES);
    when(fits, format, value)
}

/// `pve-qm-bootdisk`: any drive.
pub fn pve_qm_bootdisk(format: &'static NamedFormat, value: &str) -> Checked {
    when(is_device(value, &DRIVES), format, value)
}

/// `pve-hotplug-features`
pub fn pve_hotplug_features(_: &'static NamedFormat, value: &str) -> Checked {
    const FEATURES: [&str; 6] = ["network", "disk", "cpu", "memory", "usb", "cloudinit"];
    if matches!(value, "" | "0" | "1") {
        return Ok(());
    }
    match list::split(value)
        .into_iter()
        .find(|feature| !FEATURES.contains(feature))
    {
        Some(unknown) => Err(format!("invalid hotplug feature '{unknown}'")),
        None => Ok(()),
    }
}

/// `pve-phys-bits`
pub fn pve_phys_bits(format: &'static NamedFormat, value: &str) -> Checked {
    when(value == "host" || number_in(value, 8..=64).is_some(), format, value)
}

/// `pve-cpuset`: `N` and `N-M` in a list.
pub fn pve_cpuset(format: &'static NamedFormat, value: &str) -> Checked {
    let part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number_in(first, 0..=u64::MAX), number_in(last, 0..=u64::MAX));
        first.zip(last).is_some_and(|(first, last)| first <= last)
    };
    when(
        value.trim().is_empty() || value.split(',').map(str::trim).all(part),
        format,
        value,
    )
}

/// `pve-startup-order`
pub fn pve_startup_order(format: &'static NamedFormat, value: &str) -> Checked {
    when(value.parse::<Startup>().is_ok(), format, value)
}

/// `pve-calendar-event`
pub fn pve_calendar_event(_: &'static NamedFormat, value: &str) -> Checked {
    let event = value.parse::<Event>().map(drop);
    event.map_err(|reason| format!("invalid calendar event '{value}' - {reason}"))
}

/// `pve-lxc-dev-string`: below `/dev/`, no `.` or `..`.
pub fn pve_lxc_dev_string(format: &'static NamedFormat, value: &str) -> Checked {
    let fits = value
        .strip_prefix("/dev/")
        .is_some_and(|rest| !rest.split('/').any(|component| matches!(component, "." | "..")));
    when(fits, format, value)
}

/// `pve-lxc-mp-string`: no way out of the container.
pub fn pve_lxc_mp_string(format: &'static NamedFormat, value: &str) -> Checked {
    let illegal = value.contains("/./")
        || value.contains("/../")
        || value.ends_with("/.")
        || value.ends_with("/..")
        || value.starts_with("../");
    when(!illegal, format, value)
}

/// Largest block size of ZFS.
const MAX_BLOCK: u64 = 16 << 20;
/// Smallest block size of ZFS.
const MIN_BLOCK: u64 = 512;

/// `pve-storage-zfs-blocksize`: a power of two, `k` and `m` allowed.
pub fn pve_storage_zfs_blocksize(_: &'static NamedFormat, value: &str) -> Checked {
    if value.is_empty() {
        return Ok(());
    }
    let lower = value.to_ascii_lowercase();
    let (number, factor) = match (lower.strip_suffix('k'), lower.strip_suffix('m')) {
        (Some(number), _) => (number, 1 << 10),
        (_, Some(number)) => (number, 1 << 20),
        _ => (lower.as_str(), 1),
    };
    if !digits(number) || number.starts_with('0') {
        return Err(format!(
            "invalid ZFS blocksize format '{value}'. Use a positive number (no leading zeros) with an optional 'k' or \
             'm' suffix."
        ));
    }
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    match bytes {
        Some(bytes) if bytes.is_power_of_two() && (MIN_BLOCK..=MAX_BLOCK).contains(&bytes) => Ok(()),
        _ => Err(format!(
            "value '{value}' is not a valid ZFS blocksize. Must be a power of 2 between 512B and 16MiB (e.g., 4k, 8k, \
             16k, 64k, 1m)."
        )),
    }
}

/// `pve-command-batch`: a JSON array of calls.
pub fn pve_command_batch(_: &'static NamedFormat, value: &str) -> Checked {
    let commands: Value =
        serde_json::from_str(value).map_err(|reason| format!("commands param did not contain valid JSON: {reason}"))?;
    let invalid = |reason: String| Err(format!("commands is not a valid array of commands: {reason}"));
    let Value::Array(commands) = commands else {
        return invalid("type check ('array') failed".to_owned());
    };
    for (at, command) in commands.iter().enumerate() {
        let method = command["method"].as_str();
        if !command["path"].is_string() {
            return invalid(format!("[{at}].path: property is missing and it is not optional"));
        }
        if !method.is_some_and(|method| ["GET", "POST", "PUT", "DELETE"].contains(&method)) {
            return invalid(format!("[{at}].method: not one of GET, POST, PUT, DELETE"));
        }
        if !(command["args"].is_object() || command["args"].is_null()) {
            return invalid(format!("[{at}].args: type check ('object') failed"));
        }
    }
    Ok(())
}
