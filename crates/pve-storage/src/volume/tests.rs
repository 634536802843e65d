//! Reference 08, vectors V1 and V3.

use proptest::prelude::*;

use super::*;

/// The parts of a parsed name as V1 writes them.
fn parts(kind: StorageKind, name: &str) -> String {
    match parse_volume_name(kind, name) {
        Err(error) => error.to_string(),
        Ok(volume) => {
            let number = |number: Option<u32>| number.map_or("-".to_owned(), |number| number.to_string());
            let (base, base_owner) = match &volume.base {
                Some(base) => (base.name.clone(), Some(base.owner)),
                None => ("-".to_owned(), None),
            };
            let format = volume.format.as_ref().map_or("-".to_owned(), ToString::to_string);
            format!(
                "{}, {}, {}, {base}, {}, {}, {format}",
                volume.content,
                volume.name,
                number(volume.owner),
                number(base_owner),
                if volume.is_base { "yes" } else { "no" },
            )
        }
    }
}

#[test]
fn names_on_directories() {
    let vectors = [
        (
            "4711/vm-4711-disk-0.raw",
            "images, vm-4711-disk-0.raw, 4711, -, -, no, raw",
        ),
        (
            "4711/base-4711-disk-0.qcow2/812/vm-812-disk-1.qcow2",
            "images, vm-812-disk-1.qcow2, 812, base-4711-disk-0.qcow2, 4711, no, qcow2",
        ),
        (
            "4711/base-4711-disk-0.qcow2",
            "images, base-4711-disk-0.qcow2, 4711, -, -, yes, qcow2",
        ),
        (
            "812/subvol-812-disk-0.subvol",
            "images, subvol-812-disk-0.subvol, 812, -, -, no, subvol",
        ),
        ("812/my-data.vmdk", "images, my-data.vmdk, 812, -, -, no, vmdk"),
        (
            "812/vm-812-disk-0.qed",
            "unable to parse volume filename 'vm-812-disk-0.qed'",
        ),
        ("812/x y.raw", "unable to parse volume filename 'x y.raw'"),
        ("812/.raw", "unable to parse volume filename '.raw'"),
        ("812/../x.raw", "unable to parse volume filename '../x.raw'"),
        (
            "812/snap-a-vm-812-disk-0.qcow2",
            "'snap-a-vm-812-disk-0.qcow2' is a snapshot filename, not a volume!",
        ),
        ("iso/tiny.IMG", "iso, tiny.IMG, -, -, -, no, raw"),
        (
            "iso/sub/tiny.iso",
            "unable to parse directory volume name 'iso/sub/tiny.iso'",
        ),
        (
            "iso/tiny.iso.gz",
            "unable to parse directory volume name 'iso/tiny.iso.gz'",
        ),
        (
            "vztmpl/deb-13_1_amd64.tar.zst",
            "vztmpl, deb-13_1_amd64.tar.zst, -, -, -, no, raw",
        ),
        ("vztmpl/app_1.tar", "vztmpl, app_1.tar, -, -, -, no, raw"),
        (
            "vztmpl/app.tgz",
            "unable to parse directory volume name 'vztmpl/app.tgz'",
        ),
        (
            "vztmpl/app.tar.lzo",
            "unable to parse directory volume name 'vztmpl/app.tar.lzo'",
        ),
        (
            "backup/vzdump-qemu-9-2026_02_03-04_05_06.vma",
            "backup, vzdump-qemu-9-2026_02_03-04_05_06.vma, 9, -, -, no, raw",
        ),
        ("backup/mine.tgz", "backup, mine.tgz, -, -, -, no, raw"),
        (
            "backup/mine.tar.xz",
            "unable to parse directory volume name 'backup/mine.tar.xz'",
        ),
        ("import/w.ova/d-1.vmdk", "import, w.ova/d-1.vmdk, -, -, -, no, ova+vmdk"),
        ("import/a b.ova", "import, a b.ova, -, -, -, no, ova"),
        ("import/w.img", "unable to parse directory volume name 'import/w.img'"),
        ("snippets/two words.yml", "snippets, two words.yml, -, -, -, no, raw"),
        ("snippets/a/b", "unable to parse directory volume name 'snippets/a/b'"),
        ("snippets/..", "unable to parse directory volume name 'snippets/..'"),
        ("812", "unable to parse directory volume name '812'"),
        ("nope/x", "unable to parse directory volume name 'nope/x'"),
        (
            "0812/vm-812-disk-0.raw",
            "unable to parse directory volume name '0812/vm-812-disk-0.raw'",
        ),
    ];
    for (name, expected) in vectors {
        assert_eq!(parts(StorageKind::Dir, name), expected);
    }
}

