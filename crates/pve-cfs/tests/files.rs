//! Files, tree and guests of a plain directory.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Barrier;

use common::context;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pve_cfs::{Cfs, CfsError};

#[test]
fn the_tree_has_its_modes_and_links() {
    let dir = tempfile::tempdir().unwrap();
    let cfs = Cfs::new(&context(dir.path()));
    cfs.ensure_tree().unwrap();
    let etc = dir.path().join("etc/pve");
    for (path, mode) in [
        ("", 0o755),
        ("priv", 0o700),
        ("priv/acme", 0o700),
        ("nodes/pve1", 0o755),
        ("nodes/pve1/priv", 0o700),
        ("nodes/pve1/openvz", 0o755),
        ("virtual-guest", 0o755),
    ] {
        let meta = fs::metadata(etc.join(path)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, mode, "{path}");
    }
    for (link, target) in [("local", "nodes/pve1"), ("qemu-server", "nodes/pve1/qemu-server")] {
        assert_eq!(fs::read_link(etc.join(link)).unwrap().to_str(), Some(target));
    }
    assert!(cfs.is_quorate());
    cfs.check_quorum().unwrap();
    assert_eq!(cfs.nodes().unwrap().len(), 1);
    assert!(!cfs.members().unwrap().is_clustered());
    assert_eq!(
        cfs.check_node_exists("pve9").unwrap_err().to_string(),
        "no such cluster node 'pve9'"
    );
}

#[test]
fn a_new_host_name_moves_the_links_only() {
    let dir = tempfile::tempdir().unwrap();
    let old = context(dir.path());
    let cfs = Cfs::new(&old);
    cfs.ensure_tree().unwrap();
    cfs.write("qemu-server/100.conf", b"name: a\n").unwrap();
    let mut site = (*old.site).clone();
    site.node = "pve2".parse().unwrap();
    let cfs = Cfs::new(&pve_schema::Context::new(site));
    cfs.ensure_tree().unwrap();
    assert_eq!(
        fs::read_link(dir.path().join("etc/pve/local")).unwrap().to_str(),
        Some("nodes/pve2")
    );
    assert!(cfs.exists("nodes/pve1/qemu-server/100.conf").unwrap());
}

#[test]
fn before_the_tree_is_there_changes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cfs = Cfs::new(&context(dir.path()));
    assert!(!cfs.is_quorate());
    assert!(matches!(cfs.check_quorum(), Err(CfsError::NotMounted)));
}

#[test]
fn a_write_replaces_the_file_with_mode_and_owner_of_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let cfs = Cfs::new(&context(dir.path()));
    cfs.ensure_tree().unwrap();
    assert_eq!(cfs.read("storage.cfg").unwrap(), None);
    assert_eq!(cfs.stamp("storage.cfg").unwrap(), None);
    cfs.write("storage.cfg", b"one").unwrap();
    let first = cfs.stamp("storage.cfg").unwrap();
    cfs.write("storage.cfg", b"two").unwrap();
    assert_ne!(cfs.stamp("storage.cfg").unwrap(), first);
    assert_eq!(cfs.read_text("storage.cfg").unwrap().as_deref(), Some("two"));
    cfs.write("priv/storage/nfs.pw", b"secret").unwrap();
    for (path, mode) in [("storage.cfg", 0o640), ("priv/storage/nfs.pw", 0o600)] {
        let meta = fs::metadata(dir.path().join("etc/pve").join(path)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, mode, "{path}");
        if nix::unistd::geteuid().is_root() {
            assert_eq!((meta.uid(), meta.gid()), (0, 33), "{path}");
        }
    }
    assert_eq!(
        cfs.list("priv/storage").unwrap(),
        ["nfs.pw"],
        "no temporary file is left"
    );
}

#[test]
fn create_does_not_replace() {
    let dir = tempfile::tempdir().unwrap();
    let cfs = Cfs::new(&context(dir.path()));
    cfs.ensure_tree().unwrap();
    cfs.create("local/config", b"a").unwrap();
    assert!(matches!(cfs.create("local/config", b"b"), Err(CfsError::Exists(_))));
    assert_eq!(cfs.read("nodes/pve1/config").unwrap().as_deref(), Some(&b"a"[..]));
    assert!(cfs.remove("local/config").unwrap());
    assert!(!cfs.remove("local/config").unwrap());
}

#[test]
fn a_write_to_a_node_that_does_not_exist_fails() {
    let dir = tempfile::tempdir().unwrap();
    let cfs = Cfs::new(&context(dir.path()));
    cfs.ensure_tree().unwrap();
    let error = cfs.write("nodes/pve7/config", b"x").unwrap_err().to_string();
    assert!(error.starts_with("unable to open file '") && error.ends_with("' - No such file or directory"));
}

#[test]
fn a_file_over_one_mebibyte_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cfs = Cfs::new(&context(dir.path()));
    cfs.ensure_tree().unwrap();
    cfs.write("a", &vec![b'x'; 1024 * 1024]).unwrap();
    let error = cfs.write("a", &vec![b'y'; 1024 * 1024 + 1]).unwrap_err().to_string();
    assert!(error.ends_with("File too large"), "{error}");
    assert_eq!(cfs.stamp("a").unwrap().unwrap().size(), 1024 * 1024);
}

