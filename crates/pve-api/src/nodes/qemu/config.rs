//! `/nodes/{node}/qemu/{vmid}/config`, `/pending` and `/unlink` (reference 06a §4).

use std::time::Duration;

use pve_access::AccessControl;
use pve_cfs::{Cfs, Priority, service_name};
use pve_contract::id;
use pve_qemu::config::json;
use pve_qemu::journal::SystemLog;
use pve_qemu::update::Change;
use pve_qemu::{files, reconfigure, tasks};
use pve_rest::{ApiError, ApiResult, Call, Registry, Reply};
use pve_schema::ids::VmId;
use pve_task::status;
use serde_json::json;

use super::shared::{self, vmid};
use crate::nodes::guest::Wanted;
use crate::task;

/// Longest wait that a call may ask for, in seconds (the contract's own limit).
const MAX_DELAY: u64 = 30;

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_NODES_NODE_QEMU_VMID_CONFIG, |call| {
        Box::pin(shared::run(call, read))
    });
    registry.bind(id::PUT_NODES_NODE_QEMU_VMID_CONFIG, |call| {
        Box::pin(shared::run(call, change_now))
    });
    registry.bind(id::POST_NODES_NODE_QEMU_VMID_CONFIG, |call| {
        Box::pin(shared::run(call, change_by_task))
    });
    registry.bind(id::PUT_NODES_NODE_QEMU_VMID_UNLINK, |call| {
        Box::pin(shared::run(call, unlink))
    });
    registry.bind(id::GET_NODES_NODE_QEMU_VMID_PENDING, |call| {
        Box::pin(shared::run(call, pending))
    });
}

fn read(call: &Call) -> ApiResult {
    let config = files::load(&call.context, vmid(call)?)?;
    let shown = match Wanted::of(call)? {
        Wanted::Effective => json::effective(&config),
        Wanted::Current => json::current(&config),
        Wanted::Snapshot(name) => json::snapshot(&config, name)?,
    };
    Ok(shown.into())
}

fn pending(call: &Call) -> ApiResult {
    Ok(json::pending(&files::load(&call.context, vmid(call)?)?).into())
}

/// The change that the call asks for, checked.
fn checked(call: &Call, vmid: VmId) -> Result<Change, ApiError> {
    let access = AccessControl::load(&call.context)?;
    let change = reconfigure::check(&call.context, vmid, &call.params, &access, &call.auth_id())?;
    Ok(change)
}

fn change_now(call: &Call) -> ApiResult {
    let vmid = vmid(call)?;
    let change = checked(call, vmid)?;
    tell_cluster(call, vmid, &change);
    reconfigure::carry_out(&call.context, vmid, &change, &mut SystemLog)?;
    Ok(Reply::null())
}

/// Answers the task's UPID; with `background_delay` nothing or the failure, if the task ends in time.
fn change_by_task(call: &Call) -> ApiResult {
    let vmid = vmid(call)?;
    let change = checked(call, vmid)?;
    tell_cluster(call, vmid, &change);
    let upid = task::start(call, "qmconfig", vmid.to_string(), &tasks::Configure { vmid, change })?;
    let delay = call.params.integer("background_delay");
    let delay = delay.and_then(|delay| u64::try_from(delay).ok());
    let limit = delay.map(|delay| Duration::from_secs(delay.min(MAX_DELAY)));
    match limit.and_then(|limit| task::status_within(call, &upid, limit)) {
        Some(status) if status::is_error(&status) => {
            Err(ApiError::plain(format!("failed to update VM {vmid}: {status}")))
        }
        Some(_) => Ok(Reply::null()),
        None => Ok(json!(upid.to_string()).into()),
    }
}

fn unlink(call: &Call) -> ApiResult {
    let vmid = vmid(call)?;
    let access = AccessControl::load(&call.context)?;
    let (keys, force) = (call.params.required("idlist"), call.params.is_set("force"));
    let change = reconfigure::check_unlink(&call.context, vmid, keys, force, &access, &call.auth_id())?;
    tell_cluster(call, vmid, &change);
    reconfigure::carry_out(&call.context, vmid, &change, &mut SystemLog)?;
    Ok(Reply::null())
}

fn tell_cluster(call: &Call, vmid: VmId, change: &Change) {
    let text = format!("update VM {vmid}: {}", change.summary());
    let log = Cfs::new(&call.context).cluster_log();
    log.log(Priority::Info, &service_name(), &call.auth_id().to_string(), &text);
}
