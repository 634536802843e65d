//! `GET /cluster/status` (reference 04 §15.3)

use pve_cfs::{Cfs, Members};
use pve_metrics::told::node;
use pve_metrics::{Subject, ToldRecords};
use pve_rest::{ApiError, ApiResult, Call, blocking};
use serde_json::{Value, json};

pub(super) async fn read(call: Call) -> ApiResult {
    blocking(move || {
        let cfs = Cfs::new(&call.context);
        let records = ToldRecords::load(&cfs, call.context.now())?;
        let members = cfs.members()?;
        let rows = match members.is_clustered() {
            true => cluster_rows(&members, &records),
            false => vec![own_row(&call, &cfs, &records)?],
        };
        Ok::<_, ApiError>(Value::from(rows).into())
    })
    .await
}

/// A node that is alone: no row of a cluster.
fn own_row(call: &Call, cfs: &Cfs, records: &ToldRecords) -> Result<Value, ApiError> {
    let name = call.context.site.node.as_str();
    Ok(json!({
        "type": "node",
        "id": format!("node/{name}"),
        "name": name,
        "ip": cfs.node_address(name)?.to_string(),
        "local": 1,
        "nodeid": 0,
        "online": 1,
        "level": level(name, records),
    }))
}

/// The cluster, then its nodes.
fn cluster_rows(members: &Members, records: &ToldRecords) -> Vec<Value> {
    let mut rows = Vec::new();
    if let Some(cluster) = &members.cluster {
        rows.push(json!({
            "type": "cluster",
            "id": "cluster",
            "name": cluster.name,
            "nodes": cluster.nodes,
            "version": cluster.version,
            "quorate": cluster.quorate,
        }));
    }
    for (name, member) in members.nodelist.iter().flatten() {
        let mut row = json!({
            "type": "node",
            "id": format!("node/{name}"),
            "name": name,
            "nodeid": member.id,
            "local": u8::from(*name == members.nodename),
            "online": member.online,
            "level": level(name, records),
        });
        if let Some(ip) = &member.ip {
            row["ip"] = ip.as_str().into();
        }
        rows.push(row);
    }
    rows
}

/// The level of a node's subscription.
fn level(name: &str, records: &ToldRecords) -> String {
    let record = name.parse().ok().and_then(|name| records.get(&Subject::Node(name)));
    let level = record.and_then(|record| record.text(node::LEVEL));
    level.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_comes_before_its_nodes() {
        let members = json!({"nodename": "pve1", "version": 3,
            "cluster": {"name": "lab", "version": 2, "nodes": 2, "quorate": 1},
            "nodelist": {"pve1": {"id": 1, "online": 1, "ip": "192.0.2.1"}, "pve2": {"id": 2, "online": 0}}});
        let members: Members = serde_json::from_value(members).unwrap();
        let rows = cluster_rows(&members, &ToldRecords::default());
        assert_eq!(
            Value::from(rows),
            json!([
                {"type": "cluster", "id": "cluster", "name": "lab", "nodes": 2, "version": 2, "quorate": 1},
                {"type": "node", "id": "node/pve1", "name": "pve1", "nodeid": 1, "local": 1, "online": 1, "level": "",
                    "ip": "192.0.2.1"},
                {"type": "node", "id": "node/pve2", "name": "pve2", "nodeid": 2, "local": 0, "online": 0, "level": ""},
            ])
        );
    }
}
