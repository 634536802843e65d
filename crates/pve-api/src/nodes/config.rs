//! `/nodes/{node}/config`: the node's own options (reference 09 §9).

use pve_cfs::Cfs;
use pve_contract::id;
use pve_node::config::{self, NodeConfig};
use pve_rest::{ApiResult, Call, Registry, Reply, blocking};
use serde_json::{Map, Value};

use crate::access::audit;

/// Binds the handlers of this file.
pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_NODES_NODE_CONFIG, |call| {
        Box::pin(blocking(move || read(&call)))
    });
    registry.bind(id::PUT_NODES_NODE_CONFIG, |call| {
        Box::pin(audit::change(call, |call| {
            config::change(&call.context, &call.params)?;
            Ok(Reply::null())
        }))
    });
}

/// The options as they are written, or one of them.
fn read(call: &Call) -> ApiResult {
    let config = NodeConfig::read(&Cfs::new(&call.context), &call.context.site.node)?;
    let mut answer = Map::new();
    if config.exists() {
        answer.insert("description".to_owned(), config.description().into());
        answer.insert("digest".to_owned(), config.digest().into());
        answer.extend(config.iter().map(|(key, value)| (key.to_owned(), value.into())));
    }
    match call.params.text("property") {
        None | Some("all") => {}
        Some(wanted) => answer.retain(|key, _| key == wanted),
    }
    Ok(Value::from(answer).into())
}
