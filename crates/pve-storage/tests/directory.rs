//! Storages of type `dir` on real directories with the real `qemu-img`.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use common::{Lab, text};
use pve_daemon::command::Command;
use pve_schema::ids::{AuthId, VolumeId};
use pve_storage::{AllocRequest, Content, ImageFormat, Storages};

const ST: &str = "dir: st\n\tpath BASE\n\tcontent images,rootdir,iso,vztmpl,backup,snippets,import\n";

fn volume(text: &str) -> VolumeId {
    text.parse().unwrap()
}

fn alloc(storages: &Storages, name: Option<&str>, format: Option<ImageFormat>, size_kib: u64) -> String {
    let request = AllocRequest {
        storage: "st".parse().unwrap(),
        vmid: "812".parse().unwrap(),
        format,
        name: name.map(str::to_owned),
        size_kib,
    };
    match storages.alloc(&request) {
        Ok(volume) => volume.to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_disk_from_making_to_removal() {
    let lab = Lab::new(ST);
    let storages = lab.storages();
    for (format, name) in [
        (None, "st:812/vm-812-disk-0.raw"),
        (Some(ImageFormat::Qcow2), "st:812/vm-812-disk-1.qcow2"),
        (Some(ImageFormat::Vmdk), "st:812/vm-812-disk-2.vmdk"),
    ] {
        assert_eq!(alloc(&storages, None, format, 4096), name);
        assert_eq!(storages.size_info(&volume(name)).unwrap().size, 4 << 20, "{name}");
        let path = storages.path(&volume(name)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(storages.associate_path(&path).unwrap(), volume(name));
    }
    assert_eq!(
        alloc(&storages, None, Some(ImageFormat::Subvol), 0),
        "st:812/subvol-812-disk-3.subvol"
    );

    // Sizes are rounded up to whole KiB.
    storages
        .resize(&volume("st:812/vm-812-disk-1.qcow2"), (8 << 20) - 5)
        .unwrap();
    assert_eq!(
        storages.size_info(&volume("st:812/vm-812-disk-1.qcow2")).unwrap().size,
        8 << 20
    );
    storages.resize(&volume("st:812/vm-812-disk-0.raw"), 8 << 20).unwrap();
    assert_eq!(
        storages.size_info(&volume("st:812/vm-812-disk-0.raw")).unwrap().size,
        8 << 20
    );
    let refused = storages.resize(&volume("st:812/vm-812-disk-2.vmdk"), 8 << 20);
    assert_eq!(text(refused), "can't resize this image format");

    let listed = storages
        .list(&"st".parse().unwrap(), Some(Content::Images), None)
        .unwrap();
    assert_eq!(listed.len(), 4);
    for row in listed {
        storages.free(&volume(&row.volid)).unwrap();
    }
    assert!(
        !lab.base().join("images/812").exists(),
        "the guest's directory goes with its last disk"
    );
    // What is gone already is no error.
    storages.free(&volume("st:812/vm-812-disk-0.raw")).unwrap();
}

#[test]
fn names_that_cannot_be_made() {
    let lab = Lab::new(ST);
    let storages = lab.storages();
    let qcow2 = Some(ImageFormat::Qcow2);
    assert_eq!(
        alloc(&storages, Some("my disk.qcow2"), qcow2, 1),
        "unable to parse volume filename 'my disk.qcow2'"
    );
    assert_eq!(
        alloc(&storages, Some("../x.qcow2"), qcow2, 1),
        "unable to parse volume filename '../x.qcow2'"
    );
    assert_eq!(
        alloc(&storages, Some("x.raw"), qcow2, 1),
        "illegal name 'x.raw' - wrong extension for format ('raw != 'qcow2')"
    );
    assert_eq!(
        alloc(&storages, None, Some(ImageFormat::Subvol), 1),
        "storage does not support subvol quotas"
    );
    assert!(!lab.base().join("images/812").exists());
    assert_eq!(alloc(&storages, Some("x.qcow2"), qcow2, 1024), "st:812/x.qcow2");
    let path = lab.base().join("images/812/x.qcow2");
    let before = fs::read(&path).unwrap();
    assert_eq!(
        alloc(&storages, Some("x.qcow2"), qcow2, 2048),
        format!("disk image '{}' already exists", path.display())
    );
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn snapshots_inside_qcow2() {
    let lab = Lab::new(ST);
    let storages = lab.storages();
    let disk = volume(&alloc(&storages, None, Some(ImageFormat::Qcow2), 1024));
    let path = storages.path(&disk).unwrap();
    let write = |pattern: &str| {
        let io = format!("write -P {pattern} 0 4k");
        let path = path.display().to_string();
        let command = Command::new("/usr/bin/qemu-io", Duration::from_secs(20));
        command.args(["-f", "qcow2", "-c", &io, &path]).run().unwrap();
    };
    let reads = |pattern: &str| {
        let io = format!("read -P {pattern} 0 4k");
        let path = path.display().to_string();
        let command = Command::new("/usr/bin/qemu-io", Duration::from_secs(20));
        command.args(["-f", "qcow2", "-c", &io, &path]).run().is_ok()
    };
    write("1");
    storages.snapshot_create(&disk, "s1").unwrap();
    write("2");
    assert!(reads("2"));
    storages.snapshot_rollback(&disk, "s1").unwrap();
    assert!(reads("1") && !reads("2"));
    storages.snapshot_delete(&disk, "s1").unwrap();
    assert!(storages.snapshot_delete(&disk, "s1").is_err());
    let raw = volume(&alloc(&storages, None, Some(ImageFormat::Raw), 1024));
    assert_eq!(
        text(storages.snapshot_create(&raw, "s1")),
        "can't snapshot this image format"
    );
}

#[test]
fn a_base_volume_stays_while_a_clone_needs_it() {
    let lab = Lab::new(ST);
    let storages = lab.storages();
    let base = alloc(&storages, Some("base-812-disk-0.qcow2"), Some(ImageFormat::Qcow2), 1024);
    let clones = lab.base().join("images/900");
    fs::create_dir_all(&clones).unwrap();
    let clone = clones.join("vm-900-disk-0.qcow2");
    let backing = std::path::Path::new("../812/base-812-disk-0.qcow2");
    pve_storage::qemu_img::create_backed(&clone, backing, ImageFormat::Qcow2, None)
        .run()
        .unwrap();

    let rows = storages
        .list(&"st".parse().unwrap(), None, Some("900".parse().unwrap()))
        .unwrap();
    assert_eq!(rows[0].volid, "st:812/base-812-disk-0.qcow2/900/vm-900-disk-0.qcow2");
    assert_eq!(rows[0].parent, Some(Some("../812/base-812-disk-0.qcow2".to_owned())));
    assert_eq!(storages.associate_path(&clone).unwrap().to_string(), rows[0].volid);
    let refused = text(storages.free(&volume(&base)));
    assert_eq!(
        refused,
        "base volume '812/base-812-disk-0.qcow2' is still in use by linked clones"
    );
    storages.free(&volume(&rows[0].volid)).unwrap();
    storages.free(&volume(&base)).unwrap();
}

/// Reference 08, vector V5.
#[test]
fn content_rows() {
    let lab = Lab::new(ST);
    fs::write(lab.context.site.etc_pve().join("nodes/n1/lxc/101.conf"), "").unwrap();
    lab.file("template/iso/B.IMG", "abc");
    lab.file("template/iso/readme.txt", "");
    symlink("/nonexistent", lab.base().join("template/iso/dead.iso")).unwrap();
    fs::create_dir(lab.base().join("template/iso/dir.iso")).unwrap();
    for name in ["t_1.tar.zst", "t.tar", "t.tgz"] {
        lab.file(&format!("template/cache/{name}"), "");
    }
    let standard = "dump/vzdump-lxc-101-2026_02_03-04_05_06.tar.zst";
    lab.file(standard, "");
    lab.file(&format!("{standard}.notes"), "first\nsecond");
    lab.file(&format!("{standard}.protected"), "");
    lab.file("dump/vzdump-qemu-100-keep.vma.gz", "");
    lab.file("dump/manual.tgz", "");
    lab.file("snippets/two words.yml", "x");
    for name in ["sp ace.ova", "x.txt", "ok.ova", "d.qcow2"] {
        lab.file(&format!("import/{name}"), "");
    }
    for (owner, name) in [
        ("101", "subvol-101-disk-0.subvol"),
        ("812", "subvol-812-disk-0.subvol"),
        ("007", "x.subvol"),
    ] {
        fs::create_dir_all(lab.base().join("images").join(owner).join(name)).unwrap();
    }

    let storages = lab.storages();
    let list = |content: Option<Content>, vmid: Option<&str>| {
        let vmid = vmid.map(|vmid| vmid.parse().unwrap());
        let rows = storages.list(&"st".parse().unwrap(), content, vmid).unwrap();
        rows.into_iter()
            .map(|row| serde_json::to_value(row).unwrap())
            .collect::<Vec<_>>()
    };
    let ids = |rows: &[serde_json::Value]| -> Vec<String> {
        rows.iter()
            .map(|row| row["volid"].as_str().unwrap().to_owned())
            .collect()
    };
    let iso = &list(Some(Content::Iso), None)[..];
    assert_eq!(ids(iso), ["st:iso/B.IMG"]);
    assert_eq!(
        (
            &iso[0]["content"],
            &iso[0]["format"],
            &iso[0]["size"],
            iso[0]["ctime"].is_i64()
        ),
        (&"iso".into(), &"iso".into(), &3.into(), true)
    );
    assert_eq!(iso[0].as_object().unwrap().len(), 5);

    let templates = list(Some(Content::Vztmpl), None);
    let formats: Vec<_> = templates.iter().map(|row| row["format"].as_str().unwrap()).collect();
    assert_eq!(formats, ["tar", "tzst"]);

    let backups = list(Some(Content::Backup), None);
    assert_eq!(
        ids(&backups),
        [
            "st:backup/manual.tgz",
            "st:backup/vzdump-lxc-101-2026_02_03-04_05_06.tar.zst",
            "st:backup/vzdump-qemu-100-keep.vma.gz"
        ]
    );
    assert_eq!(
        (&backups[0]["subtype"], backups[0].get("vmid")),
        (&"unknown".into(), None)
    );
    let [format, subtype, vmid, notes, protected] =
        ["format", "subtype", "vmid", "notes", "protected"].map(|key| &backups[1][key]);
    assert_eq!((format, subtype, vmid), (&"tar.zst".into(), &"lxc".into(), &101.into()));
    assert_eq!((notes, protected), (&"first".into(), &1.into()));
    let zone = jiff::tz::TimeZone::system();
    let expected = jiff::civil::date(2026, 2, 3).at(4, 5, 6, 0).to_zoned(zone).unwrap();
    assert_eq!(backups[1]["ctime"], expected.timestamp().as_second());
    assert_eq!(
        (&backups[2]["format"], &backups[2]["vmid"]),
        (&"vma.gz".into(), &100.into())
    );

    let disks = list(Some(Content::Rootdir), None);
    assert_eq!(ids(&disks), ["st:101/subvol-101-disk-0.subvol"]);
    let [content, size, used] = ["content", "size", "used"].map(|key| &disks[0][key]);
    assert_eq!((content, size, used), (&"rootdir".into(), &0.into(), &0.into()));
    assert!(disks[0]["parent"].is_null() && disks[0].get("parent").is_some());
    assert_eq!(
        ids(&list(Some(Content::Images), None)),
        ["st:812/subvol-812-disk-0.subvol"]
    );

    assert_eq!(
        ids(&list(Some(Content::Import), None)),
        ["st:import/d.qcow2", "st:import/ok.ova"]
    );
    assert_eq!(list(Some(Content::Snippets), None)[0]["format"], "snippet");
    assert_eq!(ids(&list(Some(Content::Backup), Some("101"))).len(), 1);
    assert_eq!(ids(&list(Some(Content::Iso), Some("101"))), [""; 0]);
    let all = ids(&list(None, None));
    assert_eq!(all.len(), 1 + 2 + 3 + 2 + 2 + 1);
    assert!(all.is_sorted_by_key(|id| id.to_lowercase()));
}

#[test]
fn notes_and_protection_of_backups() {
    let lab = Lab::new(ST);
    let names: Vec<String> = (0..7)
        .map(|n| format!("vzdump-qemu-812-2026_02_03-04_05_0{n}.vma"))
        .collect();
    for name in &names {
        lab.file(&format!("dump/{name}"), "");
    }
    lab.file("dump/vzdump-qemu-812-2026_02_03-04_05_00.log", "log");
    let storages = lab.storages();
    let backups: Vec<VolumeId> = names.iter().map(|name| volume(&format!("st:backup/{name}"))).collect();

    storages.set_notes(&backups[0], "zwei\nZeilen ü").unwrap();
    assert_eq!(storages.notes(&backups[0]).unwrap(), "zwei\nZeilen ü");
    storages.set_notes(&backups[1], "x").unwrap();
    storages.set_notes(&backups[1], "").unwrap();
    assert!(!lab.base().join(format!("dump/{}.notes", names[1])).exists());
    let iso = volume("st:iso/a.iso");
    assert_eq!(text(storages.set_notes(&iso, "x")), "only backups can have notes");
    assert_eq!(
        text(storages.set_protected(&iso, true, true)),
        "only backups support attribute 'protected'"
    );

    for backup in &backups[..5] {
        storages.set_protected(backup, true, false).unwrap();
    }
    storages.set_protected(&backups[0], true, false).unwrap();
    assert_eq!(
        text(storages.set_protected(&backups[5], true, false)),
        "The number of protected backups per guest is limited to 5 on storage 'st'"
    );
    storages.set_protected(&backups[5], true, true).unwrap();
    assert_eq!(
        text(storages.free(&backups[0])),
        format!("cannot remove protected volume 'backup/{}' on 'st'", names[0])
    );
    storages.set_protected(&backups[0], false, false).unwrap();
    storages.free(&backups[0]).unwrap();
    let left: Vec<_> = fs::read_dir(lab.base().join("dump")).unwrap().collect();
    assert_eq!(left.len(), 6 + 5, "archive, log and notes are gone");
}

#[test]
fn storages_that_cannot_be_used() {
    let lab = Lab::new(
        "dir: off\n\tpath BASE\n\tdisable\n\ndir: other\n\tpath BASE\n\tnodes n2\n\nlvm: vg\n\tvgname vg0\n\n\
         dir: gone\n\tpath BASE/gone\n\tmkdir 0\n",
    );
    let storages = lab.storages();
    let activate = |id: &str| text(storages.activate(&id.parse().unwrap()));
    assert_eq!(activate("off"), "storage 'off' is disabled");
    assert_eq!(activate("other"), "storage 'other' is not available on node 'n1'");
    assert_eq!(activate("none"), "storage 'none' does not exist");
    assert_eq!(activate("vg"), "storage type 'lvm' is not supported by this build yet");
    assert!(activate("gone").ends_with("/gone' does not exist or is unreachable"));
    assert_eq!(activate("local"), "ok");
    let error = storages.status(&"vg".parse().unwrap()).unwrap_err();
    assert_eq!(pve_schema::Failure::status(&error), 501);
    assert!(!storages.status(&"gone".parse().unwrap()).unwrap().active);
    let missing = text(storages.activate_volumes(&[volume("local:iso/a.iso")]));
    assert_eq!(missing, "volume 'local:iso/a.iso' does not exist");
}

/// Reference 08, vector V9.
#[test]
fn access_to_volumes() {
    let lab = Lab::new("dir: loc\n\tpath BASE\n");
    let storages = lab.storages();
    let caller: AuthId = "joe@pve".parse().unwrap();
    let check = |volume: &str, expected: Option<Content>, vmid: Option<&str>, privilege: &str| {
        let rights = format!("user:joe@pve:1:0::::::\nrole:R:{privilege}:\nacl:1:/storage/loc:joe@pve:R:\n");
        let rights = pve_access::UserConfig::parse(&rights);
        let vmid = vmid.map(|vmid| vmid.parse().unwrap());
        text(storages.check_volume_access(&rights, &caller, volume, vmid, expected))
    };
    let disk = "loc:812/vm-812-disk-0.raw";
    assert_eq!(
        check("loc:iso/a.iso", Some(Content::Iso), None, "Datastore.Audit"),
        "ok"
    );
    assert_eq!(
        check("loc:iso/a.iso", Some(Content::Vztmpl), None, "Datastore.Audit"),
        "unable to use volume loc:iso/a.iso - content type needs to be 'vztmpl'"
    );
    assert_eq!(check(disk, Some(Content::Rootdir), Some("812"), ""), "ok");
    assert_eq!(
        check(disk, Some(Content::Images), Some("900"), "Datastore.Audit"),
        "Permission check failed (/vms/812, VM.Config.Disk)"
    );
    assert_eq!(
        check(
            "loc:backup/vzdump-lxc-812-2026_02_03-04_05_06.tar",
            None,
            None,
            "Datastore.AllocateSpace"
        ),
        "Permission check failed (/vms/812, VM.Backup)"
    );
    assert_eq!(
        check("loc:snippets/x", None, None, "Datastore.Audit"),
        "missing privileges to access loc:snippets/x"
    );
    assert_eq!(check("loc:snippets/x", None, None, "Datastore.Allocate"), "ok");
    assert_eq!(
        check("/etc/passwd", None, None, ""),
        "Only root can pass arbitrary filesystem paths."
    );
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let lab = Lab::new("dir: st\n\tpath BASE\n\tpreallocation full\n");
    let mount = nix::mount::mount(
        Some("tmpfs"),
        &lab.base(),
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        Some("size=2m"),
    );
    if mount.is_err() {
        println!("SKIP: no right to mount a file system");
        return;
    }
    let storages = lab.storages();
    let full = alloc(&storages, None, Some(ImageFormat::Raw), 8 << 10);
    let left = fs::read_dir(lab.base().join("images")).unwrap().count();
    let small = alloc(&storages, None, Some(ImageFormat::Raw), 64);
    // Lazily, as in the test of uploads.
    nix::mount::umount2(&lab.base(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    assert!(
        full.starts_with("unable to create image: ") && full.contains("No space left"),
        "{full}"
    );
    assert_eq!(left, 0);
    assert_eq!(small, "st:812/vm-812-disk-0.raw");
}
