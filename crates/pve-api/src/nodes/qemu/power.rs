//! `/nodes/{node}/qemu/{vmid}/status/…`: starting, stopping and what lies between.

use pve_access::AccessControl;
use pve_contract::id;
use pve_qemu::error::VmError;
use pve_qemu::{power, start, tasks};
use pve_rest::{ApiError, ApiResult, Call, Registry};
use pve_schema::ids::{Upid, VmId};
use pve_task::TaskList;
use pve_task::list::{Filter, Source};

use super::shared::{self, check_exists, check_root_only, first_asked, start_task, vmid};

/// The options of a start by which a migration's target takes a VM over; only the other node sends them.
const MIGRATION: [&str; 7] = [
    "stateuri",
    "migratedfrom",
    "migration_type",
    "migration_network",
    "targetstorage",
    "with-conntrack-state",
    "nets-host-mtu",
];
/// How many shutdowns of a VM a stop ends at most: far more than a VM can have at a time.
const MAX_SHUTDOWNS: u64 = 1000;

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::POST_NODES_NODE_QEMU_VMID_STATUS_START, |call| {
        Box::pin(shared::run(call, start_vm))
    });
    registry.bind(id::POST_NODES_NODE_QEMU_VMID_STATUS_STOP, |call| {
        Box::pin(shared::run(call, stop))
    });
    registry.bind(id::POST_NODES_NODE_QEMU_VMID_STATUS_SHUTDOWN, |call| {
        Box::pin(shared::run(call, shutdown))
    });
    registry.bind(id::POST_NODES_NODE_QEMU_VMID_STATUS_RESET, |call| {
        Box::pin(shared::run(call, reset))
    });
    registry.bind(id::POST_NODES_NODE_QEMU_VMID_STATUS_REBOOT, |call| {
        Box::pin(shared::run(call, reboot))
    });
    registry.bind(id::POST_NODES_NODE_QEMU_VMID_STATUS_SUSPEND, |call| {
        Box::pin(shared::run(call, suspend))
    });
    registry.bind(id::POST_NODES_NODE_QEMU_VMID_STATUS_RESUME, |call| {
        Box::pin(shared::run(call, resume))
    });
}

fn start_vm(call: &Call) -> ApiResult {
    let vmid = vmid(call)?;
    check_root_only(call, &["skiplock", "force-cpu"])?;
    check_root_only(call, &MIGRATION)?;
    if first_asked(call, &MIGRATION).is_some() {
        return Err(VmError::NotYet("starting a VM for a migration").into());
    }
    check_exists(call, vmid)?;
    let options = start::Options {
        skip_lock: call.params.is_set("skiplock"),
        timeout: seconds(call, "timeout"),
        machine: call.params.text("machine").map(str::to_owned),
        force_cpu: call.params.text("force-cpu").map(str::to_owned),
        paused: false,
    };
    start_task(call, "qmstart", vmid, &tasks::Start { vmid, options })
}

fn stop(call: &Call) -> ApiResult {
    let vmid = vmid(call)?;
    check_root_only(call, &["skiplock", "keepActive", "migratedfrom"])?;
    check_exists(call, vmid)?;
    let overrule = match call.params.is_set("overrule-shutdown") {
        true => running_shutdowns(call, vmid)?,
        false => Vec::new(),
    };
    let task = tasks::Stop {
        vmid,
        shutdown: false,
        timeout: seconds(call, "timeout"),
        force: true,
        skip_lock: call.params.is_set("skiplock"),
        keep_active: call.params.is_set("keepActive"),
        overrule,
        note: None,
    };
    start_task(call, "qmstop", vmid, &task)
}

/// The shutdowns of a VM that the caller may end: the own ones, or all with `Sys.Modify` on the node.
fn running_shutdowns(call: &Call, vmid: VmId) -> Result<Vec<Upid>, ApiError> {
    let filter = Filter {
        worker_type: Some("qmshutdown".to_owned()),
        id: Some(vmid.to_string()),
        ..Filter::default()
    };
    let who = call.auth_id();
    let access = AccessControl::load(&call.context)?;
    let any = access.has(&who, &format!("/nodes/{}", call.context.site.node), &["Sys.Modify"]);
    let mine = |upid: &Upid| any || upid.user == who.to_string();
    let found = TaskList::new(&call.context)
        .query(Source::Active, &filter, 0, MAX_SHUTDOWNS, &mine)
        .map_err(|error| ApiError::plain(format!("unable to list tasks - {error}")))?;
    let upids = found.entries.into_iter().map(|entry| entry.upid);
    Ok(upids.filter(pve_task::process::is_running).collect())
}

fn shutdown(call: &Call) -> ApiResult {
    let vmid = vmid(call)?;
    check_root_only(call, &["skiplock", "keepActive"])?;
    check_exists(call, vmid)?;
    let force = call.params.is_set("forceStop");
    let mut task = tasks::Stop::by_shutdown(&call.context, vmid, seconds(call, "timeout"), force)?;
    task.skip_lock = call.params.is_set("skiplock");
    task.keep_active = call.params.is_set("keepActive");
    start_task(call, "qmshutdown", vmid, &task)
}

fn reset(call: &Call) -> ApiResult {
    let vmid = vmid(call)?;
    check_root_only(call, &["skiplock"])?;
    check_exists(call, vmid)?;
    power::check_running(&call.context, vmid)?;
    let skip_lock = call.params.is_set("skiplock");
    start_task(call, "qmreset", vmid, &tasks::Reset { vmid, skip_lock })
}

fn reboot(call: &Call) -> ApiResult {
    let vmid = vmid(call)?;
    check_exists(call, vmid)?;
    power::check_running(&call.context, vmid)?;
    if power::is_paused(&call.context, vmid) {
        return Err(VmError::Paused.into());
    }
    let timeout = seconds(call, "timeout");
    start_task(call, "qmreboot", vmid, &tasks::Reboot { vmid, timeout })
}

fn suspend(call: &Call) -> ApiResult {
    let vmid = vmid(call)?;
    check_root_only(call, &["skiplock"])?;
    check_exists(call, vmid)?;
    if call.params.is_set("todisk") {
        return Err(VmError::NotYet("suspending a VM to disk").into());
    }
    if call.params.has("statestorage") {
        return Err(ApiError::parameter(
            "statestorage",
            "missing property 'todisk' required by this property",
        ));
    }
    power::check_running(&call.context, vmid)?;
    let skip_lock = call.params.is_set("skiplock");
    start_task(call, "qmpause", vmid, &tasks::Pause { vmid, skip_lock })
}

fn resume(call: &Call) -> ApiResult {
    let vmid = vmid(call)?;
    check_root_only(call, &["skiplock", "nocheck"])?;
    check_exists(call, vmid)?;
    power::check_running(&call.context, vmid)?;
    let skip_lock = call.params.is_set("skiplock");
    start_task(call, "qmresume", vmid, &tasks::Resume { vmid, skip_lock })
}

/// A number of seconds; validation has seen to it that it is not negative.
fn seconds(call: &Call, name: &str) -> Option<u64> {
    call.params
        .integer(name)
        .and_then(|seconds| u64::try_from(seconds).ok())
}
