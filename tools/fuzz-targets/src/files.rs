//! Parsers of files below `/etc/pve`, and of values in them.

use std::fmt::Debug;
use std::str::FromStr as _;
use std::sync::LazyLock;

use pve_access::UserConfig;
use pve_access::domains::Domains;
use pve_backup::vzdump::conf::Conf;
use pve_contract::{id, method, property_format};
use pve_guest::{GuestConfig, KeyRules, Section};
use pve_jobs::{JobsCfg, jobs_cfg};
use pve_lxc::config::{ContainerConfig, ContainerRules};
use pve_qemu::config::{Agent, Boot, Drive, DriveKey, Machine, MachineType, Net, Version, Vga, VmRules};
use pve_schema::Site;
use pve_schema::ids::{UserId, VmId};
use pve_schema::property_string;
use pve_schema::simple_config::{SimpleConfig, SimpleFormat};
use pve_storage::{StorageConfig, StorageFile, StorageKind};

use crate::{choice, text};

/// `user.cfg`.
pub fn user_cfg(data: &[u8]) {
    let config = UserConfig::parse(&text(data));
    let once = config.print();
    let again = UserConfig::parse(&once);
    assert_eq!(again.print(), once);
    assert_eq!(rights(again), rights(config));
}

/// What a `user.cfg` means: users that exist, who is in what, and who may do what.
fn rights(config: UserConfig) -> impl PartialEq + Debug {
    let mut users = config.users;
    for user in users.values_mut() {
        // An address that is empty is there or not, which nobody can tell.
        user.email = user.email.take().filter(|email| !email.is_empty());
    }
    let mut groups = config.groups;
    for group in groups.values_mut() {
        group.members.retain(|id| !id.as_str().contains([',', ';', '\0']));
    }
    let mut acls = config.acls;
    for entry in acls.values_mut() {
        // What root@pam may do is not up to an ACL.
        entry.users.retain(|id, _| !id.is_root());
    }
    acls.retain(|_, entry| !entry.is_empty());
    (users, groups, config.pools, config.custom_roles, acls)
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
        let again = StorageFile::parse(once.as_bytes(), &SITE);
        assert_eq!(again.to_text().expect("our own text"), once);
        let options = |file: &StorageFile| file.iter().map(options).collect::<Vec<_>>();
        assert_eq!(options(&again), options(&file));
    }
}

/// A storage and its options.
fn options(storage: &StorageConfig) -> (String, StorageKind, Vec<(String, String)>) {
    let options = storage
        .options()
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    // A value that is empty, or off where off is no word, is not written.
    let options = options.filter(|(name, value)| !(value.is_empty() || name == "disable" && value == "0"));
    (storage.id.as_str().to_owned(), storage.kind, options.collect())
}

/// `jobs.cfg`.
pub fn jobs_cfg(data: &[u8]) {
    let jobs = JobsCfg::parse(&text(data));
    let _ = jobs.jobs();
    if let Ok(once) = jobs.file.write(jobs_cfg::format()) {
        let again = JobsCfg::parse(&once);
        assert_eq!(again.file.write(jobs_cfg::format()).expect("our own text"), once);
        assert_eq!(again.jobs(), jobs.jobs());
    }
}

/// `domains.cfg`.
pub fn domains_cfg(data: &[u8]) {
    let domains = Domains::parse(data);
    for name in ["pam", "pve"] {
        assert!(domains.get(name).is_some());
    }
    let mut defaults = 0;
    for (name, realm) in domains.iter() {
        let id: Result<UserId, _> = format!("x@{name}").parse();
        assert!(id.is_ok(), "{name:?} is no realm that a user may have");
        assert_eq!(realm.to_json()["type"], realm.kind.as_str());
        defaults += usize::from(realm.options.get("default").is_some_and(|value| value == "1"));
        let _ = (realm.required_factor(), realm.is_case_sensitive());
    }
    assert!(defaults <= 1);
}

/// `datacenter.cfg`, by the rules of files of that kind.
pub fn datacenter_cfg(data: &[u8]) {
    let format = SimpleFormat {
        file: "datacenter.cfg",
        keys: method(id::PUT_CLUSTER_OPTIONS).parameters,
        blank_after_description: false,
    };
    let config = SimpleConfig::parse(&format, &text(data));
    let Ok(once) = config.write(&format) else { return };
    let again = SimpleConfig::parse(&format, &once);
    assert_eq!(again.write(&format).as_ref(), Ok(&once));
    assert_eq!(again.description, config.description);
    assert!(again.iter().eq(config.iter()), "{config:?}");
}

/// `corosync.conf`.
pub fn corosync_conf(data: &[u8]) {
    let Ok(conf) = pve_cfs::CorosyncConf::parse(data) else {
        return;
    };
    let once = conf.print();
    let again = pve_cfs::CorosyncConf::parse(once.as_bytes());
    assert_eq!(again.map(|conf| conf.main), Ok(conf.main), "{once}");
}

/// `/etc/vzdump.conf`.
pub fn vzdump_conf(data: &[u8]) {
    let conf = Conf::parse(&text(data));
    assert!(!(conf.options.has("storage") && conf.options.has("dumpdir")));
}

/// A VM's configuration file.
pub fn qemu_config(data: &[u8]) {
    guest_config(&VmRules, data);
}

/// A container's configuration file, and what is shown of it.
pub fn lxc_config(data: &[u8]) {
    let config = guest_config(&ContainerRules, data);
    let shown = pve_lxc::config::json::effective(&config);
    assert_eq!(shown["digest"], config.digest());
    let view = ContainerConfig::new(&config.main);
    assert!(view.disk() > 0 && view.memory() > 0 && view.cpus().is_none_or(|cpus| cpus > 0.0));
}

fn guest_config(rules: &dyn KeyRules, data: &[u8]) -> GuestConfig {
    let vmid = VmId::try_from(105).expect("an id");
    let parsed = GuestConfig::parse(rules, vmid, data);
    let once = parsed.config.print();
    let again = GuestConfig::parse(rules, vmid, once.as_bytes());
    assert_eq!(again.config.print(), once);
    assert_eq!(keys(&again.config), keys(&parsed.config));
    let strict = GuestConfig::parse_strict(rules, vmid, data);
    assert_eq!(strict.is_ok(), parsed.warnings.is_empty());
    parsed.config
}

/// All keys of a guest: by section, what is to be deleted last.
fn keys(config: &GuestConfig) -> impl PartialEq + Debug {
    let keys = |section: &Section| -> Vec<_> {
        let keys = section.iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        keys.collect()
    };
    let special = config
        .special
        .iter()
        .map(|(name, section)| (name.clone(), keys(section)));
    // A special section without keys is none.
    let special: Vec<_> = special.filter(|(_, keys)| !keys.is_empty()).collect();
    let snapshots = config
        .snapshots
        .iter()
        .map(|(name, section)| (name.clone(), keys(section)));
    let snapshots: Vec<_> = snapshots.collect();
    let main = [keys(&config.main), keys(&config.pending)];
    let raw = [config.main.raw.clone(), config.pending.raw.clone()];
    let main = (main, raw);
    (main, special, snapshots, config.pending_deletes.clone())
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
