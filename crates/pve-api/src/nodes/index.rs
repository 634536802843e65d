//! `GET /nodes` and `GET /nodes/{node}` (reference 03 §1.1, 04 §15.4)

use pve_access::AccessControl;
use pve_cfs::Cfs;
use pve_metrics::{Subject, ToldRecords};
use pve_rest::{ApiError, ApiResult, Call, blocking};
use serde_json::{Value, json};

use super::node_row::node_row;

/// What is below a node.
const ENTRIES: [&str; 41] = [
    "aplinfo",
    "apt",
    "capabilities",
    "ceph",
    "certificates",
    "config",
    "disks",
    "dns",
    "firewall",
    "hardware",
    "hosts",
    "journal",
    "lxc",
    "migrateall",
    "netstat",
    "network",
    "qemu",
    "query-oci-repo-tags",
    "query-url-metadata",
    "replication",
    "report",
    "rrd",
    "rrddata",
    "scan",
    "sdn",
    "services",
    "spiceshell",
    "startall",
    "status",
    "stopall",
    "storage",
    "subscription",
    "suspendall",
    "syslog",
    "tasks",
    "termproxy",
    "time",
    "version",
    "vncshell",
    "vzdump",
    "wakeonlan",
];

/// `GET /nodes/{node}`: a constant list, whether there is such a node or not.
pub(super) async fn node(_call: Call) -> ApiResult {
    let rows: Vec<Value> = ENTRIES.iter().map(|name| json!({ "name": name })).collect();
    Ok(Value::from(rows).into())
}

/// `GET /nodes`
pub(super) async fn nodes(call: Call) -> ApiResult {
    blocking(move || {
        let caller = call.auth_id();
        let access = AccessControl::load(&call.context)?;
        let cfs = Cfs::new(&call.context);
        let records = ToldRecords::load(&cfs, call.context.now())?;
        let mut rows = Vec::new();
        for node in cfs.nodes()? {
            let audit = access.has(&caller, &format!("/nodes/{node}"), &["Sys.Audit"]);
            let online = cfs.is_online(node.as_str())?;
            let mut row = node_row(node.as_str(), records.get(&Subject::Node(node.clone())), online, audit);
            let fingerprint = pve_node::fingerprint(&cfs, node.as_str()).unwrap_or_else(|error| {
                log::error!("{error}");
                None
            });
            row.insert("ssl_fingerprint".to_owned(), fingerprint.into());
            rows.push(Value::from(row));
        }
        Ok::<_, ApiError>(Value::from(rows).into())
    })
    .await
}
