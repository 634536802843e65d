//! `/cluster`

mod backup;
mod config;
mod jobs;
mod log;
mod metrics;
mod nextid;
mod options;
mod qemu;
pub(crate) mod resources;
mod status;
mod tasks;

use pve_contract::id;
use pve_rest::{ApiResult, Registry};
use serde_json::{Value, json};

/// What is below `/cluster` (reference 04 §15.1).
const ENTRIES: [&str; 21] = [
    "acme",
    "backup",
    "backup-info",
    "bulk-action",
    "ceph",
    "config",
    "firewall",
    "ha",
    "jobs",
    "log",
    "mapping",
    "metrics",
    "notifications",
    "nextid",
    "options",
    "qemu",
    "replication",
    "resources",
    "status",
    "tasks",
    "sdn",
];

/// Binds the handlers below this folder.
pub(crate) fn register(registry: &mut Registry) {
    registry.bind(id::GET_CLUSTER, |_call| Box::pin(index(&ENTRIES)));
    backup::register(registry);
    config::register(registry);
    jobs::register(registry);
    registry.bind(id::GET_CLUSTER_LOG, |call| Box::pin(log::read(call)));
    metrics::register(registry);
    registry.bind(id::GET_CLUSTER_NEXTID, |call| Box::pin(nextid::next(call)));
    options::register(registry);
    qemu::register(registry);
    registry.bind(id::GET_CLUSTER_RESOURCES, |call| Box::pin(resources::list(call)));
    registry.bind(id::GET_CLUSTER_STATUS, |call| Box::pin(status::read(call)));
    registry.bind(id::GET_CLUSTER_TASKS, |call| Box::pin(tasks::list(call)));
}

/// What is below a path.
async fn index(entries: &[&str]) -> ApiResult {
    let rows: Vec<Value> = entries.iter().map(|name| json!({ "name": name })).collect();
    Ok(Value::from(rows).into())
}
