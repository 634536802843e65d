//! One cycle as a line of the file: a JSON object with a part for each step that saw something.
//!
//! Only what is ever told is kept, not all that a step saw: of a thousand VMs that is 200 kB instead of some megabytes,
//! 181 times.

use serde_json::{Map, Value, json};

use crate::snapshot::{Object, Objects, Snapshot};

/// The keys of a part.
pub(super) const DATA: &str = "data";
pub(super) const TIMESTAMP: &str = "timestamp";

/// What is kept of the node's parts.
const NODE: [(&str, &[&str]); 3] = [
    ("cpustat", &["avg1", "avg5", "avg15", "cpu", "cpus", "wait"]),
    ("memory", &["memtotal", "memused", "swaptotal", "swapused"]),
    ("blockstat", &["blocks", "bfree"]),
];
/// What is kept of a guest.
const GUEST: [&str; 12] = [
    "status",
    "uptime",
    "cpu",
    "cpus",
    "mem",
    "maxmem",
    "disk",
    "maxdisk",
    "diskread",
    "diskwrite",
    "netin",
    "netout",
];
/// What is kept of a storage.
const STORAGE: [&str; 3] = ["total", "used", "active"];

/// The line of a cycle, without its end.
pub(super) fn print<'a>(snapshots: impl IntoIterator<Item = &'a Snapshot>) -> String {
    let parts = snapshots.into_iter().map(|snapshot| {
        let part = json!({ DATA: kept(&snapshot.objects), TIMESTAMP: snapshot.time });
        (snapshot.objects.subsystem().to_owned(), part)
    });
    Value::Object(parts.collect()).to_string()
}

fn kept(objects: &Objects) -> Value {
    let all =
        |objects: Vec<(String, Object)>| Value::Object(objects.into_iter().map(|(id, o)| (id, o.into())).collect());
    match objects {
        Objects::Node(node) => node_of(node).into(),
        Objects::Qemu(guests) | Objects::Lxc(guests) => all(guests
            .iter()
            .map(|(vmid, row)| (vmid.to_string(), some(row, &GUEST)))
            .collect()),
        Objects::Storage(storages) => all(storages
            .iter()
            .map(|(id, row)| (id.to_string(), some(row, &STORAGE)))
            .collect()),
    }
}

/// The node's figures, and of its interfaces those that are hardware.
fn node_of(node: &Object) -> Object {
    let mut kept = some(node, &["uptime"]);
    for (part, keys) in NODE {
        if let Some(object) = node.get(part).and_then(Value::as_object) {
            kept.insert(part.to_owned(), some(object, keys).into());
        }
    }
    let interfaces = node.get("nics").and_then(Value::as_object).into_iter().flatten();
    let hardware = interfaces.filter(|(_, interface)| interface.as_object().is_some_and(is_hardware));
    let hardware: Map<String, Value> = hardware
        .map(|(name, interface)| (name.clone(), interface.clone()))
        .collect();
    kept.insert("nics".to_owned(), hardware.into());
    kept
}

/// Whether an interface is a part of the machine.
pub(super) fn is_hardware(interface: &Object) -> bool {
    interface.get("type").and_then(Value::as_str) == Some("physical")
}

fn some(object: &Object, keys: &[&str]) -> Object {
    let pairs = keys.iter().filter_map(|key| object.get_key_value(*key));
    pairs.map(|(key, value)| (key.clone(), value.clone())).collect()
}
