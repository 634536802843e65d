//! Creating VMs and changing them, with a real storage and the real QEMU.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lab;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::Duration;

use lab::{Lab, Lines};
use pve_access::UserConfig;
use pve_cfs::Cfs;
use pve_qemu::update::Change;
use pve_qemu::{create, qmp, reconfigure};
use pve_schema::ids::AuthId;
use pve_schema::{Failure, Param, Params};
use serde_json::Value;

fn params(pairs: &[(&str, &str)]) -> Params {
    let pairs = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Param::Text((*value).to_owned())));
    pairs.collect()
}

fn rights() -> UserConfig {
    UserConfig::parse("user:root@pam:1:0:::::::\nuser:joe@pve:1:0:::::::\npool:p1:::\n")
}

fn config(lab: &Lab) -> String {
    let text = Cfs::new(&lab.context)
        .read_text("nodes/n1/qemu-server/105.conf")
        .unwrap();
    text.unwrap_or_default()
}

fn value(lab: &Lab, key: &str) -> Option<String> {
    let text = config(lab);
    let main = text.split("\n[").next().unwrap();
    let prefix = format!("{key}: ");
    main.lines()
        .find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
}

fn make(lab: &Lab, pairs: &[(&str, &str)]) -> Result<Lines, String> {
    let order = create::check(&lab.context, lab.vmid, &params(pairs), &rights(), &AuthId::root())
        .map_err(|error| format!("{error} {:?}", error.param_errors()))?;
    create::reserve(&lab.context, lab.vmid).map_err(|error| error.to_string())?;
    let mut lines = Lines::default();
    create::create(&lab.context, lab.vmid, &order, &mut lines)
        .map_err(|error| format!("{error} {:?}", error.param_errors()))?;
    Ok(lines)
}

fn change(lab: &Lab, pairs: &[(&str, &str)]) -> Change {
    reconfigure::check(&lab.context, lab.vmid, &params(pairs), &rights(), &AuthId::root()).unwrap()
}

fn apply(lab: &Lab, pairs: &[(&str, &str)]) {
    reconfigure::carry_out(&lab.context, lab.vmid, &change(lab, pairs), &mut Lines::default()).unwrap();
}

/// Makes `disks:iso/a.iso`.
fn put_iso(lab: &Lab) {
    let iso = lab.directory.path().join("store/template/iso");
    fs::create_dir_all(&iso).unwrap();
    fs::write(iso.join("a.iso"), vec![7; 1 << 20]).unwrap();
}

#[test]
fn a_new_vm_gets_its_disks_and_what_nobody_asked_for() {
    let lab = Lab::new(31);
    let asked = [
        ("memory", "64"),
        ("kvm", "0"),
        ("scsi0", "disks:0.01,format=qcow2"),
        ("virtio0", "disks:0.02"),
        ("ide2", "none,media=cdrom"),
        ("net0", "virtio"),
        ("tags", "B;a"),
    ];
    let lines = make(&lab, &asked).unwrap().text();
    assert!(
        lines.contains("scsi0: successfully created disk 'disks:105/vm-105-disk-"),
        "{lines}"
    );
    assert!(value(&lab, "scsi0").unwrap().starts_with("disks:105/vm-105-disk-"));
    assert_eq!(value(&lab, "boot").as_deref(), Some("order=scsi0;ide2;net0"));
    assert!(value(&lab, "net0").unwrap().starts_with("virtio=BC:24:11:"));
    assert!(value(&lab, "meta").unwrap().starts_with("creation-qemu="));
    assert!(value(&lab, "smbios1").unwrap().starts_with("uuid="));
    assert_eq!(value(&lab, "vmgenid").unwrap().len(), 36);
    assert_eq!(value(&lab, "tags").as_deref(), Some("a;b"));
    assert_eq!(value(&lab, "lock"), None);
    // Reference 06b, vector 2.
    let again = create::reserve(&lab.context, lab.vmid).unwrap_err().to_string();
    assert_eq!(again, "unable to create VM 105 - VM 105 already exists on node 'n1'");
    lab.start(lab.vmid);
}

