//! `/cluster/metrics` (reference 04 §16, §17)

mod export;
mod server;

use pve_contract::id;
use pve_rest::{ApiResult, Call, Registry};
use serde_json::json;

/// Binds the handlers below this folder.
pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_CLUSTER_METRICS, |call| Box::pin(index(call)));
    registry.bind(id::GET_CLUSTER_METRICS_EXPORT, |call| Box::pin(export::export(call)));
    server::register(registry);
}

/// `GET /cluster/metrics`
async fn index(_call: Call) -> ApiResult {
    Ok(json!([{ "name": "server" }]).into())
}
