//! The points of charts: `GET …/rrddata` of a node, a VM, a storage (reference 04 §13.2)

use std::fmt::Display;
use std::str::FromStr;

use pve_contract::id;
use pve_metrics::{Consolidation, Rrd, Subject, Timeframe};
use pve_rest::{ApiError, ApiResult, Call, Registry, blocking};
use serde_json::Value;

/// Binds the handlers of this file.
pub(crate) fn register(registry: &mut Registry) {
    registry.bind(id::GET_NODES_NODE_RRDDATA, |call| {
        Box::pin(run(call, |call| Ok(Subject::Node(parameter(call, "node")?))))
    });
    // By number alone: every node of a cluster has the figures of all guests.
    registry.bind(id::GET_NODES_NODE_QEMU_VMID_RRDDATA, |call| {
        Box::pin(run(call, |call| Ok(Subject::Guest(parameter(call, "vmid")?))))
    });
    registry.bind(id::GET_NODES_NODE_STORAGE_STORAGE_RRDDATA, |call| {
        Box::pin(run(call, |call| {
            Ok(Subject::Storage(parameter(call, "node")?, parameter(call, "storage")?))
        }))
    });
}

async fn run(call: Call, subject: fn(&Call) -> Result<Subject, ApiError>) -> ApiResult {
    blocking(move || {
        let timeframe: Timeframe = parameter(&call, "timeframe")?;
        let how = match call.params.text("cf") {
            Some("MAX") => Consolidation::Max,
            _ => Consolidation::Average,
        };
        let rows = Rrd::new(&call.context).rows(&subject(&call)?, timeframe, how)?;
        Ok::<_, ApiError>(Value::from_iter(rows).into())
    })
    .await
}

fn parameter<T: FromStr<Err: Display>>(call: &Call, name: &str) -> Result<T, ApiError> {
    let parsed = call.params.required(name).parse();
    parsed.map_err(|error: T::Err| ApiError::parameter(name, error.to_string()))
}
