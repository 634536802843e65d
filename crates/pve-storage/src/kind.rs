//! What the storage types can hold: content and formats (reference 08 §2.1).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a volume is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// Backup archives.
    Backup,
    /// Disks of VMs.
    Images,
    /// Foreign images to make guests of.
    Import,
    /// Installation media.
    Iso,
    /// Nothing; stands alone.
    None,
    /// Disks and directories of containers.
    Rootdir,
    /// Hook scripts and cloud-init files.
    Snippets,
    /// Container templates.
    Vztmpl,
}

/// A set of content types, sorted by name.
pub type ContentSet = BTreeSet<Content>;

impl Content {
    /// All of them, sorted by name.
    pub const ALL: [Self; 8] = [
        Self::Backup,
        Self::Images,
        Self::Import,
        Self::Iso,
        Self::None,
        Self::Rootdir,
        Self::Snippets,
        Self::Vztmpl,
    ];

    /// The word that stands for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Images => "images",
            Self::Import => "import",
            Self::Iso => "iso",
            Self::None => "none",
            Self::Rootdir => "rootdir",
            Self::Snippets => "snippets",
            Self::Vztmpl => "vztmpl",
        }
    }
}

/// A word that is no content type.
#[derive(Debug, thiserror::Error)]
#[error("invalid content type '{0}'")]
pub struct InvalidContent(pub String);

impl FromStr for Content {
    type Err = InvalidContent;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|content| content.as_str() == text);
        found.ok_or_else(|| InvalidContent(text.to_owned()))
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of content types as the comma list that files and answers carry.
pub fn content_list(content: &ContentSet) -> String {
    let words: Vec<&str> = content.iter().map(|content| content.as_str()).collect();
    words.join(",")
}

/// The format of a guest's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// QEMU's own.
    Qcow2,
    /// Plain bytes.
    Raw,
    /// A directory or data set.
    Subvol,
    /// VMware's.
    Vmdk,
}

impl ImageFormat {
    /// All of them, sorted by name.
    pub const ALL: [Self; 4] = [Self::Qcow2, Self::Raw, Self::Subvol, Self::Vmdk];

    /// The word that stands for it, which is also its file name extension.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
            Self::Subvol => "subvol",
            Self::Vmdk => "vmdk",
        }
    }

    /// The format that a file name's extension names, and what stands before the extension.
    pub fn of_file_name(name: &str) -> Option<(&str, Self)> {
        let (stem, extension) = name.rsplit_once('.')?;
        let format = extension.parse().ok()?;
        (!stem.is_empty()).then_some((stem, format))
    }
}

/// A word that is no image format.
#[derive(Debug, thiserror::Error)]
#[error("invalid format '{0}'")]
pub struct InvalidFormat(pub String);

impl FromStr for ImageFormat {
    type Err = InvalidFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|format| format.as_str() == text);
        found.ok_or_else(|| InvalidFormat(text.to_owned()))
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A storage type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    /// A directory on a Btrfs file system.
    Btrfs,
    /// CephFS.
    Cephfs,
    /// An SMB share.
    Cifs,
    /// A directory.
    Dir,
    /// VMware ESXi, as a source of imports.
    Esxi,
    /// LUNs through the kernel's initiator.
    Iscsi,
    /// LUNs through QEMU's initiator.
    Iscsidirect,
    /// Thick LVM.
    Lvm,
    /// Thin LVM.
    Lvmthin,
    /// An NFS export.
    Nfs,
    /// Proxmox Backup Server.
    Pbs,
    /// Ceph block devices.
    Rbd,
    /// ZFS over iSCSI.
    Zfs,
    /// A local ZFS pool.
    Zfspool,
}

use Content::{Backup, Images, Import, Iso, Rootdir, Snippets, Vztmpl};
use ImageFormat::{Qcow2, Raw, Subvol, Vmdk};

