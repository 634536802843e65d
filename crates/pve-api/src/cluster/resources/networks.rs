//! Rows of networks: zones and fabrics, as each node tells of them (reference 04 §9.9, §15.2).

use std::collections::BTreeMap;

use pve_cfs::{CfsError, StatusStore};
use pve_schema::ids::NodeName;
use serde_json::{Map, Value, json};

use super::{Row, object};

/// What a node tells of its networks: key, then row.
type Entries = Map<String, Value>;

/// What all nodes tell.
pub(super) struct Networks {
    /// `kv/network`: zones and fabrics.
    told: BTreeMap<NodeName, Entries>,
    /// `kv/sdn`: zones, as nodes of older releases tell.
    told_before: BTreeMap<NodeName, Entries>,
}

impl Networks {
    pub(super) fn load(status: &StatusStore) -> Result<Self, CfsError> {
        let of_nodes = |key| {
            let told = status
                .of_nodes(key)?
                .into_iter()
                .map(|(node, value)| (node, entries(&value)));
            Ok::<_, CfsError>(told.collect())
        };
        Ok(Self {
            told: of_nodes("kv/network")?,
            told_before: of_nodes("kv/sdn")?,
        })
    }

    /// The zones of nodes that tell only of zones. `may` checks a privilege on a path.
    pub(super) fn sdn_rows(&self, may: impl Fn(&str, &str) -> bool) -> Vec<Row> {
        let old = self
            .told_before
            .iter()
            .filter(|(node, _)| !self.told.contains_key(*node));
        let zones = old.flat_map(|(node, zones)| zones.iter().map(move |(zone, told)| (node, zone, told)));
        let visible = zones.filter(|(_, zone, _)| may("SDN.Audit", &format!("/sdn/zones/{zone}")));
        let rows = visible.map(|(node, zone, told)| {
            let mut row = object(json!({
                "id": format!("sdn/{node}/{zone}"),
                "sdn": zone,
                "node": node.as_str(),
                "type": "sdn",
                "status": told.get("status"),
            }));
            if let Some(kind) = told.get("zone-type") {
                row.insert("zone-type".to_owned(), kind.clone());
            }
            row
        });
        rows.collect()
    }

    /// The network of each node's own bridges, which needs no software-defined network, then what nodes tell.
    pub(super) fn rows(&self, nodes: &[NodeName], may: impl Fn(&str, &str) -> bool) -> Vec<Row> {
        let mut rows = Vec::new();
        if may("SDN.Audit", "/sdn/zones/localnetwork") {
            rows.extend(nodes.iter().map(local_network));
        }
        for (node, entries) in &self.told {
            rows.extend(entries.values().filter_map(|told| row(node, told, &may)));
        }
        rows
    }
}

fn entries(value: &[u8]) -> Entries {
    serde_json::from_slice(value).unwrap_or_default()
}

fn local_network(node: &NodeName) -> Row {
    object(json!({
        "id": format!("network/{node}/zone/localnetwork"),
        "type": "network",
        "network-type": "zone",
        "network": "localnetwork",
        "node": node.as_str(),
        "status": "ok",
    }))
}

/// The row of one network, if the caller may see it and it is of a kind that is known.
fn row(node: &NodeName, told: &Value, may: impl Fn(&str, &str) -> bool) -> Option<Row> {
    let text = |key: &str| told.get(key).and_then(Value::as_str);
    let (kind, network) = (text("network-type")?, text("network")?);
    let visible = match kind {
        "zone" => may("SDN.Audit", &format!("/sdn/zones/{network}")),
        "fabric" => {
            let path = format!("/sdn/fabrics/{network}");
            may("SDN.Audit", &path) || may("SDN.Allocate", &path)
        }
        _ => false,
    };
    if !visible {
        return None;
    }
    let mut row = told.as_object()?.clone();
    row.insert("id".to_owned(), format!("network/{node}/{kind}/{network}").into());
    row.insert("node".to_owned(), node.as_str().into());
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three nodes: of today, of a release before, and of one before that had any of it.
    fn networks() -> Networks {
        let node = |name: &str| name.parse::<NodeName>().unwrap();
        let told = json!({
            "zone/z": {"network": "z", "network-type": "zone", "type": "network", "status": "available",
                "zone-type": "simple"},
            "fabric/f": {"network": "f", "network-type": "fabric", "type": "network", "status": "ok",
                "protocol": "ospf"},
            "moon/m": {"network": "m", "network-type": "moon", "type": "network"},
            "broken": 5,
        });
        let before = json!({"z": {"status": "available", "zone-type": "simple"}, "y": {"status": "error"}});
        Networks {
            told: BTreeMap::from([(node("pve1"), entries(told.to_string().as_bytes()))]),
            told_before: BTreeMap::from(
                [node("pve1"), node("pve2")].map(|node| (node, entries(before.to_string().as_bytes()))),
            ),
        }
    }

    #[test]
    fn zones_of_older_nodes_are_rows_of_their_own() {
        let rows = networks().sdn_rows(|privilege, _| privilege == "SDN.Audit");
        assert_eq!(
            Value::from(rows),
            json!([
                {"id": "sdn/pve2/y", "sdn": "y", "node": "pve2", "type": "sdn", "status": "error"},
                {"id": "sdn/pve2/z", "sdn": "z", "node": "pve2", "type": "sdn", "status": "available",
                    "zone-type": "simple"},
            ])
        );
        assert!(networks().sdn_rows(|_, path| path == "/sdn/zones/x").is_empty());
    }

    #[test]
    fn networks_are_seen_by_who_may_see_them() {
        let nodes = ["pve1", "pve2"].map(|name| name.parse().unwrap());
        let rows = |may: fn(&str, &str) -> bool| Value::from(networks().rows(&nodes, may));
        let zone = json!({"id": "network/pve1/zone/z", "node": "pve1", "network": "z", "network-type": "zone",
            "type": "network", "status": "available", "zone-type": "simple"});
        let fabric = json!({"id": "network/pve1/fabric/f", "node": "pve1", "network": "f", "network-type": "fabric",
            "type": "network", "status": "ok", "protocol": "ospf"});
        let own = |node: &str| {
            json!({"id": format!("network/{node}/zone/localnetwork"), "type": "network", "network-type": "zone",
                "network": "localnetwork", "node": node, "status": "ok"})
        };
        assert_eq!(rows(|_, _| true), json!([own("pve1"), own("pve2"), fabric, zone]));
        assert_eq!(rows(|_, path| path == "/sdn/zones/z"), json!([zone]));
        assert_eq!(
            rows(|privilege, path| privilege == "SDN.Allocate" && path == "/sdn/fabrics/f"),
            json!([fabric])
        );
        assert_eq!(rows(|_, _| false), json!([]));
    }
}
