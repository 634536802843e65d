//! Parsers of files below `/etc/pve`, and of values in them.

use std::str::FromStr as _;
use std::sync::LazyLock;

use pve_access::UserConfig;
use pve_contract::property_format;
use pve_guest::GuestConfig;
use pve_jobs::JobsCfg;
use pve_qemu::config::{Agent, Boot, Drive, DriveKey, Machine, MachineType, Net, Version, Vga, VmRules};
use pve_schema::Site;
use pve_schema::ids::VmId;
use pve_schema::property_string;
use pve_storage::StorageFile;

use crate::{choice, text};

/// The lines of a text that are not empty, in no order: kept lines may move to the end of another section.
fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    lines
}

/// `user.cfg`.
pub fn user_cfg(data: &[u8]) {
    let once = UserConfig::parse(&text(data)).print();
    let twice = UserConfig::parse(&once).print();
    // No line appears or vanishes; the members of a group, kept as they were once, may change their order.
    assert_eq!(lines(&once).len(), lines(&twice).len());
}

static SITE: LazyLock<Site> = LazyLock::new(|| {
    let site = serde_json::json!({
        "root": "/nonexistent", "instance": null, "address": "127.0.0.1", "node": "node1",
        "root_user": {"uid": 0, "gid": 0}, "web_user": {"uid": 0, "gid": 0},
    });
    serde_json::from_value(site).expect("a site")
});

/// `storage.cfg`.
pub fn storage_cfg(data: &[u8]) {
    let file = StorageFile::parse(data, &SITE);
    assert!(file.iter().any(|storage| storage.id.as_str() == "local"));
    if let Ok(once) = file.to_text() {
        let twice = StorageFile::parse(once.as_bytes(), &SITE)
            .to_text()
            .expect("our own text");
        assert_eq!(once, twice);
    }
}

/// `jobs.cfg`.
pub fn jobs_cfg(data: &[u8]) {
    let jobs = JobsCfg::parse(&text(data));
    let _ = jobs.jobs();
}

/// A VM's configuration file.
pub fn qemu_config(data: &[u8]) {
    let vmid = VmId::try_from(105).expect("an id");
    let parsed = GuestConfig::parse(&VmRules, vmid, data);
    let once = parsed.config.print();
    let again = GuestConfig::parse(&VmRules, vmid, once.as_bytes());
    // Names in a `delete` that are none may change their order.
    assert_eq!(lines(&once).len(), lines(&again.config.print()).len());
    let strict = GuestConfig::parse_strict(&VmRules, vmid, data);
    assert_eq!(strict.is_ok(), parsed.warnings.is_empty());
}

/// Values in it: the first byte chooses the kind.
pub fn qemu_values(data: &[u8]) {
    let Some((kind, rest)) = choice(data) else { return };
    let text = text(rest);
    match kind % 9 {
        0 => {
            let key = DriveKey::from_str("scsi0").expect("a key");
            if let Ok(drive) = Drive::parse(key, &text) {
                let once = drive.to_string();
                assert_eq!(Drive::parse(key, &once).expect("our own text").to_string(), once);
            }
        }
        1 => {
            if let Ok(card) = Net::parse(&text) {
                let once = card.to_string();
                assert_eq!(Net::parse(&once).expect("our own text").to_string(), once);
            }
        }
        2 => drop(Boot::parse(&text)),
        3 => drop(Agent::parse(&text)),
        4 => drop(Machine::parse(&text)),
        5 => drop(MachineType::parse(&text)),
        6 => drop(Version::parse(&text)),
        7 => drop(Vga::parse(&text)),
        _ => drop(DriveKey::from_str(&text)),
    }
}

/// Formats of different shapes: default keys, aliases, suffixes, validators.
const FORMATS: [&str; 14] = [
    "backup-performance",
    "bwlimit",
    "cluster.options.migration",
    "lxc.rootfs",
    "mapping.pci.map",
    "prune-backups",
    "pve-cpu-conf",
    "pve-lxc-network",
    "pve-qm-boot",
    "pve-qm-ipconfig",
    "pve-qm-smbios1",
    "pve-vm-cpu-conf",
    "qemu.net",
    "qemu.scsi",
];

/// A property string: the first byte chooses its format.
pub fn property_string(data: &[u8]) {
    let Some((kind, rest)) = choice(data) else { return };
    let name = FORMATS[kind % FORMATS.len()];
    let format = property_format(name).expect(name);
    let Ok(properties) = property_string::parse(format, &text(rest)) else {
        return;
    };
    let Ok(printed) = property_string::print(format, &properties) else {
        return;
    };
    let again = property_string::parse(format, &printed);
    let again = again.unwrap_or_else(|error| panic!("{name}: {printed:?}: {error:?}"));
    // Once written, a value stays as it is: `0G` becomes `0T`, and that is the end of it.
    assert_eq!(property_string::print(format, &again).ok(), Some(printed), "{name}");
}
