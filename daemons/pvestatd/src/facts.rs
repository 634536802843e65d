//! What a node tells of itself that seldom changes: keys of the status store beside the figures (reference 04 §2).

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use pve_cfs::Cfs;
use pve_contract::RELEASE;
use pve_contract::version::{build_id, short_release};
use pve_daemon::BoxError;
use pve_node::status::{CpuInfo, Memory};
use pve_schema::Context;
use serde_json::{Value, json};

const STATIC_INFO: &str = "kv/static-info";
const VERSION_INFO: &str = "kv/version-info";
const NETWORK: &str = "kv/network";
const SDN: &str = "kv/sdn";

/// Whether this process told its version already: after an upgrade another one tells another.
static VERSION_TOLD: AtomicBool = AtomicBool::new(false);

/// Tells what the machine is.
pub(crate) fn machine(context: &Context) -> Result<(), BoxError> {
    let memory = Memory::read().total;
    let mut info = json!({ "cpus": CpuInfo::of_machine().cpus, "memory": memory, "cgroup-mode": cgroup_mode() });
    if std::env::consts::ARCH != "x86_64" {
        info["host-arch"] = std::env::consts::ARCH.into();
    }
    tell_if_new(context, STATIC_INFO, &info)
}

/// Tells the release: once, and again if it was lost.
pub(crate) fn version(context: &Context) -> Result<(), BoxError> {
    let store = Cfs::new(context).status();
    if VERSION_TOLD.load(Ordering::Relaxed) && store.get(VERSION_INFO)?.is_some() {
        return Ok(());
    }
    let info = json!({ "version": RELEASE, "release": short_release(), "repoid": build_id() });
    store.set(VERSION_INFO, info.to_string().as_bytes())?;
    VERSION_TOLD.store(true, Ordering::Relaxed);
    Ok(())
}

/// Tells the zones and fabrics of software-defined networks: there are none.
pub(crate) fn network(context: &Context) -> Result<(), BoxError> {
    tell_if_new(context, NETWORK, &json!({}))
}

/// Takes back what was told of zones when there were some: none are configured.
pub(crate) fn zones(context: &Context) -> Result<(), BoxError> {
    let store = Cfs::new(context).status();
    if store.get(SDN)?.is_some() {
        store.unset(SDN)?;
    }
    Ok(())
}

fn tell_if_new(context: &Context, key: &str, info: &Value) -> Result<(), BoxError> {
    let store = Cfs::new(context).status();
    let told = store.get(key)?.unwrap_or_default();
    if serde_json::from_slice::<Value>(&told).ok().as_ref() != Some(info) {
        store.set(key, info.to_string().as_bytes())?;
    }
    Ok(())
}

/// The version of the control groups: only the second has this file at its root.
fn cgroup_mode() -> u8 {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        2
    } else {
        1
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::OsString;
    use std::fs;
    use std::os::unix::fs::DirEntryExt as _;

    use super::*;

    type Step = fn(&Context) -> Result<(), BoxError>;

    fn told(context: &Context, key: &str) -> Option<Value> {
        let value = Cfs::new(context).status().get(key).unwrap()?;
        Some(serde_json::from_slice(&value).unwrap())
    }

    /// The files of the store: one that is written again is another one.
    fn files(root: &Path) -> BTreeSet<(OsString, u64)> {
        let entries = fs::read_dir(root.join("run/pve-cluster/status")).unwrap();
        let found: BTreeSet<_> = entries
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.file_name(), entry.ino())
            })
            .collect();
        assert!(!found.is_empty());
        found
    }

    #[test]
    fn facts_are_told_once_and_again_when_they_are_lost() {
        let directory = tempfile::tempdir().unwrap();
        let context = pve_testing::context(directory.path(), "n1");
        let store = Cfs::new(&context).status();
        let steps: [Step; 3] = [machine, version, network];
        for (step, key) in steps.into_iter().zip([STATIC_INFO, VERSION_INFO, NETWORK]) {
            step(&context).unwrap();
            let value = told(&context, key).unwrap();
            let before = files(directory.path());
            step(&context).unwrap();
            assert_eq!(files(directory.path()), before, "{key} is not told again");
            store.unset(key).unwrap();
            step(&context).unwrap();
            assert_eq!(told(&context, key), Some(value));
        }
        let machine = told(&context, STATIC_INFO).unwrap();
        let cpus = std::thread::available_parallelism().unwrap().get();
        assert!(machine["cpus"].as_u64().unwrap() >= cpus as u64, "{machine}");
        assert!(matches!(machine["cgroup-mode"].as_u64(), Some(1 | 2)));
        let version = told(&context, VERSION_INFO).unwrap();
        assert_eq!(
            (&version["version"], &version["release"]),
            (&json!(RELEASE), &json!("9.2"))
        );
        assert_eq!(told(&context, NETWORK), Some(json!({})));
    }

    #[test]
    fn zones_that_are_gone_are_told_of_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let context = pve_testing::context(directory.path(), "n1");
        zones(&context).unwrap();
        let store = Cfs::new(&context).status();
        store.set(SDN, b"{}").unwrap();
        zones(&context).unwrap();
        assert_eq!(store.get(SDN).unwrap(), None);
    }
}
