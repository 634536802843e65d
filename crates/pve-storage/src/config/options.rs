//! Which options a storage type has (reference 08 §2.2).
//!
//! What their values may look like is the contract's affair: `POST /storage` declares every one of them.

use pve_schema::section_config::{Row, Use};

use crate::kind::StorageKind;

/// Options whose values are secrets: they live in files of their own below `/etc/pve/priv`, never in `storage.cfg`
/// (reference 08 §2.4).
pub const SENSITIVE: [&str; 4] = ["encryption-key", "keyring", "master-pubkey", "password"];

use StorageKind::{Btrfs, Cephfs, Cifs, Dir, Esxi, Iscsi, Iscsidirect, Lvm, Lvmthin, Nfs, Pbs, Rbd, Zfs, Zfspool};

const FILES: &[StorageKind] = &[Dir, Btrfs, Nfs, Cifs, Cephfs];

/// Every option.
pub(super) const TABLE: &[Row<StorageKind>] = &[
    ("content", &[(&StorageKind::ALL, Use::OPTIONAL)]),
    ("disable", &[(&StorageKind::ALL, Use::OPTIONAL)]),
    ("nodes", &[(&StorageKind::ALL, Use::OPTIONAL)]),
    ("path", &[(FILES, Use::REQUIRED_FIXED)]),
    ("shared", &[(&[Dir, Btrfs, Lvm, Esxi], Use::OPTIONAL)]),
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
            Use::OPTIONAL,
        )],
    ),
    (
        "prune-backups",
        &[(&[Dir, Btrfs, Nfs, Cifs, Cephfs, Pbs], Use::OPTIONAL)],
    ),
    (
        "max-protected-backups",
        &[(&[Dir, Btrfs, Nfs, Cifs, Cephfs, Pbs], Use::OPTIONAL)],
    ),
    ("format", &[(FILES, Use::OPTIONAL)]),
    ("preallocation", &[(&[Dir, Btrfs, Nfs, Cifs], Use::OPTIONAL)]),
    ("mkdir", &[(FILES, Use::OPTIONAL)]),
    ("create-base-path", &[(FILES, Use::OPTIONAL)]),
    ("create-subdirs", &[(FILES, Use::OPTIONAL)]),
    ("content-dirs", &[(&[Dir, Nfs, Cifs, Cephfs], Use::OPTIONAL)]),
    ("is_mountpoint", &[(&[Dir, Btrfs], Use::OPTIONAL)]),
    (
        "snapshot-as-volume-chain",
        &[(&[Dir, Nfs, Cifs], Use::FIXED), (&[Lvm], Use::OPTIONAL)],
    ),
    ("nocow", &[(&[Btrfs], Use::OPTIONAL)]),
    (
        "server",
        &[(&[Nfs, Cifs, Pbs], Use::REQUIRED_FIXED), (&[Esxi], Use::REQUIRED)],
    ),
    ("export", &[(&[Nfs], Use::REQUIRED_FIXED)]),
    ("options", &[(&[Nfs, Cifs, Cephfs], Use::OPTIONAL)]),
    ("share", &[(&[Cifs], Use::REQUIRED_FIXED)]),
    ("subdir", &[(&[Cifs, Cephfs], Use::OPTIONAL)]),
    (
        "username",
        &[(&[Cifs, Cephfs, Rbd, Pbs], Use::OPTIONAL), (&[Esxi], Use::REQUIRED)],
    ),
    ("password", &[(&[Cifs, Pbs, Esxi], Use::OPTIONAL)]),
    ("domain", &[(&[Cifs], Use::OPTIONAL)]),
    ("smbversion", &[(&[Cifs], Use::OPTIONAL)]),
    ("monhost", &[(&[Cephfs, Rbd], Use::OPTIONAL)]),
    ("keyring", &[(&[Cephfs, Rbd], Use::OPTIONAL)]),
    ("fuse", &[(&[Cephfs], Use::OPTIONAL)]),
    ("fs-name", &[(&[Cephfs], Use::OPTIONAL)]),
    ("vgname", &[(&[Lvm, Lvmthin], Use::REQUIRED_FIXED)]),
    ("base", &[(&[Lvm], Use::FIXED)]),
    ("saferemove", &[(&[Lvm], Use::OPTIONAL)]),
    ("saferemove-stepsize", &[(&[Lvm], Use::OPTIONAL)]),
    ("saferemove_throughput", &[(&[Lvm], Use::OPTIONAL)]),
    ("tagged_only", &[(&[Lvm], Use::OPTIONAL)]),
    ("thinpool", &[(&[Lvmthin], Use::REQUIRED_FIXED)]),
    (
        "pool",
        &[(&[Zfspool, Zfs], Use::REQUIRED_FIXED), (&[Rbd], Use::OPTIONAL)],
    ),
    (
        "blocksize",
        &[(&[Zfspool], Use::OPTIONAL), (&[Zfs], Use::REQUIRED_FIXED)],
    ),
    ("sparse", &[(&[Zfspool, Zfs], Use::OPTIONAL)]),
    ("mountpoint", &[(&[Zfspool], Use::OPTIONAL)]),
    ("iscsiprovider", &[(&[Zfs], Use::REQUIRED_FIXED)]),
    ("nowritecache", &[(&[Zfs], Use::OPTIONAL)]),
    ("comstar_tg", &[(&[Zfs], Use::OPTIONAL)]),
    ("comstar_hg", &[(&[Zfs], Use::OPTIONAL)]),
    ("lio_tpg", &[(&[Zfs], Use::OPTIONAL)]),
    ("zfs-base-path", &[(&[Zfs], Use::OPTIONAL)]),
    ("portal", &[(&[Zfs, Iscsi, Iscsidirect], Use::REQUIRED_FIXED)]),
    ("target", &[(&[Zfs, Iscsi, Iscsidirect], Use::REQUIRED_FIXED)]),
    ("data-pool", &[(&[Rbd], Use::OPTIONAL)]),
    ("krbd", &[(&[Rbd], Use::OPTIONAL)]),
    ("namespace", &[(&[Rbd, Pbs], Use::OPTIONAL)]),
    ("datastore", &[(&[Pbs], Use::REQUIRED_FIXED)]),
    ("fingerprint", &[(&[Pbs], Use::OPTIONAL)]),
    ("encryption-key", &[(&[Pbs], Use::OPTIONAL)]),
    ("master-pubkey", &[(&[Pbs], Use::OPTIONAL)]),
    ("port", &[(&[Pbs, Esxi], Use::OPTIONAL)]),
    ("skip-cert-verification", &[(&[Esxi], Use::OPTIONAL)]),
];

/// Whether an option is a secret: it lives in a file of its own.
pub fn is_sensitive(option: &str) -> bool {
    SENSITIVE.contains(&option)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::format;

    #[test]
    fn types_differ_in_what_they_require() {
        let required = |kind: StorageKind| format().required(kind.as_str()).collect::<Vec<_>>();
        assert_eq!(required(Dir), ["path"]);
        assert_eq!(required(Nfs), ["export", "path", "server"]);
        assert_eq!(required(Esxi), ["server", "username"]);
        assert_eq!(
            required(Zfs),
            ["blocksize", "iscsiprovider", "pool", "portal", "target"]
        );
        assert_eq!(required(Rbd), [""; 0]);
        assert_eq!(format().usage("zfspool", "blocksize"), Some(Use::OPTIONAL));
        assert_eq!(format().usage("dir", "server"), None);
        assert!(format().schema("server").is_some() && format().schema("bogus").is_none());
    }

    #[test]
    fn the_contract_declares_every_option() {
        for (option, _) in TABLE {
            assert!(format().schema(option).is_some(), "{option}");
        }
    }
}
