//! `/cluster/jobs/realm-sync`: jobs that bring realms in line with their directories (reference 02 §13.3, 05 §3).

use jiff::tz::TimeZone;
use pve_cfs::Cfs;
use pve_contract::id;
use pve_jobs::calendar::next_event;
use pve_jobs::edit::Change;
use pve_jobs::realm_sync::{cluster, edit};
use pve_jobs::{Job, JobKind, JobsCfg};
use pve_rest::{ApiError, ApiResult, Call, Registry, Reply, blocking};
use pve_schema::list;
use serde_json::Value;

use super::super::backup::row;
use crate::access::audit;

/// Binds the handlers below this folder.
pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_CLUSTER_JOBS_REALM_SYNC, |call| Box::pin(list_jobs(call)));
    registry.bind(id::GET_CLUSTER_JOBS_REALM_SYNC_ID, |call| Box::pin(read(call)));
    registry.bind(id::POST_CLUSTER_JOBS_REALM_SYNC_ID, |call| {
        Box::pin(audit::change(call, create))
    });
    registry.bind(id::PUT_CLUSTER_JOBS_REALM_SYNC_ID, |call| {
        Box::pin(audit::change(call, update))
    });
    registry.bind(id::DELETE_CLUSTER_JOBS_REALM_SYNC_ID, |call| {
        Box::pin(audit::change(call, delete))
    });
}

/// `GET /cluster/jobs/realm-sync`
async fn list_jobs(call: Call) -> ApiResult {
    blocking(move || {
        let cfs = Cfs::new(&call.context);
        let zone = TimeZone::system();
        let now = call.context.now();
        let mut rows = Vec::new();
        for section in JobsCfg::read(&cfs)?.sections(JobKind::RealmSync) {
            let mut row = row::of(section);
            if let Some(last) = cluster::load(&cfs, &section.id)?.last_run() {
                row.insert("last-run".to_owned(), last.into());
            }
            let next = Job::of(section).and_then(|job| next_event(&job.schedule, &zone, now));
            if let Some(next) = next {
                row.insert("next-run".to_owned(), next.into());
            }
            rows.push(Value::from(row));
        }
        Ok::<_, ApiError>(Value::from(rows).into())
    })
    .await
}

/// `GET /cluster/jobs/realm-sync/{id}`
async fn read(call: Call) -> ApiResult {
    blocking(move || {
        let id = call.params.required("id");
        let jobs = JobsCfg::read(&Cfs::new(&call.context))?;
        let section = jobs.get(JobKind::RealmSync, id);
        let section = section.ok_or_else(|| edit::no_such_job(id))?;
        Ok::<_, ApiError>(Value::from(row::of(section)).into())
    })
    .await
}

/// `POST /cluster/jobs/realm-sync/{id}`
fn create(call: &Call) -> ApiResult {
    edit::create(&call.context, call.params.required("id"), sent(call).set)?;
    Ok(Reply::null())
}

/// `PUT /cluster/jobs/realm-sync/{id}`
fn update(call: &Call) -> ApiResult {
    edit::update(&call.context, call.params.required("id"), sent(call))?;
    Ok(Reply::null())
}

/// `DELETE /cluster/jobs/realm-sync/{id}`
fn delete(call: &Call) -> ApiResult {
    edit::remove(&call.context, call.params.required("id"))?;
    Ok(Reply::null())
}

/// What a client sent about a job.
fn sent(call: &Call) -> Change {
    let options = call.params.iter().filter(|(name, _)| !["id", "delete"].contains(name));
    Change {
        set: options.map(|(name, value)| (name.to_owned(), value.into())).collect(),
        delete: list::split(call.params.text("delete").unwrap_or_default())
            .into_iter()
            .map(str::to_owned)
            .collect(),
    }
}