#[test]
fn a_vm_that_cannot_be_made_leaves_nothing() {
    let lab = Lab::new(32);
    let asked = [("scsi0", "disks:0.01"), ("scsi1", "disks:105/vm-105-disk-9.raw")];
    let error = make(&lab, &asked).err().unwrap();
    assert!(error.starts_with("unable to create VM 105 - "), "{error}");
    assert_eq!(config(&lab), "");
    let images = lab.directory.path().join("store/images/105");
    let left = fs::read_dir(images).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[test]
fn windows_keeps_the_machine_of_its_first_day() {
    let lab = Lab::new(33);
    make(&lab, &[("ostype", "win11"), ("machine", "q35")]).unwrap();
    let machine = value(&lab, "machine").unwrap();
    assert!(machine.starts_with("pc-q35-1") && machine.contains("+pve"), "{machine}");
}

#[test]
fn keys_need_their_privileges_on_the_vm_or_on_its_pool() {
    let lab = Lab::new(34);
    let joe: AuthId = "joe@pve".parse().unwrap();
    let ask = |acl: &str, pairs: &[(&str, &str)]| {
        let users = format!("user:joe@pve:1:0:::::::\npool:p1:::\n{acl}");
        let checked = create::check(&lab.context, lab.vmid, &params(pairs), &UserConfig::parse(&users), &joe);
        checked.map(drop).map_err(|error| (error.status(), error.to_string()))
    };
    let denied = Err((403, "Permission check failed (/vms/105, VM.Config.CPU)".to_owned()));
    assert_eq!(ask("", &[("cores", "2")]), denied);
    assert_eq!(ask("acl:1:/vms:joe@pve:PVEVMAdmin:\n", &[("cores", "2")]), Ok(()));
    let pool = "acl:1:/pool/p1:joe@pve:PVEVMAdmin:\n";
    assert_eq!(ask(pool, &[("cores", "2"), ("pool", "p1")]), Ok(()));
    assert_eq!(ask(pool, &[("cores", "2")]), denied);
    let root_only = ask(pool, &[("args", "-s"), ("pool", "p1")]).unwrap_err().1;
    assert_eq!(root_only, "only root can set 'args' config");
}

#[test]
fn a_running_guest_takes_what_it_can_and_the_rest_waits() {
    let lab = Lab::new(35);
    put_iso(&lab);
    lab.configure(lab.vmid, "ide2: none,media=cdrom\nnet0: virtio=BC:24:11:00:00:01\n");
    lab.start(lab.vmid);

    apply(
        &lab,
        &[
            ("cores", "2"),
            ("description", "at once"),
            ("net0", "virtio=BC:24:11:00:00:01,link_down=1"),
        ],
    );
    assert!(config(&lab).starts_with("#at once\n"));
    assert_eq!(value(&lab, "cores"), None);
    assert_eq!(
        value(&lab, "net0").as_deref(),
        Some("virtio=BC:24:11:00:00:01,link_down=1")
    );
    assert!(config(&lab).contains("[PENDING]\ncores: 2"));

    let medium = || -> Value {
        let rows = qmp::execute(&lab.context.site, lab.vmid, "query-block", Value::Null).unwrap();
        let row = rows
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["qdev"] == "ide2")
            .cloned();
        row.unwrap()["inserted"]["image"]["filename"].clone()
    };
    assert_eq!(medium(), Value::Null);
    apply(&lab, &[("ide2", "disks:iso/a.iso,media=cdrom")]);
    assert!(medium().as_str().unwrap().contains("a.iso"), "{}", medium());
    apply(&lab, &[("ide2", "disks:iso/a.iso,media=cdrom,size=1M")]);
    apply(&lab, &[("ide2", "none,media=cdrom")]);
    assert_eq!(medium(), Value::Null);

    let order = pve_qemu::power::stop::Order {
        way: pve_qemu::power::stop::Way::Quit,
        timeout: None,
        force: true,
        skip_lock: false,
        keep_active: false,
    };
    pve_qemu::power::stop::stop(&lab.context, lab.vmid, order, &mut Lines::default()).unwrap();
    assert_eq!(value(&lab, "cores").as_deref(), Some("2"));
    assert!(!config(&lab).contains("PENDING"));
}

/// As firmware does when it looks for something to boot from, and a kernel when it opens the drive.
#[test]
fn a_medium_is_changed_although_the_guest_closes_the_tray() {
    let lab = Lab::new(37);
    put_iso(&lab);
    let socket = lab.directory.path().join("guest.qmp");
    let more = format!("args: -qmp unix:{},server=on,wait=off\n", socket.display());
    lab.configure(lab.vmid, &format!("{more}ide2: none,media=cdrom\n"));
    lab.start(lab.vmid);

    let opened = thread::scope(|scope| {
        // Dropped when the changes are made, or one of them failed.
        let (changing, changed) = mpsc::channel::<()>();
        let socket = &socket;
        let guest = scope.spawn(move || {
            let stream = UnixStream::connect(socket).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let mut guest = BufReader::new(stream);
            let say = |guest: &mut BufReader<UnixStream>, what: &str| {
                let words = format!("{{\"execute\":{what}}}\n");
                guest.get_mut().write_all(words.as_bytes()).unwrap();
            };
            say(&mut guest, "\"qmp_capabilities\"");
            let (mut opened, mut line) = (0, String::new());
            while changed.try_recv() == Err(TryRecvError::Empty) {
                match guest.read_line(&mut line) {
                    Ok(length) => assert!(length > 0, "QEMU has ended"),
                    Err(_nothing_yet) => continue,
                }
                if line.contains("DEVICE_TRAY_MOVED") && line.contains("\"tray-open\": true") {
                    opened += 1;
                    // Every other time: not for ever.
                    if opened % 2 == 1 {
                        say(&mut guest, "\"blockdev-close-tray\",\"arguments\":{\"id\":\"ide2\"}");
                    }
                }
                line.clear();
            }
            opened
        });
        for medium in ["disks:iso/a.iso", "none"].repeat(10) {
            apply(&lab, &[("ide2", &format!("{medium},media=cdrom"))]);
        }
        drop(changing);
        guest.join().unwrap()
    });
    assert!(opened > 20, "{opened}");
    assert_eq!(value(&lab, "ide2").as_deref(), Some("none,media=cdrom"));
}

/// Reference 06b, vector 3.
#[test]
fn a_locked_vm_is_not_changed() {
    let lab = Lab::new(36);
    lab.configure(lab.vmid, "lock: backup\n");
    let ask = |who: &str, pairs: &[(&str, &str)]| {
        let rights = UserConfig::parse("user:joe@pve:1:0:::::::\nacl:1:/:joe@pve:Administrator:\n");
        let checked = reconfigure::check(&lab.context, lab.vmid, &params(pairs), &rights, &who.parse().unwrap());
        checked.map(drop).unwrap_err()
    };
    assert_eq!(ask("root@pam", &[("cores", "2")]).to_string(), "VM is locked (backup)");
    let refused = ask("joe@pve", &[("cores", "2"), ("skiplock", "1")]);
    let errors = refused.param_errors().unwrap();
    assert_eq!(
        (refused.status(), errors["skiplock"].as_str()),
        (400, "Only root may use this option.")
    );
}
