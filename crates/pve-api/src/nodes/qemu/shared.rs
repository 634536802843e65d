//! What the handlers of this folder share.

use pve_qemu::files;
use pve_rest::{ApiError, ApiResult, Call};
use pve_schema::ids::VmId;
use pve_task::Task;
use serde_json::json;

pub(super) use crate::nodes::guest::{index, run, vmid};
use crate::task;

/// Refuses parameters that only `root@pam` may set.
pub(super) fn check_root_only(call: &Call, names: &[&str]) -> Result<(), ApiError> {
    if call.is_root() {
        return Ok(());
    }
    match first_asked(call, names) {
        Some(name) => Err(ApiError::parameter(name, "Only root may use this option.")),
        None => Ok(()),
    }
}

/// The first of these options that is asked for. One that is sent as off asks for nothing.
pub(super) fn first_asked<'a>(call: &Call, names: &[&'a str]) -> Option<&'a str> {
    let asked = |name: &&str| call.params.text(name).is_some_and(|value| value != "0");
    names.iter().copied().find(asked)
}

/// Refuses a call about a VM that this node does not have.
pub(super) fn check_exists(call: &Call, vmid: VmId) -> Result<(), ApiError> {
    files::load(&call.context, vmid)?;
    Ok(())
}

/// Starts a task on a VM; the answer is its UPID.
pub(super) fn start_task<T: Task>(call: &Call, worker_type: &str, vmid: VmId, order: &T) -> ApiResult {
    let upid = task::start(call, worker_type, vmid.to_string(), order)?;
    Ok(json!(upid.to_string()).into())
}