impl StorageKind {
    /// All of them, sorted by name.
    pub const ALL: [Self; 14] = [
        Self::Btrfs,
        Self::Cephfs,
        Self::Cifs,
        Self::Dir,
        Self::Esxi,
        Self::Iscsi,
        Self::Iscsidirect,
        Self::Lvm,
        Self::Lvmthin,
        Self::Nfs,
        Self::Pbs,
        Self::Rbd,
        Self::Zfs,
        Self::Zfspool,
    ];

    /// The word that stands for it in `storage.cfg`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Btrfs => "btrfs",
            Self::Cephfs => "cephfs",
            Self::Cifs => "cifs",
            Self::Dir => "dir",
            Self::Esxi => "esxi",
            Self::Iscsi => "iscsi",
            Self::Iscsidirect => "iscsidirect",
            Self::Lvm => "lvm",
            Self::Lvmthin => "lvmthin",
            Self::Nfs => "nfs",
            Self::Pbs => "pbs",
            Self::Rbd => "rbd",
            Self::Zfs => "zfs",
            Self::Zfspool => "zfspool",
        }
    }

    /// What it may be configured to hold.
    pub fn supported_content(self) -> &'static [Content] {
        const FILES: &[Content] = &[Images, Rootdir, Vztmpl, Iso, Backup, Snippets, Import, Content::None];
        match self {
            Self::Dir | Self::Btrfs => FILES,
            Self::Nfs | Self::Cifs => &[Images, Rootdir, Vztmpl, Iso, Backup, Snippets, Import],
            Self::Cephfs => &[Vztmpl, Iso, Backup, Snippets, Import],
            Self::Lvm | Self::Lvmthin | Self::Zfspool | Self::Rbd => &[Images, Rootdir],
            Self::Zfs => &[Images],
            Self::Iscsi | Self::Iscsidirect => &[Images, Content::None],
            Self::Pbs => &[Backup, Content::None],
            Self::Esxi => &[Import],
        }
    }

    /// What it holds when its section does not say.
    pub fn default_content(self) -> &'static [Content] {
        match self {
            Self::Dir | Self::Btrfs | Self::Lvmthin | Self::Zfspool => &[Images, Rootdir],
            Self::Cephfs | Self::Pbs => &[Backup],
            Self::Esxi => &[Import],
            _ => &[Images],
        }
    }

    /// The image formats it knows, its default first; empty when it holds no images. Thick LVM with snapshots as
    /// volume chains knows qcow2 as well ([`crate::config::StorageConfig::formats`]).
    pub fn formats(self) -> &'static [ImageFormat] {
        match self {
            Self::Dir => &[Raw, Qcow2, Vmdk, Subvol],
            Self::Btrfs | Self::Zfspool => &[Raw, Subvol],
            Self::Nfs | Self::Cifs | Self::Esxi => &[Raw, Qcow2, Vmdk],
            Self::Cephfs | Self::Pbs => &[],
            _ => &[Raw],
        }
    }

    /// Whether its volumes are files below a directory, named as reference 08 §3.1 has it.
    pub fn is_file_based(self) -> bool {
        matches!(self, Self::Dir | Self::Btrfs | Self::Nfs | Self::Cifs | Self::Cephfs)
    }

    /// Whether every node sees the same volumes, whatever its section says.
    pub fn is_always_shared(self) -> bool {
        use StorageKind as K;
        matches!(
            self,
            K::Iscsi | K::Nfs | K::Cifs | K::Rbd | K::Cephfs | K::Iscsidirect | K::Zfs | K::Pbs
        )
    }

    /// Whether guests take volumes that exist already instead of new ones.
    pub fn selects_existing(self) -> bool {
        matches!(self, Self::Iscsi | Self::Iscsidirect)
    }
}

/// A word that is no storage type.
#[derive(Debug, thiserror::Error)]
#[error("unsupported type '{0}'")]
pub struct InvalidKind(pub String);

impl FromStr for StorageKind {
    type Err = InvalidKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| InvalidKind(text.to_owned()))
    }
}

impl fmt::Display for StorageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
