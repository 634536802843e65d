//! Config changes on a real directory storage (reference 06a §4).

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;

use pve_guest::tags::TagStyle;
use pve_guest::{GuestConfig, GuestStore};
use pve_qemu::config::{Version, VmRules};
use pve_qemu::journal::Journal;
use pve_qemu::update::{Caller, Change, Defaults, Surroundings, UpdateError, live, prepare, update, volumes};
use pve_schema::ids::{AuthId, VmId};
use pve_schema::{Context, Failure, Param, ParamErrors};
use pve_storage::Storages;

/// Parameters of a call.
type Given<'a> = &'a [(&'a str, &'a str)];

struct Lab {
    directory: tempfile::TempDir,
    context: Context,
}

#[derive(Default)]
struct Lines(Vec<String>);

impl Journal for Lines {
    fn log(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }

    fn warn(&mut self, line: &str) {
        self.0.push(format!("WARN: {line}"));
    }
}

impl Lab {
    /// A node with one directory storage and VM 105.
    fn new(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let context = pve_testing::context(directory.path().join("root"), "n1");
        let pve = context.site.etc_pve();
        fs::create_dir_all(pve.join("nodes/n1/qemu-server")).unwrap();
        let base = directory.path().join("base");
        fs::create_dir_all(&base).unwrap();
        let storage = format!("dir: data\n\tpath {}\n\tcontent images,iso,snippets\n", base.display());
        fs::write(pve.join("storage.cfg"), storage).unwrap();
        fs::write(pve.join("nodes/n1/qemu-server/105.conf"), config).unwrap();
        Self { directory, context }
    }

    fn vmid() -> VmId {
        105.try_into().unwrap()
    }

    fn file(&self) -> String {
        fs::read_to_string(self.context.site.etc_pve().join("nodes/n1/qemu-server/105.conf")).unwrap()
    }

    fn image(&self, name: &str) -> PathBuf {
        self.directory.path().join("base/images/105").join(name)
    }

    /// Puts a small disk where a volume is expected.
    fn make_image(&self, name: &str) {
        fs::create_dir_all(self.image("")).unwrap();
        fs::write(self.image(name), vec![0; 1 << 20]).unwrap();
    }

    /// A change as root asks for it. A running VM refuses nothing and does nothing but commit fast keys.
    fn change(&self, parameters: &[(&str, &str)], running: bool) -> Result<Vec<String>, UpdateError> {
        let root = AuthId::root();
        let rights = pve_access::UserConfig::parse("");
        let caller = Caller {
            id: &root,
            rights: &rights,
        };
        let params = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Param::Text((*value).to_owned())));
        let mut change = Change::from_params(&params.collect(), &caller, true)?;
        let storages = Storages::open(&self.context).unwrap();
        let mut random = |bytes: &mut [u8]| {
            bytes.fill(0x5a);
            Ok(())
        };
        prepare(
            &storages,
            &mut change.set,
            &mut Defaults {
                mac_prefix: None,
                random: &mut random,
            },
        )?;
        let around = Surroundings {
            vmid: Self::vmid(),
            storages: &storages,
            tag_style: TagStyle::default(),
            qemu: Version::new(10, 0),
        };
        let mut lines = Lines::default();
        let mut commit = |config: &mut GuestConfig, plan: live::Plan, journal: &mut dyn Journal| {
            for (key, step) in plan.steps {
                if matches!(step, live::Step::Commit(_)) {
                    pve_qemu::update::commit::one(&storages, Self::vmid(), config, &key, journal).unwrap();
                }
            }
            ParamErrors::new()
        };
        let live: Option<pve_qemu::update::Live<'_>> = if running { Some(&mut commit) } else { None };
        update(&self.context, &around, &change, live, &mut lines)?;
        Ok(lines.0)
    }

    #[track_caller]
    fn refused(&self, parameters: &[(&str, &str)]) -> String {
        let error = self.change(parameters, false).unwrap_err();
        match error.param_errors() {
            Some(errors) => errors.iter().map(|(key, text)| format!("{key}: {text}")).collect(),
            None => error.to_string(),
        }
    }
}

#[test]
fn a_stopped_guest_takes_changes_at_once() {
    let lab = Lab::new("cores: 1\nmemory: 512\nname: a\n");
    let lines = lab
        .change(&[("cores", "2"), ("delete", "name,net3"), ("tags", "B;a")], false)
        .unwrap();
    assert_eq!(
        lines,
        ["WARN: cannot delete 'net3' - not set in current configuration!"]
    );
    assert_eq!(lab.file(), "cores: 2\nmemory: 512\ntags: a;b\n");
}

#[test]
fn a_running_guest_keeps_what_must_wait() {
    let lab = Lab::new("cores: 1\nname: a\n");
    lab.change(&[("cores", "2"), ("name", "b"), ("delete", "memory")], true)
        .unwrap();
    assert_eq!(lab.file(), "cores: 1\nname: b\n\n[PENDING]\ncores: 2\n");
    lab.change(&[("revert", "cores")], true).unwrap();
    assert_eq!(lab.file(), "cores: 1\nname: b\n");
    lab.change(&[("delete", "cores")], true).unwrap();
    assert_eq!(lab.file(), "cores: 1\nname: b\n\n[PENDING]\ndelete: cores\n");
}

