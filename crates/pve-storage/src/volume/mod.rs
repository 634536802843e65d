//! Volume names: what they say about a volume, per storage type (reference 08 §3).
//!
//! Nothing here touches a disk. Where a volume's bytes are is [`crate::path`].

mod block;
mod file;
mod next;

use std::fmt;

pub use file::{is_backup_file, is_import_file, is_iso_file, is_template_file, parse_image_file_name};
pub use next::{NoFreeName, next_disk_name};

use crate::kind::{Content, ImageFormat, StorageKind};

/// The format of a volume, as far as its name tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeFormat {
    /// A disk, or anything that is read as plain bytes.
    Image(ImageFormat),
    /// An OVA archive.
    Ova,
    /// An OVF description.
    Ovf,
    /// A disk inside an OVA archive.
    InOva(ImageFormat),
    /// A VMware configuration.
    Vmx,
    /// A snapshot on a backup server: `vm`, `ct` or `host`.
    Pbs(String),
}

impl VolumeFormat {
    /// The disk format, if it is one.
    pub fn image(&self) -> Option<ImageFormat> {
        match self {
            Self::Image(format) => Some(*format),
            _ => None,
        }
    }
}

impl fmt::Display for VolumeFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(format) => format.fmt(f),
            Self::Ova => f.write_str("ova"),
            Self::Ovf => f.write_str("ovf"),
            Self::InOva(format) => write!(f, "ova+{format}"),
            Self::Vmx => f.write_str("vmx"),
            Self::Pbs(what) => write!(f, "pbs-{what}"),
        }
    }
}

/// The base volume that a linked clone's name mentions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseName {
    /// Its file or device name.
    pub name: String,
    /// The guest it belongs to.
    pub owner: u32,
}

/// What a volume's name says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeName {
    /// What it is used for; disks of containers count as images here.
    pub content: Content,
    /// Its file or device name.
    pub name: String,
    /// The guest it belongs to. Any number: old installations have guests below 100.
    pub owner: Option<u32>,
    /// The base volume of a linked clone.
    pub base: Option<BaseName>,
    /// Whether it is itself a base volume.
    pub is_base: bool,
    /// Its format.
    pub format: Option<VolumeFormat>,
}

impl VolumeName {
    fn new(content: Content, name: &str, format: Option<VolumeFormat>) -> Self {
        Self {
            content,
            name: name.to_owned(),
            owner: None,
            base: None,
            is_base: false,
            format,
        }
    }

    /// A disk of a guest.
    fn image(name: &str, owner: u32, format: ImageFormat) -> Self {
        Self {
            owner: Some(owner),
            is_base: name.starts_with("base-") || name.starts_with("basevol-"),
            ..Self::new(Content::Images, name, Some(VolumeFormat::Image(format)))
        }
    }
}

/// A text that is no volume name of the storage's type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVolumeName {
    /// File based types.
    #[error("unable to parse directory volume name '{0}'")]
    Directory(String),
    /// The file name of a disk.
    #[error("unable to parse volume filename '{0}'")]
    FileName(String),
    /// The file belongs to another volume.
    #[error("'{0}' is a snapshot filename, not a volume!")]
    Snapshot(String),
    /// Characters that LVM does not take.
    #[error("lvm name '{0}' contains illegal characters")]
    LvmCharacters(String),
    /// Both LVM types.
    #[error("unable to parse lvm volume name '{0}'")]
    Lvm(String),
    /// Both ZFS types.
    #[error("unable to parse zfs volume name '{0}'")]
    Zfs(String),
    /// Ceph block devices.
    #[error("unable to parse rbd volume name '{0}'")]
    Rbd(String),
    /// Both iSCSI types.
    #[error("unable to parse iscsi volume name '{0}'")]
    Iscsi(String),
    /// Backup servers.
    #[error("unable to parse PBS volume name '{0}'")]
    Pbs(String),
    /// VMware ESXi.
    #[error("unable to parse esxi volume name '{0}'")]
    Esxi(String),
}

/// Reads a volume's name as a storage type understands it.
///
/// # Errors
/// The name does not follow the type's pattern.
pub fn parse_volume_name(kind: StorageKind, name: &str) -> Result<VolumeName, InvalidVolumeName> {
    match kind {
        StorageKind::Dir | StorageKind::Btrfs | StorageKind::Nfs | StorageKind::Cifs | StorageKind::Cephfs => {
            file::parse(name)
        }
        StorageKind::Lvm => block::parse_lvm(name),
        StorageKind::Lvmthin => block::parse_lvmthin(name),
        StorageKind::Zfs | StorageKind::Zfspool => block::parse_zfs(name),
        StorageKind::Rbd => block::parse_rbd(name),
        StorageKind::Iscsi => block::parse_iscsi(name),
        StorageKind::Iscsidirect => block::parse_iscsidirect(name),
        StorageKind::Pbs => block::parse_pbs(name),
        StorageKind::Esxi => block::parse_esxi(name),
    }
}

/// A guest's number in a volume name: decimal digits without a leading zero, so that no two names mean one volume.
fn decimal(text: &str) -> Option<u32> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

/// The guest's number in `PREFIX-<D>-REST` for one of the prefixes; REST is not empty.
fn owner_after_prefix(name: &str, prefixes: &[&str]) -> Option<u32> {
    let (prefix, rest) = name.split_once('-')?;
    let (digits, rest) = rest.split_once('-')?;
    if prefixes.contains(&prefix) && !rest.is_empty() {
        decimal(digits)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
