//! Uploads from the spool to their place, through the real task code.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::Lab;
use pve_daemon::command::Command;
use pve_schema::ids::AuthId;
use pve_storage::Content;
use pve_storage::import::{Algorithm, Checksum};
use pve_storage::tasks::{ImportUpload, PruneBackups, RemoveVolume};
use pve_task::worker::Inline;
use pve_task::{Task, TaskRequest, run_inline};

const ST: &str = "dir: st\n\tpath BASE\n\tcontent iso,vztmpl,backup,import\n";

fn run<T: Task>(lab: &Lab, worker_type: &str, task: T) -> Inline {
    let request = TaskRequest {
        worker_type: worker_type.to_owned(),
        id: String::new(),
        caller: AuthId::root(),
        request_id: "r1".to_owned(),
    };
    run_inline(&lab.context, request, task).unwrap()
}

fn import(lab: &Lab, upload: &Path, content: Content, name: &str, checksum: Option<(&str, &str)>) -> Inline {
    let checksum = checksum.map(|(algorithm, value)| Checksum {
        algorithm: Algorithm::parse(algorithm).unwrap(),
        value: value.to_owned(),
    });
    let task = ImportUpload {
        storage: "st".parse().unwrap(),
        content,
        file_name: name.to_owned(),
        upload: upload.to_owned(),
        checksum,
        node: None,
    };
    run(lab, "imgcopy", task)
}

fn spooled(lab: &Lab, bytes: &[u8]) -> PathBuf {
    let path = lab.dir.path().join("pveupload-0123456789abcdef");
    fs::write(&path, bytes).unwrap();
    path
}

fn names(directory: PathBuf) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Digests of `hello\n` by the coreutils.
const HELLO: [(&str, &str); 6] = [
    ("md5", "b1946ac92492d2347c6235b4d2611184"),
    ("sha1", "f572d396fae9206628714fb2ce00f72e94f2258f"),
    ("sha224", "2d6d67d91d0badcdd06cbbba1fe11538a68a37ec9c2e26457ceff12b"),
    (
        "sha256",
        "5891B5B522D5DF086D0FF0B110FBD9D21BB4FC7163AF34D08286A2E846F6BE03",
    ),
    (
        "sha384",
        "1d0f284efe3edea4b9ca3bd514fa134b17eae361ccc7a1eefeff801b9bd6604e01f21f6bf249ef030599f0c218f2ba8c",
    ),
    (
        "sha512",
        "e7c22b994c59d9cf2b48e549b1e24666636045930d3da7c1acb299d1c3b7f931f94aae41edda2c2b207a36e10f8bcb8d\
         45223e54878f5b316e7ce3b6bc019629",
    ),
];

#[test]
fn an_upload_ends_in_its_place_with_the_log_that_users_know() {
    let lab = Lab::new(ST);
    let target = lab.base().join("template/iso/a.iso");
    for checksum in HELLO {
        let upload = spooled(&lab, b"hello\n");
        let done = import(&lab, &upload, Content::Iso, "a.iso", Some(checksum));
        assert!(done.result.is_ok(), "{done:?}");
        let (from, to) = (upload.display(), target.display());
        let expected = format!(
            "starting file import from: {from}\ncalculating checksum...OK, checksum verified\ntarget node: n1\n\
             target file: {to}\nfile size is: 6 B\ncommand: cp -- {from} {to}\nfinished file import successfully\n"
        );
        assert_eq!(done.log, expected);
        assert!(!upload.exists());
    }
    assert_eq!(fs::read(&target).unwrap(), b"hello\n");
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(names(lab.base().join("template/iso")), ["a.iso"]);
}

#[test]
fn from_another_file_system_it_is_copied() {
    let lab = Lab::new(ST);
    let spool = Path::new("/dev/shm");
    let upload = spool.join(format!("pveupload-{}", std::process::id()));
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[1]).collect();
    fs::write(&upload, &bytes).unwrap();
    let done = import(&lab, &upload, Content::Vztmpl, "t.tar", None);
    assert!(done.result.is_ok(), "{done:?}");
    assert_eq!(fs::read(lab.base().join("template/cache/t.tar")).unwrap(), bytes);
    assert!(
        !upload.exists() && done.log.contains("file size is: 2.86 MiB\n"),
        "{}",
        done.log
    );
}

