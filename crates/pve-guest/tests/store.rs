//! Configs are found, created and locked by number (reference 06a §1).

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use pve_guest::rules::Checked;
use pve_guest::{GuestConfig, GuestKind, GuestStore, KeyRules};
use pve_schema::Context;
use pve_schema::ids::VmId;

struct Rules;

impl KeyRules for Rules {
    fn kind(&self) -> GuestKind {
        GuestKind::Qemu
    }

    fn check(&self, key: &str, value: &str) -> Result<Checked, String> {
        Ok(Checked {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}

fn context(root: &Path) -> Context {
    let context = pve_testing::context(root, "n1");
    std::fs::create_dir_all(root.join("etc/pve/nodes/n1")).unwrap();
    context
}

#[test]
fn a_config_lives_where_its_node_looks_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(dir.path());
    let store = GuestStore::new(&context, &Rules);
    let vmid: VmId = "105".parse().unwrap();
    let error = store.load(vmid).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Configuration file 'nodes/n1/qemu-server/105.conf' does not exist"
    );

    let mut config = GuestConfig::new(GuestKind::Qemu);
    config.main.set("cores", "2");
    store.create(vmid, &mut config).unwrap();
    let error = store.create(vmid, &mut config).unwrap_err();
    assert_eq!(error.to_string(), "VM 105 already exists on node 'n1'");

    let mut loaded = store.load(vmid).unwrap();
    assert_eq!(loaded, config);
    loaded.main.set("cores", "4");
    store.save(vmid, &mut loaded).unwrap();
    assert_ne!(loaded.digest(), config.digest());
    let file = dir.path().join("etc/pve/nodes/n1/qemu-server/105.conf");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "cores: 4\n");

    assert!(store.remove(vmid).unwrap());
    assert!(!store.remove(vmid).unwrap());
}

#[test]
fn one_change_waits_for_another_until_its_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(dir.path());
    let vmid: VmId = "105".parse().unwrap();
    let _held = GuestStore::new(&context, &Rules)
        .lock(vmid, Duration::from_secs(1))
        .unwrap();
    let other = context.clone();
    let error = std::thread::spawn(move || {
        let store = GuestStore::new(&other, &Rules);
        store
            .lock(vmid, Duration::from_millis(50))
            .map(drop)
            .unwrap_err()
            .to_string()
    });
    let path = dir.path().join("var/lock/qemu-server/lock-105.conf");
    assert_eq!(
        error.join().unwrap(),
        format!("can't lock file '{}' - got timeout", path.display())
    );
}
