//! `/nodes/{node}/vzdump` (reference 05 §12)

use pve_access::AccessControl;
use pve_backup::vzdump;
use pve_contract::id;
use pve_rest::{ApiError, ApiResult, Call, Registry, blocking};
use serde_json::Value;

/// Binds the handlers of this file.
pub(crate) fn register(registry: &mut Registry) {
    registry.bind(id::POST_NODES_NODE_VZDUMP, |call| Box::pin(start(call)));
    registry.bind(id::GET_NODES_NODE_VZDUMP_DEFAULTS, |call| Box::pin(defaults(call)));
    registry.bind(id::GET_NODES_NODE_VZDUMP_EXTRACTCONFIG, |call| {
        Box::pin(extract_config(call))
    });
}

/// `POST /nodes/{node}/vzdump`: the UPID, or `OK` when there is nothing to do here.
async fn start(call: Call) -> ApiResult {
    blocking(move || {
        let access = AccessControl::load(&call.context)?;
        let answer = vzdump::request(&call.context, &access, &call.auth_id(), &call.request_id, &call.params)?;
        Ok::<_, ApiError>(Value::from(answer.text()).into())
    })
    .await
}

/// `GET /nodes/{node}/vzdump/defaults`
async fn defaults(call: Call) -> ApiResult {
    blocking(move || {
        let access = AccessControl::load(&call.context)?;
        let storage = call.params.text("storage");
        let answer = vzdump::defaults::defaults(&call.context, &access, &call.auth_id(), storage)?;
        Ok::<_, ApiError>(answer.into())
    })
    .await
}

/// `GET /nodes/{node}/vzdump/extractconfig`
async fn extract_config(call: Call) -> ApiResult {
    blocking(move || {
        let access = AccessControl::load(&call.context)?;
        let volume = call.params.required("volume");
        let config = vzdump::extract::config(&call.context, &access, &call.auth_id(), volume)?;
        Ok::<_, ApiError>(Value::from(config).into())
    })
    .await
}