#[test]
fn what_is_not_what_it_claims_leaves_nothing_behind() {
    let lab = Lab::new(ST);
    lab.file("template/iso/a.iso", "old");
    let (_, sha256) = HELLO[3];
    let upload = spooled(&lab, b"other");
    let done = import(&lab, &upload, Content::Iso, "a.iso", Some(("sha256", sha256)));
    let error = done.result.unwrap_err().to_string();
    assert!(error.starts_with("checksum mismatch: got 'd9298a10") && error.ends_with(&format!("!= expect '{sha256}'")));
    assert!(done.log.ends_with("calculating checksum...\n"), "{}", done.log);
    assert!(!upload.exists());

    // An image that would show a guest a file of the host.
    let qemu_img = |args: &[&str]| {
        let command = Command::new("/usr/bin/qemu-img", Duration::from_secs(20)).args(args);
        command.run().unwrap();
    };
    for (content, name) in [(Content::Iso, "a.iso"), (Content::Import, "x.qcow2")] {
        let upload = lab.dir.path().join("pveupload-1");
        let path = upload.display().to_string();
        qemu_img(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", &path]);
        let done = import(&lab, &upload, content, name, None);
        let error = done.result.unwrap_err().to_string();
        assert!(
            error.starts_with("backing file not allowed for untrusted image"),
            "{error}"
        );
        assert!(!upload.exists());
    }
    let upload = spooled(&lab, b"not an image");
    assert!(import(&lab, &upload, Content::Import, "x.vmdk", None).result.is_err());

    // A link in the spool is not followed.
    let secret = lab.file("secret", "s");
    let upload = lab.dir.path().join("pveupload-2");
    symlink(&secret, &upload).unwrap();
    assert!(import(&lab, &upload, Content::Iso, "a.iso", None).result.is_err());
    assert!(!upload.is_symlink() && secret.exists());

    assert_eq!(fs::read(lab.base().join("template/iso/a.iso")).unwrap(), b"old");
    assert_eq!(names(lab.base().join("template/iso")), ["a.iso"]);
    assert_eq!(names(lab.base().join("import")), [""; 0]);
}

#[test]
fn an_ova_describes_a_guest() {
    let lab = Lab::new(ST);
    let pack = |member: &str| {
        let directory = lab.dir.path().join("ova");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(member), "x").unwrap();
        let upload = lab.dir.path().join("pveupload-3");
        let tar = Command::new("tar", Duration::from_secs(20))
            .args(["--create", "--file"])
            .arg(&upload);
        tar.arg("--directory").arg(&directory).arg(member).run().unwrap();
        upload
    };
    let done = import(&lab, &pack("disk.vmdk"), Content::Import, "w.ova", None);
    assert_eq!(
        done.result.unwrap_err().to_string(),
        "ova archive has no .ovf file inside"
    );
    let done = import(&lab, &pack("guest.ovf"), Content::Import, "w.ova", None);
    assert!(done.result.is_ok(), "{done:?}");
    assert_eq!(names(lab.base().join("import")), ["w.ova"]);
}

