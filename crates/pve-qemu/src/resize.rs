//! Growing a disk (reference 06b §8).

use pve_schema::ids::VmId;
use pve_schema::{Context, Failure};
use pve_storage::Storages;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::{DriveKey, VmConfig, format_size};
use crate::error::VmError;
use crate::files;
use crate::journal::Journal;
use crate::process;
use crate::qmp;

/// Guests and formats count in KiB at the finest.
const GRAIN: u64 = 1024;

/// Why a disk is not resized.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ResizeError {
    /// There is no such disk.
    #[error("disk '{0}' does not exist")]
    NoDisk(String),
    /// It is a CD-ROM.
    #[error("you can't resize a cdrom")]
    Cdrom,
    /// It would lose data.
    #[error("shrinking disks is not supported")]
    Shrink,
    /// Not a size.
    #[error("unable to parse size '{0}'")]
    Size(String),
    /// It has no volume: an absolute path, for one.
    #[error("disk '{0}' has no volume")]
    NoVolume(String),
}

impl Failure for ResizeError {}

/// What is to be resized.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// The disk.
    pub disk: String,
    /// The new size, or with `+` how much is added.
    pub size: String,
    /// The config's digest as the caller knows it.
    pub digest: Option<String>,
    /// The `lock` key is ignored.
    pub skip_lock: bool,
}

/// Grows a disk. A size that it has already is no change.
///
/// # Errors
/// [`ResizeError`], the digest, the lock, and what storage and monitor say.
pub fn resize(context: &Context, vmid: VmId, order: &Order, journal: &mut dyn Journal) -> Result<(), VmError> {
    let _lock = files::lock(context, vmid)?;
    let mut config = files::load(context, vmid)?;
    config.check_digest(order.digest.as_deref())?;
    if !order.skip_lock {
        config.check_lock()?;
    }
    let vm = VmConfig::new(&config.main);
    let missing = || ResizeError::NoDisk(order.disk.clone());
    let key: DriveKey = order.disk.parse().map_err(|_| missing())?;
    let mut drive = vm.drive(key).ok_or_else(missing)?;
    if drive.is_cdrom() {
        return Err(ResizeError::Cdrom.into());
    }
    let volume = drive
        .volume()
        .ok_or_else(|| ResizeError::NoVolume(order.disk.clone()))?;
    let storages = Storages::open(context)?;
    storages.activate_volumes(std::slice::from_ref(&volume))?;
    let current = storages.size_info(&volume)?.size;
    let Some(bytes) = new_size(current, &order.size)? else {
        return Ok(());
    };
    journal.log(&format!(
        "update VM {vmid}: resize --disk {} --size {}",
        order.disk, order.size
    ));
    if process::is_running(&context.site, vmid) {
        // QEMU holds the image open and grows it itself.
        let node = format!("drive-{}", order.disk);
        qmp::execute(
            &context.site,
            vmid,
            "block_resize",
            json!({ "node-name": node, "size": bytes }),
        )?;
    } else {
        storages.resize(&volume, bytes)?;
    }
    drive.set_size(bytes);
    config.main.set(key.to_string(), drive.to_string());
    files::save(context, vmid, &mut config)?;
    journal.log(&format!(
        "resized disk '{}' from {} to {}",
        order.disk,
        format_size(current),
        format_size(bytes)
    ));
    Ok(())
}

/// The size in bytes that a text asks for; `None` when the disk has it (reference 06b, vector 10).
fn new_size(current: u64, text: &str) -> Result<Option<u64>, ResizeError> {
    let invalid = || ResizeError::Size(text.to_owned());
    let (digits, add) = match text.strip_prefix('+') {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let units = [("K", 1u64 << 10), ("M", 1 << 20), ("G", 1 << 30), ("T", 1 << 40)];
    let (number, factor) = units
        .into_iter()
        .find_map(|(unit, factor)| Some((digits.strip_suffix(unit)?, factor)))
        .unwrap_or((digits, 1));
    let number: f64 = number.parse().map_err(|_| invalid())?;
    let bytes = number * factor as f64;
    // Larger than any disk, and exact numbers end before.
    if !(0.0..(1u64 << 62) as f64).contains(&bytes) {
        return Err(invalid());
    }
    let bytes = bytes as u64;
    let wanted = if add { current.saturating_add(bytes) } else { bytes };
    let wanted = wanted.div_ceil(GRAIN).saturating_mul(GRAIN);
    match wanted.cmp(&current) {
        std::cmp::Ordering::Less => Err(ResizeError::Shrink),
        std::cmp::Ordering::Equal => Ok(None),
        std::cmp::Ordering::Greater => Ok(Some(wanted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const G: u64 = 1 << 30;

    /// Reference 06b, vector 10.
    #[test]
    fn sizes_follow_the_vectors() {
        let cases = [
            (8 * G, "+1G", Ok(Some(9_663_676_416))),
            (8 * G, "4G", Err(ResizeError::Shrink)),
            (8 * G, "8G", Ok(None)),
            (G, "1.5G", Ok(Some(1_610_612_736))),
            (G, "+0", Ok(None)),
            (1024, "1025", Ok(Some(2048))),
            (1024, "x1G", Err(ResizeError::Size("x1G".to_owned()))),
            (1024, "+", Err(ResizeError::Size("+".to_owned()))),
            (1024, "99999999999T", Err(ResizeError::Size("99999999999T".to_owned()))),
        ];
        for (current, text, expected) in cases {
            assert_eq!(new_size(current, text), expected, "{text}");
        }
    }
}