#[test]
fn stale_temporary_files_are_replaced_and_not_listed() {
    let dir = tempfile::tempdir().unwrap();
    let cfs = Cfs::new(&context(dir.path()));
    cfs.ensure_tree().unwrap();
    let stale = dir
        .path()
        .join(format!("etc/pve/user.cfg.tmp.{}", nix::unistd::gettid()));
    fs::write(&stale, "stale").unwrap();
    assert!(!cfs.list("").unwrap().iter().any(|name| name.contains(".tmp.")));
    cfs.write("user.cfg", b"new").unwrap();
    assert_eq!(cfs.read("user.cfg").unwrap().as_deref(), Some(&b"new"[..]));
    assert!(!stale.exists());
}

#[test]
fn readers_see_one_whole_content_while_many_write() {
    let dir = tempfile::tempdir().unwrap();
    let cfs = Cfs::new(&context(dir.path()));
    cfs.ensure_tree().unwrap();
    cfs.write("jobs.cfg", &[b'0'; 5000]).unwrap();
    let start = Barrier::new(5);
    std::thread::scope(|scope| {
        for writer in 1..=4u8 {
            let (cfs, start) = (cfs.clone(), &start);
            scope.spawn(move || {
                start.wait();
                for _ in 0..25 {
                    cfs.write("jobs.cfg", &[b'0' + writer; 5000]).unwrap();
                }
            });
        }
        start.wait();
        for _ in 0..200 {
            let seen = cfs.read("jobs.cfg").unwrap().unwrap();
            assert_eq!(seen.len(), 5000);
            assert!(seen.iter().all(|byte| *byte == seen[0]), "a torn write was seen");
        }
    });
    assert_eq!(cfs.list("").unwrap().iter().filter(|n| n.contains("jobs")).count(), 1);
}

/// Unmounts when the test is over, however it ends.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let options = Some("size=64k");
    if let Err(error) = mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), options) {
        println!("SKIP a_full_disk_leaves_the_old_file: cannot mount tmpfs: {error}");
        return;
    }
    let _mounted = Mounted(dir.path().to_owned());
    let cfs = Cfs::new(&context(dir.path()));
    cfs.ensure_tree().unwrap();
    cfs.write("user.cfg", b"old").unwrap();
    let error = cfs.write("user.cfg", &[b'x'; 100_000]).unwrap_err().to_string();
    assert!(
        error.starts_with("unable to write '") && error.ends_with("No space left on device"),
        "{error}"
    );
    assert_eq!(cfs.read("user.cfg").unwrap().as_deref(), Some(&b"old"[..]));
    let names: Vec<_> = fs::read_dir(dir.path().join("etc/pve"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        !names.iter().any(|name| name.to_string_lossy().contains(".tmp.")),
        "{names:?}"
    );
    cfs.write("user.cfg", b"new").unwrap();
}

#[test]
fn guests_are_found_on_all_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let cfs = Cfs::new(&context(dir.path()));
    cfs.ensure_tree().unwrap();
    cfs.make_dir("nodes/n2/lxc").unwrap();
    cfs.create("qemu-server/105.conf", b"").unwrap();
    cfs.create("nodes/n2/lxc/100.conf", b"").unwrap();
    cfs.create("qemu-server/0101.conf", b"").unwrap();
    let found: Vec<_> = cfs
        .guests()
        .unwrap()
        .iter()
        .map(|g| format!("{} {} {}", g.vmid, g.node, g.kind))
        .collect();
    assert_eq!(found, ["100 n2 lxc", "105 pve1 qemu"]);
    let taken = |vmid: u32| cfs.check_vmid_free(vmid.try_into().unwrap()).unwrap_err().to_string();
    assert_eq!(taken(105), "VM 105 already exists on node 'pve1'");
    assert_eq!(taken(100), "CT 100 already exists on node 'n2'");
    cfs.check_vmid_free(101.try_into().unwrap()).unwrap();
    assert_eq!(cfs.next_free_vmid(100, 1_000_000).unwrap().get(), 101);
    assert_eq!(
        cfs.next_free_vmid(105, 106).unwrap_err().to_string(),
        "unable to get any free VMID in range [105, 106]"
    );
    cfs.rename("qemu-server/105.conf", "nodes/n2/lxc/105.conf").unwrap();
    assert_eq!(
        cfs.find_guest(105.try_into().unwrap()).unwrap().unwrap().node.as_str(),
        "n2"
    );
}

#[test]
fn a_labs_node_has_the_labs_address() {
    let dir = tempfile::tempdir().unwrap();
    let cfs = Cfs::new(&context(dir.path()));
    assert_eq!(cfs.node_address("pve1").unwrap().to_string(), "127.0.0.1");
    let error = cfs.node_address("no-such-host.invalid").unwrap_err().to_string();
    assert!(
        error.starts_with(
            "hostname lookup 'no-such-host.invalid' failed - failed to get address info for: no-such-host.invalid: "
        ),
        "{error}"
    );
}