#[test]
fn a_full_disk_keeps_the_old_file() {
    let lab = Lab::new(ST);
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
    lab.file("template/iso/a.iso", "old");
    let upload = spooled(&lab, &vec![1; 8 << 20]);
    let done = import(&lab, &upload, Content::Iso, "a.iso", None);
    let left = (
        fs::read(lab.base().join("template/iso/a.iso")).unwrap(),
        names(lab.base().join("template/iso")),
    );
    // Lazily: a process that another test starts at this moment may still hold what this one had open.
    nix::mount::umount2(&lab.base(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    let error = done.result.unwrap_err().to_string();
    assert!(error.ends_with("No space left on device"), "{error}");
    assert_eq!(left, (b"old".to_vec(), vec!["a.iso".to_owned()]));
    assert!(!upload.exists());
}

#[test]
fn removing_and_pruning_tell_what_they_did() {
    let lab = Lab::new("dir: st\n\tpath BASE\n\tcontent iso,backup\n\tprune-backups keep-last=1\n");
    lab.file("template/iso/a b.iso", "");
    let volume = "st:iso/a b.iso".parse().unwrap();
    let done = run(&lab, "imgdel", RemoveVolume { volume });
    assert_eq!(
        (done.result, done.log.as_str()),
        (Ok(()), "Removed volume 'st:iso/a b.iso'\n")
    );
    assert_eq!(names(lab.base().join("template/iso")), [""; 0]);
    let volume = "st:iso/none.iso".parse().unwrap();
    let done = run(&lab, "imgdel", RemoveVolume { volume });
    let missing = lab.base().join("template/iso/none.iso");
    let log = format!(
        "disk image '{}' does not exist\nRemoved volume 'st:iso/none.iso'\n",
        missing.display()
    );
    assert_eq!((done.result, done.log), (Ok(()), log));

    for day in 1..=3 {
        lab.file(&format!("dump/vzdump-qemu-812-2026_02_0{day}-00_00_00.vma"), "");
    }
    lab.file("dump/vzdump-qemu-812-2026_02_01-00_00_00.vma.protected", "");
    lab.file("dump/vzdump-lxc-900-2026_02_01-00_00_00.tar", "");
    lab.file("dump/vzdump-qemu-812-before.vma", "");
    let marks = lab
        .storages()
        .prune_marks(&"st".parse().unwrap(), None, None, None)
        .unwrap();
    let marks: Vec<_> = marks.iter().map(|entry| entry.mark.as_str()).collect();
    assert_eq!(marks, ["keep", "protected", "remove", "keep", "renamed"]);
    let task = PruneBackups {
        storage: "st".parse().unwrap(),
        retention: None,
        vmid: None,
        guest_type: None,
    };
    let done = run(&lab, "prunebackups", task);
    assert_eq!(
        done.log,
        "removing backup 'st:backup/vzdump-qemu-812-2026_02_02-00_00_00.vma'\n"
    );
    assert!(done.result.is_ok());
    assert!(!lab.base().join("dump/vzdump-qemu-812-2026_02_02-00_00_00.vma").exists());
}

#[cfg(feature = "failpoints")]
mod crashes {
    use super::*;

    const VARIABLE: &str = "PVE_STORAGE_CRASH_AT";

    /// Not a test by itself: what the next one runs in a process of its own, to die in the middle.
    #[test]
    fn dies_in_the_middle() {
        let Ok(point) = std::env::var(VARIABLE) else { return };
        let base = PathBuf::from(std::env::var("PVE_STORAGE_CRASH_BASE").unwrap());
        fail::cfg_callback(point, || std::process::abort()).unwrap();
        let lab = Lab::new("");
        lab.configure(&ST.replace("BASE", &base.display().to_string()));
        let upload = Path::new("/dev/shm").join(format!("pveupload-{}", std::process::id()));
        fs::write(&upload, vec![2; 3 << 20]).unwrap();
        let _ = import(&lab, &upload, Content::Iso, "a.iso", None);
        unreachable!("the fail point was not reached");
    }

    #[test]
    fn a_crash_leaves_no_half_file_under_the_final_name() {
        for point in ["storage::import::copying", "storage::import::checked"] {
            let lab = Lab::new(ST);
            lab.file("template/iso/a.iso", "old");
            let child = Command::new(std::env::current_exe().unwrap(), Duration::from_secs(60))
                .args(["crashes::dies_in_the_middle", "--exact"])
                .env(VARIABLE, point)
                .env("PVE_STORAGE_CRASH_BASE", lab.base());
            let output = child.outcome().unwrap();
            assert!(
                !output.status.success() && output.status.code().is_none(),
                "{}",
                output.stdout_text()
            );
            assert_eq!(
                fs::read(lab.base().join("template/iso/a.iso")).unwrap(),
                b"old",
                "{point}"
            );
            let rows = lab.storages().list(&"st".parse().unwrap(), None, None).unwrap();
            assert_eq!(rows.len(), 1, "{rows:?}");
        }
        for entry in fs::read_dir("/dev/shm").unwrap() {
            let path = entry.unwrap().path();
            let ours = path.file_name().unwrap().to_string_lossy().starts_with("pveupload-");
            if ours && fs::metadata(&path).is_ok_and(|meta| meta.len() == 3 << 20) {
                fs::remove_file(path).unwrap();
            }
        }
    }
}
