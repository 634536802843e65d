//! `POST /nodes/{node}/startall` and `…/stopall`: many guests of this node at once, in their order (reference 06b §15,
//! 09 §11). The boot of the machine calls the one, its shutdown the other.
//!
//! | module | holds |
//! |---|---|
//! | `plan` | which guests, and in which order |
//! | `crew` | the tasks of single guests that run at the same time |
//! | `tasks` | the two as tasks |
//!
//! Not here yet: `suspendall`, which writes memory to disks, and `migrateall`.

mod crew;
mod plan;
mod tasks;

use pve_access::AccessControl;
use pve_cfs::{Cfs, Datacenter};
use pve_contract::id;
use pve_node::status::CpuInfo;
use pve_rest::{ApiError, ApiResult, Call, Registry, blocking};
use pve_schema::ids::VmId;
use pve_schema::list;
use pve_task::{Kinds, Task};
use serde_json::json;

use crate::task;

/// What is asked of a caller, on `/` or on each guest.
const PRIVILEGES: [&str; 1] = ["VM.PowerMgmt"];
/// How long guests have to shut down, in seconds, unless they or the caller say otherwise.
const SHUTDOWN: u32 = 180;
/// The most guests at the same time where nobody says how many (reference 06b §15).
const MAX_WORKERS: u64 = 8;

/// Binds the handlers of this folder.
pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::POST_NODES_NODE_STARTALL, |call| {
        Box::pin(blocking(move || start_all(&call)))
    });
    registry.bind(id::POST_NODES_NODE_STOPALL, |call| {
        Box::pin(blocking(move || stop_all(&call)))
    });
}

/// Adds the kinds of task that are defined here.
pub(super) fn register_tasks(kinds: &mut Kinds) {
    kinds.register::<tasks::StartAll>().register::<tasks::StopAll>();
}

fn start_all(call: &Call) -> ApiResult {
    let vms = guests(call)?;
    let task = tasks::StartAll {
        vms,
        force: call.params.is_set("force"),
        workers: workers(call)?,
    };
    start(call, "startall", &task)
}

fn stop_all(call: &Call) -> ApiResult {
    let vms = guests(call)?;
    let timeout = call.params.integer("timeout").and_then(|n| u32::try_from(n).ok());
    let task = tasks::StopAll {
        vms,
        force_stop: call.params.flag("force-stop").unwrap_or(true),
        timeout: timeout.unwrap_or(SHUTDOWN),
        workers: workers(call)?,
    };
    start(call, "stopall", &task)
}

fn start<T: Task>(call: &Call, worker_type: &str, order: &T) -> ApiResult {
    let upid = task::start(call, worker_type, String::new(), order)?;
    Ok(json!(upid.to_string()).into())
}

/// The guests that the caller names; `None` for all of the node. Refused unless the caller may do it to all guests of
/// the cluster, or to each that is named.
fn guests(call: &Call) -> Result<Option<Vec<VmId>>, ApiError> {
    let who = call.auth_id();
    let access = AccessControl::load(&call.context)?;
    let named = call.params.text("vms").map(|vms| list::split(vms).into_iter());
    let vms: Option<Vec<VmId>> = match named {
        None => None,
        Some(named) => Some(
            named
                .filter(|text| !text.is_empty())
                .map(str::parse)
                .collect::<Result<_, _>>()
                .map_err(|error| ApiError::parameter("vms", format!("{error}")))?,
        ),
    };
    if access.has(&who, "/", &PRIVILEGES) {
        return Ok(vms);
    }
    match vms.as_deref() {
        // Naming nobody shows no right.
        None | Some([]) => access.require_all(&who, "/", &PRIVILEGES)?,
        Some(vms) => {
            for vmid in vms {
                access.require_all(&who, &format!("/vms/{vmid}"), &PRIVILEGES)?;
            }
        }
    }
    Ok(vms)
}

/// How many guests at the same time: what the caller says, or the datacenter, or what the machine has CPUs for.
fn workers(call: &Call) -> Result<usize, ApiError> {
    let options = Datacenter::read(&Cfs::new(&call.context))?;
    let told = call.params.integer("max-workers").and_then(|n| u64::try_from(n).ok());
    let configured = || options.text("max_workers").and_then(|text| text.parse().ok());
    let workers = told.or_else(configured).unwrap_or_else(default_workers);
    Ok(usize::try_from(workers).unwrap_or(1).max(1))
}

/// All CPUs but one, which is left for what else there is to do.
fn default_workers() -> u64 {
    let cpus = CpuInfo::of_machine().cpus;
    cpus.saturating_sub(1).clamp(1, MAX_WORKERS)
}