#[test]
fn names_on_other_types() {
    use StorageKind::{Iscsi, Lvm, Lvmthin, Pbs, Rbd, Zfspool};
    let vectors = [
        (
            Lvm,
            "vm-812-disk-0.qcow2",
            "images, vm-812-disk-0.qcow2, 812, -, -, no, qcow2",
        ),
        (
            Lvm,
            "base-812-disk-0",
            "unable to parse lvm volume name 'base-812-disk-0'",
        ),
        (
            Lvm,
            "snap_vm-812-disk-0_a",
            "unable to parse lvm volume name 'snap_vm-812-disk-0_a'",
        ),
        (Lvm, "vm-812-", "lvm name 'vm-812-' contains illegal characters"),
        (
            Lvmthin,
            "base-812-disk-0",
            "images, base-812-disk-0, 812, -, -, yes, raw",
        ),
        (
            Lvmthin,
            "vm-812-disk-0.qcow2",
            "images, vm-812-disk-0.qcow2, 812, -, -, no, raw",
        ),
        (
            Zfspool,
            "basevol-99-disk-0/subvol-812-disk-1",
            "images, subvol-812-disk-1, 812, basevol-99-disk-0, 99, no, subvol",
        ),
        (
            Zfspool,
            "foo-812-disk-0",
            "unable to parse zfs volume name 'foo-812-disk-0'",
        ),
        (
            Rbd,
            "base-99-disk-0/vm-812-disk-0",
            "images, vm-812-disk-0, 812, base-99-disk-0, 99, no, raw",
        ),
        (Iscsi, "0.0.3.scsi-360a", "images, scsi-360a, -, -, -, no, raw"),
        (
            Iscsi,
            "0.0.scsi-360a",
            "unable to parse iscsi volume name '0.0.scsi-360a'",
        ),
        (
            Pbs,
            "backup/ct/812/2026-02-03T04:05:06Z",
            "backup, ct/812/2026-02-03T04:05:06Z, 812, -, -, no, pbs-ct",
        ),
        (
            Pbs,
            "backup/host/nas/2026-02-03T04:05:06Z",
            "backup, host/nas/2026-02-03T04:05:06Z, -, -, -, no, pbs-host",
        ),
    ];
    for (kind, name, expected) in vectors {
        assert_eq!(parts(kind, name), expected);
    }
}

/// Reference 08, vector V3.
#[test]
fn new_disks_take_the_lowest_free_number() {
    let next = |kind, format, used: &[&str]| next_disk_name("st", kind, 812, format, used.iter().copied()).unwrap();
    let name = |prefix: &str, rest: &str| format!("{prefix}-812-disk-{rest}");
    let used = [name("vm", "0.raw"), name("vm", "2.qcow2")];
    let used: Vec<&str> = used.iter().map(String::as_str).collect();
    assert_eq!(next(StorageKind::Dir, ImageFormat::Raw, &used), "vm-812-disk-1.raw");
    let used = [
        name("vm", "0.raw"),
        name("base", "1.raw"),
        name("subvol", "2.subvol"),
        "vm-81-disk-3.raw".into(),
    ];
    let used: Vec<&str> = used.iter().map(String::as_str).collect();
    assert_eq!(next(StorageKind::Dir, ImageFormat::Raw, &used), "vm-812-disk-3.raw");
    let lvm = ["vm-812-disk-0", "vm-812-disk-1.qcow2"];
    assert_eq!(next(StorageKind::Lvm, ImageFormat::Qcow2, &lvm), "vm-812-disk-0.qcow2");
    let zfs = ["vm-812-disk-0", "subvol-812-disk-1"];
    assert_eq!(
        next(StorageKind::Zfspool, ImageFormat::Subvol, &zfs),
        "subvol-812-disk-2"
    );
}

#[test]
fn a_guest_has_1024_disks_at_most() {
    let used: Vec<String> = (0..1024).map(|n| format!("vm-812-disk-{n}.raw")).collect();
    let result = next_disk_name(
        "st",
        StorageKind::Dir,
        812,
        ImageFormat::Raw,
        used.iter().map(String::as_str),
    );
    let expected = "unable to allocate an image name for VM 812 in storage 'st'";
    assert_eq!(result.unwrap_err().to_string(), expected);
}

proptest! {
    /// Whatever the text: no panic, and a name that parses stays inside its directory.
    #[test]
    fn names_never_leave_their_directory(
        kind in prop::sample::select(StorageKind::ALL.to_vec()),
        head in "(images|iso|snippets|backup|import|vztmpl|[0-9]{1,4})?",
        tail in "(/|\\.|\\.\\.|-|vm|base|[a-z0-9 ]{1,3}|raw|qcow2|iso|tar|\\PC){0,8}",
    ) {
        for text in [format!("{head}/{tail}"), tail.clone(), format!("vm-812-{tail}")] {
            if let Ok(volume) = parse_volume_name(kind, &text) {
                prop_assert!(volume.name.split('/').all(|part| !["", ".", ".."].contains(&part)), "{text}");
            }
        }
    }
}
