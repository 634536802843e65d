//! `/cluster/metrics/server` (reference 04 §16.1)

use pve_cfs::Cfs;
use pve_contract::id;
use pve_metrics::servers::{ServerError, Servers, edit};
use pve_rest::{ApiError, ApiResult, Call, Registry, Reply, blocking};
use serde_json::Value;

/// Binds the handlers below this folder.
pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_CLUSTER_METRICS_SERVER, |call| Box::pin(list(call)));
    registry.bind(id::GET_CLUSTER_METRICS_SERVER_ID, |call| Box::pin(read(call)));
    registry.bind(id::POST_CLUSTER_METRICS_SERVER_ID, |call| Box::pin(create(call)));
    registry.bind(id::PUT_CLUSTER_METRICS_SERVER_ID, |call| Box::pin(update(call)));
    registry.bind(id::DELETE_CLUSTER_METRICS_SERVER_ID, |call| Box::pin(delete(call)));
}

/// Runs a handler's work off the connection's thread.
async fn answer(call: Call, work: fn(&Call) -> Result<Value, ServerError>) -> ApiResult {
    blocking(move || work(&call).map(Reply::from).map_err(ApiError::from)).await
}

async fn list(call: Call) -> ApiResult {
    answer(call, |call| {
        let servers = Servers::load(&Cfs::new(&call.context))?;
        Ok(servers.iter().map(|server| server.row()).collect())
    })
    .await
}

async fn read(call: Call) -> ApiResult {
    answer(call, |call| {
        let id = call.params.required("id");
        let servers = Servers::load(&Cfs::new(&call.context))?;
        let server = servers.get(id);
        let server = server.ok_or_else(|| ServerError::NoSuchEntry(id.to_owned()))?;
        Ok(Value::Object(server.to_json()))
    })
    .await
}

async fn create(call: Call) -> ApiResult {
    answer(call, |call| {
        let params = &call.params;
        edit::create(&call.context, params.required("id"), params.required("type"), params)?;
        Ok(Value::Null)
    })
    .await
}

async fn update(call: Call) -> ApiResult {
    answer(call, |call| {
        edit::update(&call.context, call.params.required("id"), &call.params)?;
        Ok(Value::Null)
    })
    .await
}

async fn delete(call: Call) -> ApiResult {
    answer(call, |call| {
        edit::delete(&call.context, call.params.required("id"))?;
        Ok(Value::Null)
    })
    .await
}
