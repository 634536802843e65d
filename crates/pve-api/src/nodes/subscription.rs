//! `/nodes/{node}/subscription` (reference 09 §13): reading only.

use pve_access::AccessControl;
use pve_contract::id;
use pve_node::subscription::{self, Subscription};
use pve_rest::{ApiError, ApiResult, Call, Registry, blocking};
use serde_json::{Map, Value};

/// Binds the handlers of this file.
pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_NODES_NODE_SUBSCRIPTION, |call| Box::pin(read(call)));
}

/// `GET …/subscription`: key and machine only for those who may look at the node.
async fn read(call: Call) -> ApiResult {
    blocking(move || {
        let site = &call.context.site;
        let path = format!("/nodes/{}", site.node);
        let may = AccessControl::load(&call.context)?.has(&call.auth_id(), &path, &["Sys.Audit"]);
        let found = Subscription::read(site)?;
        let mut answer = Map::new();
        let mut tell = |key: &str, value: &str| answer.insert(key.to_owned(), value.into());
        tell("status", found.status());
        tell("url", subscription::URL);
        if let Some(message) = found.message() {
            tell("message", message);
        }
        if may {
            tell("serverid", &subscription::server_id()?);
            if let Some(key) = found.key() {
                tell("key", key);
            }
        }
        Ok::<_, ApiError>(Value::from(answer).into())
    })
    .await
}
