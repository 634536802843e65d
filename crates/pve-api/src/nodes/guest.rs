//! What the handlers of both guest types share.

use pve_rest::{ApiError, ApiResult, Call, Reply, blocking};
use pve_schema::ParamErrors;
use pve_schema::ids::VmId;
use serde_json::{Value, json};

/// The guest that the call is about.
pub(super) fn vmid(call: &Call) -> Result<VmId, ApiError> {
    let parsed: Result<Option<VmId>, _> = call.params.parse("vmid");
    match parsed {
        Ok(Some(vmid)) => Ok(vmid),
        Ok(None) => Err(ApiError::parameter(
            "vmid",
            "property is missing and it is not optional",
        )),
        Err(error) => Err(ApiError::parameter("vmid", error.to_string())),
    }
}

/// Runs a handler that blocks.
pub(super) async fn run(call: Call, handler: fn(&Call) -> ApiResult) -> ApiResult {
    blocking(move || handler(&call)).await
}

/// The rows of an index method.
pub(super) fn index(names: &[&str]) -> Reply {
    let rows: Vec<Value> = names.iter().map(|name| json!({ "subdir": name })).collect();
    Value::Array(rows).into()
}

/// Which of its configs a guest is asked for.
pub(super) enum Wanted<'a> {
    /// With all that is pending merged in.
    Effective,
    /// What it runs with.
    Current,
    /// What a snapshot keeps.
    Snapshot(&'a str),
}

impl<'a> Wanted<'a> {
    /// What the call asks for.
    pub(super) fn of(call: &'a Call) -> Result<Self, ApiError> {
        match (call.params.text("snapshot"), call.params.is_set("current")) {
            (Some(_), true) => {
                let text = "cannot use 'snapshot' parameter with 'current'".to_owned();
                let errors = ["snapshot", "current"].map(|name| (name.to_owned(), text.clone()));
                Err(ApiError::parameters(ParamErrors::from(errors)))
            }
            (Some(snapshot), false) => Ok(Self::Snapshot(snapshot)),
            (None, true) => Ok(Self::Current),
            (None, false) => Ok(Self::Effective),
        }
    }
}
