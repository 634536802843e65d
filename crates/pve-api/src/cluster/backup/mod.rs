//! `/cluster/backup`: backup jobs (reference 05 §4).
//!
//! | module | holds |
//! |---|---|
//! | here | listing, making, changing and removing jobs |
//! | [`row`] | a job as the API shows it |
//! | [`rights`] | who may set what |
//! | [`included`] | the volumes that a job backs up |
//! | [`info`] | `/cluster/backup-info` |
//!
//! Jobs of the file that cron once read, `vzdump.cron`, count as none; the file stays as it is.

mod included;
mod info;
mod rights;
pub(super) mod row;

use jiff::tz::TimeZone;
use pve_access::AccessControl;
use pve_backup::selection::{Choice, Selection};
use pve_backup::vzdump::request::select;
use pve_cfs::Cfs;
use pve_contract::id;
use pve_jobs::calendar::next_event;
use pve_jobs::edit::{self, Change};
use pve_jobs::vzdump_job::{required_schedule, schedule};
use pve_jobs::{Job, JobKind, JobsCfg};
use pve_rest::{ApiError, ApiResult, Call, Registry, Reply, blocking};
use pve_schema::list;
use pve_schema::section_config::Section;
use serde_json::Value;

/// Parameters that are no options of a job, or that become another one.
const NO_OPTIONS: [&str; 4] = ["id", "delete", "starttime", "dow"];

/// Binds the handlers below this folder.
pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_CLUSTER_BACKUP, |call| Box::pin(run(call, list_jobs)));
    registry.bind(id::POST_CLUSTER_BACKUP, |call| Box::pin(run(call, create)));
    registry.bind(id::GET_CLUSTER_BACKUP_ID, |call| Box::pin(run(call, read)));
    registry.bind(id::PUT_CLUSTER_BACKUP_ID, |call| Box::pin(run(call, update)));
    registry.bind(id::DELETE_CLUSTER_BACKUP_ID, |call| Box::pin(run(call, delete)));
    registry.bind(id::GET_CLUSTER_BACKUP_ID_INCLUDED_VOLUMES, |call| {
        Box::pin(run(call, included::tree))
    });
    info::register(registry);
}

async fn run(call: Call, handler: fn(&Call) -> ApiResult) -> ApiResult {
    blocking(move || handler(&call)).await
}

/// `GET /cluster/backup`
fn list_jobs(call: &Call) -> ApiResult {
    let jobs = JobsCfg::read(&Cfs::new(&call.context))?;
    let zone = TimeZone::system();
    let now = call.context.now();
    let rows = jobs.sections(JobKind::Vzdump).map(|section| {
        let mut row = row::of(section);
        let next = Job::of(section).and_then(|job| next_event(&job.schedule, &zone, now));
        if let Some(next) = next {
            row.insert("next-run".to_owned(), next.into());
        }
        Value::from(row)
    });
    Ok(Value::from_iter(rows).into())
}

/// `GET /cluster/backup/{id}`
fn read(call: &Call) -> ApiResult {
    Ok(Value::from(row::of(&job(call)?)).into())
}

/// The job that a call is about.
fn job(call: &Call) -> Result<Section, ApiError> {
    let id = call.params.required("id");
    let jobs = JobsCfg::read(&Cfs::new(&call.context))?;
    let section = jobs.get(JobKind::Vzdump, id).cloned();
    section.ok_or_else(|| ApiError::parameter("id", format!("No such job '{id}'")))
}

/// `POST /cluster/backup`
fn create(call: &Call) -> ApiResult {
    let params = &call.params;
    let schedule = required_schedule(params.text("schedule"), params.text("starttime"), params.text("dow"))?;
    let change = sent(call, Some(schedule));
    rights::check_create(call, &AccessControl::load(&call.context)?)?;
    let fresh = || uuid::Uuid::new_v4().to_string();
    let id = params.text("id").map_or_else(fresh, str::to_owned);
    edit::create(&call.context, &id, change.set)?;
    Ok(Reply::null())
}

/// `PUT /cluster/backup/{id}`
fn update(call: &Call) -> ApiResult {
    let params = &call.params;
    let schedule = schedule(params.text("schedule"), params.text("starttime"), params.text("dow"))?;
    let change = sent(call, schedule);
    let access = AccessControl::load(&call.context)?;
    rights::check_change(call, &access)?;
    let guard = |job: &Section| rights::check_changed(call, &access, job);
    edit::update(&call.context, params.required("id"), change, guard)?;
    Ok::<_, ApiError>(Reply::null())
}

/// `DELETE /cluster/backup/{id}`
fn delete(call: &Call) -> ApiResult {
    edit::remove(&call.context, call.params.required("id"))?;
    Ok(Reply::null())
}

/// The guests that a job selects, enabled or not.
fn selection(call: &Call, access: &AccessControl, job: &Section) -> Result<Selection, ApiError> {
    let choice = Choice::read(|option| job.text(option))?;
    Ok(select(&call.context, access, &choice)?)
}

/// What a client sent about a job.
fn sent(call: &Call, schedule: Option<String>) -> Change {
    let is_option = |name: &str| !NO_OPTIONS.contains(&name) && name != "schedule";
    let options = call.params.iter().filter(|(name, _)| is_option(name));
    let options = options.map(|(name, value)| (name.to_owned(), value.into()));
    let schedule = schedule.map(|schedule| ("schedule".to_owned(), schedule.into()));
    Change {
        set: options.chain(schedule).collect(),
        delete: list::split(call.params.text("delete").unwrap_or_default())
            .into_iter()
            .map(str::to_owned)
            .collect(),
    }
}
