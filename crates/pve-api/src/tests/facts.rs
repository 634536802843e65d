//! What nodes tell of themselves that seldom changes.

use pve_cfs::Cfs;
use serde_json::json;

use super::Lab;

#[test]
fn a_node_tells_its_version() {
    let lab = Lab::new();
    let version = lab.get("eve@pve", "/nodes/{node}/version", &[]);
    let keys: Vec<&String> = version.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["release", "repoid", "version"]);
    assert_eq!(version["version"], pve_contract::RELEASE);
}

#[test]
fn cpu_flags_are_those_that_were_told() {
    let lab = Lab::new();
    let rows = lab.get("eve@pve", "/cluster/qemu", &[]);
    assert_eq!(rows, json!([{"name": "cpu-flags"}, {"name": "custom-cpu-models"}]));
    let store = Cfs::new(&lab.context).status();
    store.set("kv/cpuflags-kvm", b"").unwrap();
    store.set("kv/cpuflags-tcg", b"aes svm").unwrap();
    let first = |params: &[(&str, &str)]| {
        let rows = lab.get("aud@pve", "/cluster/qemu/cpu-flags", params);
        let first = rows.as_array().unwrap().first().cloned();
        first.map(|row| (row["name"].clone(), row["supported-on"].clone()))
    };
    assert_eq!(
        first(&[]),
        Some((json!("nested-virt"), json!([]))),
        "of KVM nothing is known"
    );
    assert_eq!(
        first(&[("accel", "tcg")]),
        Some((json!("nested-virt"), json!(["pve1"])))
    );
    assert_eq!(first(&[("accel", "tcg"), ("arch", "aarch64")]), None);
}

#[test]
fn services_are_unknown_without_systemd() {
    let lab = Lab::new();
    let rows = lab.get("aud@pve", "/nodes/{node}/services", &[]);
    let ids: Vec<&str> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["service"].as_str().unwrap())
        .collect();
    assert_eq!((ids.len(), ids[0], ids[22]), (23, "chrony", "systemd-timesyncd"));
    assert!(ids.is_sorted());
    let cron = json!({ "service": "cron", "name": "cron", "desc": "cron", "state": "unknown" });
    assert!(rows.as_array().unwrap().contains(&cron));
    let one = [("service", "cron")];
    assert_eq!(lab.get("aud@pve", "/nodes/{node}/services/{service}/state", &one), cron);
    let children = ["state", "start", "stop", "restart", "reload"].map(|name| json!({ "subdir": name }));
    assert_eq!(
        lab.get("aud@pve", "/nodes/{node}/services/{service}", &one),
        json!(children)
    );
}