#[test]
fn new_disks_are_allocated() {
    let lab = Lab::new("boot: order=scsi0\nscsi0: none,media=cdrom\n");
    let lines = lab.change(
        &[
            ("scsi1", "data:0.01,format=qcow2,discard=on"),
            ("ide2", "none,media=cdrom"),
        ],
        false,
    );
    let disk = "data:105/vm-105-disk-0.qcow2,discard=on,size=10486K";
    assert_eq!(lines.unwrap(), [format!("scsi1: successfully created disk '{disk}'")]);
    assert!(lab.image("vm-105-disk-0.qcow2").is_file());
    let expected = format!("boot: order=scsi0;ide2\nide2: none,media=cdrom\nscsi0: none,media=cdrom\nscsi1: {disk}\n");
    assert_eq!(lab.file(), expected);
}

#[test]
fn cloud_init_drives_are_named_and_single() {
    let lab = Lab::new("name: a\n");
    lab.change(&[("ide2", "data:cloudinit")], false).unwrap();
    let drive = "ide2: data:105/vm-105-cloudinit.qcow2,media=cdrom,size=4M\n";
    assert_eq!(lab.file(), format!("{drive}name: a\n"));
    assert!(lab.image("vm-105-cloudinit.qcow2").is_file());
    let second = lab.refused(&[("ide0", "data:cloudinit")]);
    assert_eq!(second, "ide0 - cloud-init drive is already attached at 'ide2'");
    // What is on the drive is recorded, and its volume goes with it.
    lab.change(&[("name", "b")], false).unwrap();
    assert_eq!(lab.file(), format!("{drive}name: b\n\n[special:cloudinit]\nname: a\n"));
    lab.change(&[("delete", "ide2")], false).unwrap();
    assert_eq!(lab.file(), "name: b\n");
    assert!(!lab.image("vm-105-cloudinit.qcow2").exists());
}

#[test]
fn a_failed_change_leaves_nothing_behind() {
    let lab = Lab::new("name: a\n");
    let error = lab.refused(&[("scsi0", "data:1"), ("scsi1", "data:105/vm-105-disk-9.raw")]);
    assert_eq!(error, "volume data:105/vm-105-disk-9.raw does not exist");
    assert!(!lab.image("vm-105-disk-0.raw").exists());
    assert_eq!(lab.file(), "name: a\n");
}

#[test]
fn disks_that_go_become_unused_and_then_are_destroyed() {
    let lab =
        Lab::new("boot: order=scsi0;net0\nnet0: virtio=BC:24:11:00:00:01\nscsi0: data:105/vm-105-disk-0.raw,size=1M\n");
    lab.make_image("vm-105-disk-0.raw");
    lab.change(&[("delete", "scsi0")], false).unwrap();
    let rest = "boot: order=net0\nnet0: virtio=BC:24:11:00:00:01\n";
    assert_eq!(lab.file(), format!("{rest}unused0: data:105/vm-105-disk-0.raw\n"));
    lab.change(&[("delete", "unused0")], false).unwrap();
    assert_eq!(lab.file(), rest);
    assert!(!lab.image("vm-105-disk-0.raw").exists());
}

#[test]
fn a_forced_deletion_destroys_the_disk_at_once() {
    let lab = Lab::new("scsi0: data:105/vm-105-disk-0.raw,size=1M\n");
    lab.make_image("vm-105-disk-0.raw");
    lab.change(&[("delete", "scsi0"), ("force", "1")], true).unwrap();
    assert!(lab.file().ends_with("[PENDING]\ndelete: !scsi0\n"), "{}", lab.file());
    assert!(lab.image("vm-105-disk-0.raw").exists());
    lab.change(&[("onboot", "1")], false).unwrap();
    assert_eq!(lab.file(), "onboot: 1\n");
    assert!(!lab.image("vm-105-disk-0.raw").exists());
}

#[test]
fn disks_of_snapshots_are_not_destroyed() {
    let disk = "data:105/vm-105-disk-0.raw";
    let lab = Lab::new(&format!("unused0: {disk}\n\n[s1]\nscsi0: {disk}\n"));
    lab.make_image("vm-105-disk-0.raw");
    let text = format!("unable to delete '{disk}' - volume is still in use (snapshot?)");
    assert_eq!(lab.refused(&[("delete", "unused0")]), text);
    assert!(lab.image("vm-105-disk-0.raw").exists());
}

#[test]
fn an_attached_volume_is_measured_and_no_longer_unused() {
    let lab = Lab::new("unused0: data:105/vm-105-disk-0.raw\n");
    lab.make_image("vm-105-disk-0.raw");
    lab.change(&[("virtio0", "data:105/vm-105-disk-0.raw")], false).unwrap();
    assert_eq!(lab.file(), "virtio0: data:105/vm-105-disk-0.raw,size=1M\n");
}

