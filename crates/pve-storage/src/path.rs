//! Where volumes are (reference 08 §3.3). Pure: nothing here looks at a disk.

use std::path::{Path, PathBuf};

use crate::config::StorageConfig;
use crate::kind::{Content, ImageFormat, StorageKind};
use crate::volume::VolumeName;

/// Why a volume has no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPath {
    /// The storage's section has no such option, though its type needs it.
    #[error("storage '{storage}' has no '{option}'")]
    MissingOption {
        /// The storage.
        storage: String,
        /// The option.
        option: &'static str,
    },
    /// Snapshots of this format are not files of their own.
    #[error("can't snapshot this image format")]
    Snapshot,
    /// A guest's disk whose name says no owner.
    #[error("volume '{0}' has no owner")]
    NoOwner(String),
    /// The type's paths need something that this build cannot ask.
    #[error("storage type '{0}' is not supported by this build yet")]
    Unsupported(StorageKind),
}

/// The directory below a file based storage that holds a kind of content, unless `content-dirs` says otherwise.
pub fn default_content_dir(content: Content) -> Option<&'static str> {
    match content {
        Content::Images => Some("images"),
        Content::Rootdir => Some("private"),
        Content::Iso => Some("template/iso"),
        Content::Vztmpl => Some("template/cache"),
        Content::Backup => Some("dump"),
        Content::Snippets => Some("snippets"),
        Content::Import => Some("import"),
        Content::None => None,
    }
}

/// Where a volume is, or its snapshot.
///
/// # Errors
/// The volume has no path that can be told from its name and its storage's section.
pub fn volume_path(config: &StorageConfig, volume: &VolumeName, snapshot: Option<&str>) -> Result<PathBuf, NoPath> {
    match config.kind {
        StorageKind::Btrfs if volume.content == Content::Images => btrfs_path(config, volume, snapshot),
        kind if kind.is_file_based() => file_path(config, volume, snapshot),
        StorageKind::Lvm | StorageKind::Lvmthin => lvm_path(config, volume, snapshot),
        StorageKind::Zfspool => zfs_path(config, volume, snapshot),
        StorageKind::Iscsi => Ok(Path::new("/dev/disk/by-id").join(&volume.name)),
        kind => Err(NoPath::Unsupported(kind)),
    }
}

fn missing(config: &StorageConfig, option: &'static str) -> NoPath {
    NoPath::MissingOption {
        storage: config.id.to_string(),
        option,
    }
}

/// The directory that holds a volume's file.
fn directory(config: &StorageConfig, volume: &VolumeName) -> Result<PathBuf, NoPath> {
    let directory = config
        .content_dir(volume.content)
        .ok_or_else(|| missing(config, "path"))?;
    match (volume.content, volume.owner) {
        (Content::Images, Some(owner)) => Ok(directory.join(owner.to_string())),
        (Content::Images, None) => Err(NoPath::NoOwner(volume.name.clone())),
        _ => Ok(directory),
    }
}

fn file_path(config: &StorageConfig, volume: &VolumeName, snapshot: Option<&str>) -> Result<PathBuf, NoPath> {
    let directory = directory(config, volume)?;
    let Some(snapshot) = snapshot else {
        return Ok(directory.join(&volume.name));
    };
    let qcow2 = volume.format.as_ref().and_then(|format| format.image()) == Some(ImageFormat::Qcow2);
    if !qcow2 {
        return Err(NoPath::Snapshot);
    }
    // An internal snapshot lives inside the file.
    if config.flag("snapshot-as-volume-chain") && snapshot != "current" {
        return Ok(directory.join(format!("snap-{snapshot}-{}", volume.name)));
    }
    Ok(directory.join(&volume.name))
}

fn btrfs_path(config: &StorageConfig, volume: &VolumeName, snapshot: Option<&str>) -> Result<PathBuf, NoPath> {
    let directory = directory(config, volume)?;
    let mark = snapshot.map(|snapshot| format!("@{snapshot}")).unwrap_or_default();
    let path = match volume.name.strip_suffix(".raw") {
        Some(stem) => directory.join(format!("{stem}{mark}")).join("disk.raw"),
        None => directory.join(format!("{}{mark}", volume.name)),
    };
    Ok(path)
}

