//! Which options a storage type has (reference 08 §2.2).
//!
//! What their values may look like is the contract's affair: `POST /storage` declares every one of them.

use crate::kind::StorageKind;

/// How a type uses an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Must be set; may be changed.
    Required,
    /// Must be set, once.
    RequiredFixed,
    /// May be set when the storage is created.
    Fixed,
    /// May be set.
    Optional,
}

impl Use {
    /// Whether a section without it is incomplete.
    pub fn is_required(self) -> bool {
        matches!(self, Self::Required | Self::RequiredFixed)
    }

    /// Whether it stays as it was when the storage was created.
    pub fn is_fixed(self) -> bool {
        matches!(self, Self::Fixed | Self::RequiredFixed)
    }
}

/// Options whose values are secrets: they live in files of their own below `/etc/pve/priv`, never in `storage.cfg`
/// (reference 08 §2.4).
pub const SENSITIVE: [&str; 4] = ["encryption-key", "keyring", "master-pubkey", "password"];

use StorageKind::{Btrfs, Cephfs, Cifs, Dir, Esxi, Iscsi, Iscsidirect, Lvm, Lvmthin, Nfs, Pbs, Rbd, Zfs, Zfspool};
use Use::{Fixed, Optional, Required, RequiredFixed};

/// An option's name, and the types that have it.
type Row = (&'static str, &'static [(&'static [StorageKind], Use)]);

const FILES: &[StorageKind] = &[Dir, Btrfs, Nfs, Cifs, Cephfs];

/// Every option but those that all types have.
const TABLE: &[Row] = &[
    ("path", &[(FILES, RequiredFixed)]),
    ("shared", &[(&[Dir, Btrfs, Lvm, Esxi], Optional)]),
    (
        "bwlimit",
        &[(
            &[
                Dir,
                Nfs,
                Cifs,
                Cephfs,
                Lvm,
                Lvmthin,
                Zfspool,
                Zfs,
                Rbd,
                Iscsi,
                Iscsidirect,
            ],
            Optional,
        )],
    ),
    ("prune-backups", &[(&[Dir, Btrfs, Nfs, Cifs, Cephfs, Pbs], Optional)]),
    (
        "max-protected-backups",
        &[(&[Dir, Btrfs, Nfs, Cifs, Cephfs, Pbs], Optional)],
    ),
    ("format", &[(FILES, Optional)]),
    ("preallocation", &[(&[Dir, Btrfs, Nfs, Cifs], Optional)]),
    ("mkdir", &[(FILES, Optional)]),
    ("create-base-path", &[(FILES, Optional)]),
    ("create-subdirs", &[(FILES, Optional)]),
    ("content-dirs", &[(&[Dir, Nfs, Cifs, Cephfs], Optional)]),
    ("is_mountpoint", &[(&[Dir, Btrfs], Optional)]),
    (
        "snapshot-as-volume-chain",
        &[(&[Dir, Nfs, Cifs], Fixed), (&[Lvm], Optional)],
    ),
    ("nocow", &[(&[Btrfs], Optional)]),
    ("server", &[(&[Nfs, Cifs, Pbs], RequiredFixed), (&[Esxi], Required)]),
    ("export", &[(&[Nfs], RequiredFixed)]),
    ("options", &[(&[Nfs, Cifs, Cephfs], Optional)]),
    ("share", &[(&[Cifs], RequiredFixed)]),
    ("subdir", &[(&[Cifs, Cephfs], Optional)]),
    (
        "username",
        &[(&[Cifs, Cephfs, Rbd, Pbs], Optional), (&[Esxi], Required)],
    ),
    ("password", &[(&[Cifs, Pbs, Esxi], Optional)]),
    ("domain", &[(&[Cifs], Optional)]),
    ("smbversion", &[(&[Cifs], Optional)]),
    ("monhost", &[(&[Cephfs, Rbd], Optional)]),
    ("keyring", &[(&[Cephfs, Rbd], Optional)]),
    ("fuse", &[(&[Cephfs], Optional)]),
    ("fs-name", &[(&[Cephfs], Optional)]),
    ("vgname", &[(&[Lvm, Lvmthin], RequiredFixed)]),
    ("base", &[(&[Lvm], Fixed)]),
    ("saferemove", &[(&[Lvm], Optional)]),
    ("saferemove-stepsize", &[(&[Lvm], Optional)]),
    ("saferemove_throughput", &[(&[Lvm], Optional)]),
    ("tagged_only", &[(&[Lvm], Optional)]),
    ("thinpool", &[(&[Lvmthin], RequiredFixed)]),
    ("pool", &[(&[Zfspool, Zfs], RequiredFixed), (&[Rbd], Optional)]),
    ("blocksize", &[(&[Zfspool], Optional), (&[Zfs], RequiredFixed)]),
    ("sparse", &[(&[Zfspool, Zfs], Optional)]),
    ("mountpoint", &[(&[Zfspool], Optional)]),
    ("iscsiprovider", &[(&[Zfs], RequiredFixed)]),
    ("nowritecache", &[(&[Zfs], Optional)]),
    ("comstar_tg", &[(&[Zfs], Optional)]),
    ("comstar_hg", &[(&[Zfs], Optional)]),
    ("lio_tpg", &[(&[Zfs], Optional)]),
    ("zfs-base-path", &[(&[Zfs], Optional)]),
    ("portal", &[(&[Zfs, Iscsi, Iscsidirect], RequiredFixed)]),
    ("target", &[(&[Zfs, Iscsi, Iscsidirect], RequiredFixed)]),
    ("data-pool", &[(&[Rbd], Optional)]),
    ("krbd", &[(&[Rbd], Optional)]),
    ("namespace", &[(&[Rbd, Pbs], Optional)]),
    ("datastore", &[(&[Pbs], RequiredFixed)]),
    ("fingerprint", &[(&[Pbs], Optional)]),
    ("encryption-key", &[(&[Pbs], Optional)]),
    ("master-pubkey", &[(&[Pbs], Optional)]),
    ("port", &[(&[Pbs, Esxi], Optional)]),
    ("skip-cert-verification", &[(&[Esxi], Optional)]),
];

/// Options that every type has.
const COMMON: [&str; 3] = ["content", "disable", "nodes"];

/// How a type uses an option; `None` when it has no such option.
pub fn use_of(kind: StorageKind, option: &str) -> Option<Use> {
    if COMMON.contains(&option) {
        return Some(Optional);
    }
    let (_, uses) = TABLE.iter().find(|(name, _)| *name == option)?;
    let (_, used) = uses.iter().find(|(kinds, _)| kinds.contains(&kind))?;
    Some(*used)
}

/// Whether any type has the option.
pub fn is_known(option: &str) -> bool {
    COMMON.contains(&option) || TABLE.iter().any(|(name, _)| *name == option)
}

/// The options that a type's section must have, sorted.
pub fn required(kind: StorageKind) -> Vec<&'static str> {
    let names = TABLE.iter().map(|(name, _)| *name);
    let mut names: Vec<&str> = names
        .filter(|name| use_of(kind, name).is_some_and(Use::is_required))
        .collect();
    names.sort_unstable();
    names
}

/// Every option of a type, sorted.
pub fn of_kind(kind: StorageKind) -> Vec<&'static str> {
    let mut names: Vec<&str> = TABLE.iter().map(|(name, _)| *name).chain(COMMON).collect();
    names.retain(|name| use_of(kind, name).is_some());
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_differ_in_what_they_require() {
        assert_eq!(required(Dir), ["path"]);
        assert_eq!(required(Nfs), ["export", "path", "server"]);
        assert_eq!(required(Esxi), ["server", "username"]);
        assert_eq!(
            required(Zfs),
            ["blocksize", "iscsiprovider", "pool", "portal", "target"]
        );
        assert_eq!(required(Rbd), [""; 0]);
        assert_eq!(use_of(Zfspool, "blocksize"), Some(Optional));
        assert_eq!(use_of(Dir, "server"), None);
        assert!(is_known("server") && !is_known("bogus"));
    }
}
