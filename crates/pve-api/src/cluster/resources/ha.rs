//! What the high-availability manager says of nodes and guests (reference 10b §1, §3).

use std::collections::BTreeMap;
use std::sync::Arc;

use pve_cfs::{Cfs, CfsError, GuestEntry, GuestKind};
use pve_schema::section_config::Header;
use serde_json::{Map, Value};

/// The manager's own words.
const STATUS: &str = "ha/manager_status";
/// What it is told to manage.
const RESOURCES: &str = "ha/resources.cfg";
/// The state of what is managed, where none is configured.
const DEFAULT_STATE: &str = "started";

/// States of nodes and services; empty where there is no such manager.
pub(crate) struct HaStates {
    status: Arc<Status>,
    configured: Arc<BTreeMap<String, String>>,
}

#[derive(Default)]
struct Status {
    nodes: BTreeMap<String, String>,
    services: BTreeMap<String, String>,
}

impl HaStates {
    pub(crate) fn load(cfs: &Cfs) -> Result<Self, CfsError> {
        Ok(Self {
            status: cfs.cached(STATUS, "states", |bytes, _| Status::parse(bytes.unwrap_or_default()))?,
            configured: cfs.cached(RESOURCES, "states", |bytes, _| configured(bytes.unwrap_or_default()))?,
        })
    }

    pub(super) fn of_node(&self, node: &str) -> Option<&str> {
        self.status.nodes.get(node).map(String::as_str)
    }

    /// What the manager says of a guest; until it looked, what it is told.
    pub(crate) fn of_guest(&self, guest: &GuestEntry) -> Option<&str> {
        let kind = match guest.kind {
            GuestKind::Qemu => "vm",
            GuestKind::Lxc => "ct",
        };
        let service = format!("{kind}:{}", guest.vmid);
        let told = self.status.services.get(&service);
        told.or_else(|| self.configured.get(&service)).map(String::as_str)
    }
}

impl Status {
    /// A file that makes no sense says nothing: it is another daemon's.
    fn parse(bytes: &[u8]) -> Self {
        let status: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let states = |key: &str, state: fn(&Value) -> Option<&str>| {
            let entries = status.get(key).and_then(Value::as_object).map(Map::iter);
            let entries = entries.into_iter().flatten();
            let states = entries.filter_map(|(name, entry)| Some((name.clone(), state(entry)?.to_owned())));
            states.collect()
        };
        Self {
            nodes: states("node_status", Value::as_str),
            services: states("service_status", |entry| entry.get("state")?.as_str()),
        }
    }
}

/// The states that are wanted, by `vm:100`.
fn configured(bytes: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(bytes);
    let mut states = BTreeMap::new();
    let mut service = None;
    for line in text.lines() {
        if !line.starts_with(char::is_whitespace) {
            let header = Header::parse(line).filter(|header| ["vm", "ct"].contains(&header.kind.as_str()));
            service = header.map(|header| format!("{}:{}", header.kind, header.id));
            if let Some(service) = &service {
                states.insert(service.clone(), DEFAULT_STATE.to_owned());
            }
        } else if let (Some(service), Some(("state", state))) = (&service, line.trim().split_once(' ')) {
            let state = if state.trim() == "enabled" {
                DEFAULT_STATE
            } else {
                state.trim()
            };
            states.insert(service.clone(), state.to_owned());
        }
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(kind: GuestKind, vmid: u32) -> GuestEntry {
        GuestEntry {
            vmid: vmid.try_into().unwrap(),
            node: "lab1".parse().unwrap(),
            kind,
        }
    }

    #[test]
    fn the_manager_knows_better_than_the_configuration() {
        let status = br#"{"master_node":"lab1","node_status":{"lab1":"online","lab2":"maintenance"},
            "service_status":{"vm:100":{"node":"lab1","running":1,"state":"fence","uid":"Zk1"}},"timestamp":1795000000}"#;
        let resources = b"vm: 100\n\tstate stopped\n\nct: 101\n\tcomment a state\n\tstate disabled\n\nvm: 102\n\nvm: 103\n\tstate enabled\n";
        let states = HaStates {
            status: Arc::new(Status::parse(status)),
            configured: Arc::new(configured(resources)),
        };
        assert_eq!(
            (states.of_node("lab2"), states.of_node("lab3")),
            (Some("maintenance"), None)
        );
        let of = |kind, vmid| states.of_guest(&guest(kind, vmid));
        assert_eq!(of(GuestKind::Qemu, 100), Some("fence"));
        assert_eq!(of(GuestKind::Lxc, 101), Some("disabled"));
        assert_eq!(
            (of(GuestKind::Qemu, 102), of(GuestKind::Qemu, 103)),
            (Some("started"), Some("started"))
        );
        assert_eq!((of(GuestKind::Qemu, 101), of(GuestKind::Lxc, 100)), (None, None));
    }

    #[test]
    fn files_that_make_no_sense_say_nothing() {
        for bytes in [
            &b""[..],
            b"[]",
            b"{\"node_status\":5,\"service_status\":{\"vm:1\":7}}",
            b"\xff",
        ] {
            let status = Status::parse(bytes);
            assert!(status.nodes.is_empty() && status.services.is_empty());
            assert!(configured(bytes).is_empty());
        }
    }
}