#[test]
fn protection_keeps_disks() {
    let lab = Lab::new("protection: 1\nscsi0: data:105/vm-105-disk-0.raw\nunused0: data:105/vm-105-disk-1.raw\n");
    let cases = [
        ("scsi0", "can't remove drive 'scsi0' - protection mode enabled"),
        (
            "unused0",
            "can't remove unused disk 'data:105/vm-105-disk-1.raw' - protection mode enabled",
        ),
    ];
    for (key, expected) in cases {
        assert_eq!(lab.refused(&[("delete", key)]), expected);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let lab = Lab::new("lock: backup\n");
    assert_eq!(lab.refused(&[("cores", "2")]), "VM is locked (backup)");
    assert!(lab.change(&[("cores", "2"), ("skiplock", "1")], false).is_ok());
    let lab = Lab::new("memory: 512\n");
    let cases: [(Given<'_>, &str); 8] = [
        (
            &[("digest", "00"), ("cores", "2")],
            "checksum mismatch (file change by other user?)",
        ),
        (
            &[("balloon", "1024")],
            "balloon value too large (must be smaller than assigned memory)",
        ),
        (
            &[("boot", "order=scsi0")],
            "invalid bootorder: device 'scsi0' does not exist'",
        ),
        (
            &[("scsi0", "data:1,mbps=1,mbps_rd=1")],
            "scsi0: unable to parse drive options",
        ),
        (
            &[("scsi0", "/somewhere/a.raw")],
            "scsi0: unable to associate path '/somewhere/a.raw' to any storage",
        ),
        (
            &[("ide0", "data:iso/a.iso")],
            "ide0: explicit 'media=cdrom' is required for iso images",
        ),
        (
            &[("scsi0", "data:8,import-from=/a")],
            "scsi0: 'import-from' requires special syntax - use <storage ID>:0,import-from=<source>",
        ),
        (
            &[("hookscript", "data:iso/a.iso")],
            "'data:iso/a.iso' is not in the snippets directory",
        ),
    ];
    for (parameters, expected) in cases {
        assert_eq!(lab.refused(parameters), expected);
    }
}

#[test]
fn missing_values_are_filled_in() {
    let lab = Lab::new("memory: 512\n");
    lab.change(
        &[
            ("net0", "virtio,bridge=vmbr0"),
            ("vmgenid", "1"),
            ("cipassword", "secret"),
        ],
        false,
    )
    .unwrap();
    let file = lab.file();
    assert!(file.contains("net0: virtio=BC:24:11:5A:5A:5A,bridge=vmbr0\n"), "{file}");
    assert!(
        file.contains("vmgenid: 5a5a5a5a-5a5a-4a5a-9a5a-5a5a5a5a5a5a\n"),
        "{file}"
    );
    assert!(file.contains("cipassword: $5$"), "{file}");
    lab.change(&[("cipassword", "$6$salt$hash")], false).unwrap();
    assert!(lab.file().contains("cipassword: $6$salt$hash\n"));
}

#[test]
fn a_guest_that_becomes_windows_keeps_its_machine() {
    let lab = Lab::new("machine: q35,viommu=virtio\nostype: l26\n");
    let lines = lab.change(&[("ostype", "win11")], false).unwrap();
    assert_eq!(
        lines,
        ["pinning machine type to 'pc-q35-10.0+pve1' for Windows guest OS"]
    );
    assert_eq!(lab.file(), "machine: pc-q35-10.0+pve1,viommu=virtio\nostype: win11\n");
}

#[test]
fn storages_and_volumes_have_their_own_rights() {
    let lab = Lab::new("memory: 512\n");
    let storages = Storages::open(&lab.context).unwrap();
    let id: AuthId = "user@pve".parse().unwrap();
    let rights = pve_access::UserConfig::parse("user:user@pve:1:0:::::\n");
    let caller = Caller {
        id: &id,
        rights: &rights,
    };
    let check = |text: &str| {
        let drive = pve_qemu::config::Drive::parse("scsi0".parse().unwrap(), text).unwrap();
        volumes::check_access(&storages, &caller, Lab::vmid(), &drive, None).map_err(|error| error.to_string())
    };
    let refused = |text: &str| check(text).unwrap_err();
    assert_eq!(
        refused("data:8"),
        "Permission check failed (/storage/data, Datastore.AllocateSpace)"
    );
    assert_eq!(refused("cdrom,media=cdrom"), "Permission check failed (/, Sys.Console)");
    assert_eq!(refused("/dev/sdb"), "Only root can pass arbitrary filesystem paths.");
    assert!(check("none,media=cdrom").is_ok());
    assert!(check("data:105/vm-105-disk-0.raw").is_ok());
    assert!(check("data:106/vm-106-disk-0.raw").is_err());
}

#[test]
fn the_lock_is_held_while_the_config_changes() {
    let lab = Lab::new("memory: 512\n");
    let store = GuestStore::new(&lab.context, &VmRules);
    let before = store.load(Lab::vmid()).unwrap().digest().to_owned();
    lab.change(&[("cores", "2"), ("digest", before.as_str())], false)
        .unwrap();
    assert_ne!(store.load(Lab::vmid()).unwrap().digest(), before);
}
