//! `/nodes/{node}/replication` (reference 05 §17.3): what is configured, and how its last runs went.
//!
//! Not here: running a job.

use pve_access::AccessControl;
use pve_cfs::Cfs;
use pve_contract::id;
use pve_jobs::replication::{self, ReplicationJob, ReplicationState};
use pve_rest::{ApiError, ApiResult, Call, Registry, Reply, blocking};
use pve_task::log_file::Page;
use serde_json::{Value, json};

/// Lines of a log where no number is asked for.
const DEFAULT_LIMIT: u64 = 50;

/// Binds the handlers of this file.
pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_NODES_NODE_REPLICATION, |call| Box::pin(list(call)));
    registry.bind(id::GET_NODES_NODE_REPLICATION_ID, |_call| Box::pin(index()));
    registry.bind(id::GET_NODES_NODE_REPLICATION_ID_STATUS, |call| Box::pin(status(call)));
    registry.bind(id::GET_NODES_NODE_REPLICATION_ID_LOG, |call| Box::pin(log(call)));
}

async fn index() -> ApiResult {
    Ok(json!([{ "name": "schedule_now" }, { "name": "log" }, { "name": "status" }]).into())
}

/// `GET …/replication`: the jobs of this node's guests that the caller may see.
async fn list(call: Call) -> ApiResult {
    blocking(move || {
        let cfs = Cfs::new(&call.context);
        let (caller, access) = (call.auth_id(), AccessControl::load(&call.context)?);
        let state = ReplicationState::load(&call.context)?;
        let guests = cfs.guests()?;
        let wanted = call.params.integer("guest");
        let mut rows = Vec::new();
        for job in replication::jobs(&cfs)? {
            let vmid = i64::from(job.guest.get());
            if wanted.is_some_and(|wanted| wanted != vmid) {
                continue;
            }
            let local = |guest: &&pve_cfs::GuestEntry| guest.vmid == job.guest && guest.node == call.context.site.node;
            let Some(guest) = guests.iter().find(local) else {
                continue;
            };
            if access.has(&caller, &guest_path(&job), &["VM.Audit"]) {
                let mut row = job.row(&cfs, &state);
                row.insert("vmtype".to_owned(), guest.kind.as_str().into());
                rows.push(row);
            }
        }
        Ok::<_, ApiError>(Value::from_iter(rows).into())
    })
    .await
}

/// `GET …/{id}/status`
async fn status(call: Call) -> ApiResult {
    blocking(move || {
        let cfs = Cfs::new(&call.context);
        let job = job(&call, &cfs)?;
        AccessControl::load(&call.context)?.require_all(&call.auth_id(), &guest_path(&job), &["VM.Audit"])?;
        let mut row = job.row(&cfs, &ReplicationState::load(&call.context)?);
        if let Some(guest) = cfs.find_guest(job.guest)? {
            row.insert("vmtype".to_owned(), guest.kind.as_str().into());
        }
        Ok::<_, ApiError>(Value::from(row).into())
    })
    .await
}

/// `GET …/{id}/log`
async fn log(call: Call) -> ApiResult {
    blocking(move || {
        let job = job(&call, &Cfs::new(&call.context))?;
        let (caller, access) = (call.auth_id(), AccessControl::load(&call.context)?);
        let node = format!("/nodes/{}", call.context.site.node);
        if !access.has(&caller, &node, &["Sys.Audit"]) {
            access.require_all(&caller, &guest_path(&job), &["VM.Audit"])?;
        }
        let number = |name: &str| call.params.integer(name).and_then(|number| u64::try_from(number).ok());
        let (start, limit) = (number("start").unwrap_or(0), number("limit").unwrap_or(DEFAULT_LIMIT));
        let page = Page::read(&job.log_path(&call.context), start, limit);
        let lines = page.lines.into_iter().map(|(n, text)| json!({ "n": n, "t": text }));
        Ok::<_, ApiError>(Reply::page(Value::from_iter(lines), page.total))
    })
    .await
}

/// The job that the call is about.
fn job(call: &Call, cfs: &Cfs) -> Result<ReplicationJob, ApiError> {
    let id = call.params.required("id");
    let found = replication::jobs(cfs)?.into_iter().find(|job| job.id == id);
    found.ok_or_else(|| ApiError::plain(format!("no such replication job '{id}'")))
}

fn guest_path(job: &ReplicationJob) -> String {
    format!("/vms/{}", job.guest)
}
