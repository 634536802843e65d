//! Charts of a node, a guest, a storage: their points, `GET …/rrddata` (reference 04 §13.2), and as pictures,
//! `GET …/rrd` (reference 04 §13.3).

use std::fmt::Display;
use std::str::FromStr;

use pve_contract::id;
use pve_metrics::{Consolidation, Rrd, Subject, Timeframe};
use pve_rest::{ApiError, ApiResult, Call, Registry, blocking};
use pve_schema::list;
use serde_json::{Value, json};

/// Binds the handlers of this file.
pub(crate) fn register(registry: &mut Registry) {
    registry.bind(id::GET_NODES_NODE_RRDDATA, |call| Box::pin(points(call, node)));
    registry.bind(id::GET_NODES_NODE_QEMU_VMID_RRDDATA, |call| {
        Box::pin(points(call, guest))
    });
    registry.bind(id::GET_NODES_NODE_LXC_VMID_RRDDATA, |call| {
        Box::pin(points(call, guest))
    });
    registry.bind(id::GET_NODES_NODE_STORAGE_STORAGE_RRDDATA, |call| {
        Box::pin(points(call, storage))
    });
    registry.bind(id::GET_NODES_NODE_RRD, |call| Box::pin(picture(call, node)));
    registry.bind(id::GET_NODES_NODE_QEMU_VMID_RRD, |call| Box::pin(picture(call, guest)));
    registry.bind(id::GET_NODES_NODE_LXC_VMID_RRD, |call| Box::pin(picture(call, guest)));
    registry.bind(id::GET_NODES_NODE_STORAGE_STORAGE_RRD, |call| {
        Box::pin(picture(call, storage))
    });
}

fn node(call: &Call) -> Result<Subject, ApiError> {
    Ok(Subject::Node(parameter(call, "node")?))
}

/// By number alone: every node of a cluster has the figures of all guests.
fn guest(call: &Call) -> Result<Subject, ApiError> {
    Ok(Subject::Guest(parameter(call, "vmid")?))
}

fn storage(call: &Call) -> Result<Subject, ApiError> {
    Ok(Subject::Storage(parameter(call, "node")?, parameter(call, "storage")?))
}

async fn points(call: Call, subject: fn(&Call) -> Result<Subject, ApiError>) -> ApiResult {
    blocking(move || {
        let (timeframe, how) = range(&call)?;
        let rows = Rrd::new(&call.context).rows(&subject(&call)?, timeframe, how)?;
        Ok::<_, ApiError>(Value::from_iter(rows).into())
    })
    .await
}

async fn picture(call: Call, subject: fn(&Call) -> Result<Subject, ApiError>) -> ApiResult {
    blocking(move || {
        let (timeframe, how) = range(&call)?;
        let sources = list::split(call.params.required("ds"));
        let picture = Rrd::new(&call.context).picture(&subject(&call)?, &sources, timeframe, how)?;
        // A byte is a character of the same number, as upstream writes bytes in JSON.
        let image: String = picture.image.into_iter().map(char::from).collect();
        Ok::<_, ApiError>(json!({ "filename": picture.filename, "image": image }).into())
    })
    .await
}

/// How far back, and whose values.
fn range(call: &Call) -> Result<(Timeframe, Consolidation), ApiError> {
    let how = match call.params.text("cf") {
        Some("MAX") => Consolidation::Max,
        _ => Consolidation::Average,
    };
    Ok((parameter(call, "timeframe")?, how))
}

fn parameter<T: FromStr<Err: Display>>(call: &Call, name: &str) -> Result<T, ApiError> {
    let parsed = call.params.required(name).parse();
    parsed.map_err(|error: T::Err| ApiError::parameter(name, error.to_string()))
}