fn lvm_path(config: &StorageConfig, volume: &VolumeName, snapshot: Option<&str>) -> Result<PathBuf, NoPath> {
    let group = config.get("vgname").ok_or_else(|| missing(config, "vgname"))?;
    let name = &volume.name;
    let qcow2_stem = name.strip_suffix(".qcow2");
    let device = match (config.kind, snapshot) {
        (_, None) | (StorageKind::Lvm, Some("current")) => name.clone(),
        (StorageKind::Lvm, Some(snapshot)) => {
            let stem = qcow2_stem.ok_or(NoPath::Snapshot)?;
            format!("snap_{stem}_{snapshot}.qcow2")
        }
        (_, Some(snapshot)) => format!("snap_{name}_{snapshot}"),
    };
    Ok(Path::new("/dev").join(group).join(device))
}

fn zfs_path(config: &StorageConfig, volume: &VolumeName, snapshot: Option<&str>) -> Result<PathBuf, NoPath> {
    let pool = config.get("pool").ok_or_else(|| missing(config, "pool"))?;
    let mark = snapshot.map(|snapshot| format!("@{snapshot}")).unwrap_or_default();
    let name = format!("{}{mark}", volume.name);
    let subvolume = volume.format.as_ref().and_then(|format| format.image()) == Some(ImageFormat::Subvol);
    if !subvolume {
        return Ok(Path::new("/dev/zvol").join(pool).join(name));
    }
    let directory = match config.get("mountpoint") {
        Some(mountpoint) => PathBuf::from(mountpoint),
        None => Path::new("/").join(pool),
    };
    Ok(directory.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::config;
    use crate::volume::parse_volume_name;

    /// Reference 08, vector V2.
    #[test]
    fn paths_follow_names() {
        let dir = config("dir: a path=/srv/a");
        let isos = config("dir: a path=/srv/a content-dirs=iso=isos");
        let chain = config("dir: a path=/srv/a snapshot-as-volume-chain=1");
        let btrfs = config("btrfs: a path=/srv/a");
        let lvm = config("lvm: a vgname=vgx");
        let thin = config("lvmthin: a vgname=vgx thinpool=t");
        let zfs = config("zfspool: a pool=tank/vm");
        let mounted = config("zfspool: a pool=tank/vm mountpoint=/mnt/t");
        let vectors = [
            (
                &dir,
                "99/base-99-disk-0.qcow2/812/vm-812-disk-1.qcow2",
                "",
                "/srv/a/images/812/vm-812-disk-1.qcow2",
            ),
            (&dir, "vztmpl/t.tar.gz", "", "/srv/a/template/cache/t.tar.gz"),
            (&dir, "backup/b.tgz", "", "/srv/a/dump/b.tgz"),
            (&isos, "iso/x.iso", "", "/srv/a/isos/x.iso"),
            (
                &dir,
                "812/vm-812-disk-0.qcow2",
                "s1",
                "/srv/a/images/812/vm-812-disk-0.qcow2",
            ),
            (&dir, "812/vm-812-disk-0.raw", "s1", "can't snapshot this image format"),
            (
                &chain,
                "812/vm-812-disk-0.qcow2",
                "s1",
                "/srv/a/images/812/snap-s1-vm-812-disk-0.qcow2",
            ),
            (
                &chain,
                "812/vm-812-disk-0.qcow2",
                "current",
                "/srv/a/images/812/vm-812-disk-0.qcow2",
            ),
            (
                &btrfs,
                "812/vm-812-disk-0.raw",
                "s1",
                "/srv/a/images/812/vm-812-disk-0@s1/disk.raw",
            ),
            (
                &btrfs,
                "812/subvol-812-disk-0.subvol",
                "s1",
                "/srv/a/images/812/subvol-812-disk-0.subvol@s1",
            ),
            (
                &lvm,
                "vm-812-disk-0.qcow2",
                "s1",
                "/dev/vgx/snap_vm-812-disk-0_s1.qcow2",
            ),
            (&lvm, "vm-812-disk-0.qcow2", "", "/dev/vgx/vm-812-disk-0.qcow2"),
            (&thin, "vm-812-disk-0", "s1", "/dev/vgx/snap_vm-812-disk-0_s1"),
            (&mounted, "subvol-812-disk-0", "", "/mnt/t/subvol-812-disk-0"),
            (&zfs, "subvol-812-disk-0", "", "/tank/vm/subvol-812-disk-0"),
            (
                &zfs,
                "base-9-disk-0/vm-812-disk-0",
                "s",
                "/dev/zvol/tank/vm/vm-812-disk-0@s",
            ),
        ];
        for (config, name, snapshot, expected) in vectors {
            let volume = parse_volume_name(config.kind, name).unwrap();
            let snapshot = Some(snapshot).filter(|snapshot| !snapshot.is_empty());
            let path = match volume_path(config, &volume, snapshot) {
                Ok(path) => path.display().to_string(),
                Err(error) => error.to_string(),
            };
            assert_eq!(path, expected, "{name}");
        }
    }
}
