//! Names for new disks (reference 08 §3.3).

use std::collections::BTreeSet;

use super::owner_after_prefix;
use crate::kind::{ImageFormat, StorageKind};

/// How many disks of one guest a storage can number.
const MAX_DISKS: u32 = 1024;

/// All numbers are taken.
#[derive(Debug, thiserror::Error)]
#[error("unable to allocate an image name for VM {vmid} in storage '{storage}'")]
pub struct NoFreeName {
    /// The guest.
    pub vmid: u32,
    /// The storage.
    pub storage: String,
}

/// The next free name of a disk: `vm-<vmid>-disk-<n>` or `subvol-<vmid>-disk-<n>`, with an extension on file based
/// types and for qcow2 on LVM.
///
/// `used` are the names that there are, of any guest. Where the type has subvolumes all kinds of disks share their
/// numbers, elsewhere only those with the same suffix.
///
/// # Errors
/// No number is free.
pub fn next_disk_name<'a>(
    storage: &str,
    kind: StorageKind,
    vmid: u32,
    format: ImageFormat,
    used: impl IntoIterator<Item = &'a str>,
) -> Result<String, NoFreeName> {
    let suffix = match (kind.is_file_based(), format) {
        (true, _) | (false, ImageFormat::Qcow2) => format!(".{format}"),
        (false, _) => String::new(),
    };
    let has_subvolumes = kind.formats().contains(&ImageFormat::Subvol);
    let counts = |name: &str| has_subvolumes || strip_suffix_of(name) == suffix;
    let taken: BTreeSet<u32> = used
        .into_iter()
        .filter(|name| counts(name))
        .filter_map(|name| disk_number(name, vmid))
        .collect();
    let prefix = if format == ImageFormat::Subvol { "subvol" } else { "vm" };
    match (0..MAX_DISKS).find(|number| !taken.contains(number)) {
        Some(number) => Ok(format!("{prefix}-{vmid}-disk-{number}{suffix}")),
        None => Err(NoFreeName {
            vmid,
            storage: storage.to_owned(),
        }),
    }
}

/// The extension of a name, dot included; empty without one.
fn strip_suffix_of(name: &str) -> &str {
    match ImageFormat::of_file_name(name) {
        Some((stem, _)) => name.get(stem.len()..).unwrap_or_default(),
        None => "",
    }
}

/// N of `PREFIX-<vmid>-disk-<N>`, whatever follows it.
fn disk_number(name: &str, vmid: u32) -> Option<u32> {
    let owner = owner_after_prefix(name, &["vm", "base", "subvol", "basevol"])?;
    let rest = name.splitn(3, '-').nth(2)?.strip_prefix("disk-")?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .map_or(rest, |end| &rest[..end]);
    if owner == vmid { digits.parse().ok() } else { None }
}
