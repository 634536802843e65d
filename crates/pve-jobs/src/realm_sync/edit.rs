//! Making, changing and removing jobs that synchronise a realm (reference 02 §13.3, 05 §3).

use pve_access::AccessError;
use pve_access::domains::{Domains, RealmKind};
use pve_cfs::Cfs;
use pve_schema::Context;
use pve_schema::section_config::Value;

use super::{RealmSyncError, cluster};
use crate::edit::{Change, edit, store};
use crate::jobs_cfg::{JobKind, format};
use crate::state::StateStore;

const KIND: JobKind = JobKind::RealmSync;

/// Makes a job from what a client sent.
///
/// # Errors
/// [`RealmSyncError::Exists`], a realm that is none or no directory's (400), an option that is missing, and what keeps
/// the file from being written.
pub fn create(context: &Context, id: &str, options: Vec<(String, Value)>) -> Result<(), RealmSyncError> {
    edit(context, |cfs, jobs| {
        if jobs.file.is_taken(id) {
            return Err(RealmSyncError::Exists(id.to_owned()));
        }
        let mut section = format().create(KIND.as_str(), id, options)?;
        check_realm(cfs, section.text("realm").unwrap_or_default())?;
        if section.get("enabled").is_none() {
            section.set("enabled", true);
        }
        // What a job of that name left behind is not this one's last run.
        cluster::remove(cfs, id)?;
        Ok(store(context, cfs, jobs, section, StateStore::create)?)
    })
}

fn check_realm(cfs: &Cfs, name: &str) -> Result<(), AccessError> {
    let refuse = |text: String| Err(AccessError::parameter("realm", text));
    match Domains::load(cfs)?.get(name).map(|realm| realm.kind) {
        Some(RealmKind::Ldap | RealmKind::Ad) => Ok(()),
        Some(_) => refuse("Only LDAP/AD realms can be synced.".to_owned()),
        None => refuse(format!("No such realm '{name}'")),
    }
}

/// Changes a job.
///
/// # Errors
/// [`RealmSyncError::NoOptions`], [`RealmSyncError::NoSuchJob`], an option that cannot be set or taken out, and what keeps
/// the file from being written.
pub fn update(context: &Context, id: &str, change: Change) -> Result<(), RealmSyncError> {
    if change.set.is_empty() && change.delete.is_empty() {
        return Err(RealmSyncError::NoOptions);
    }
    edit(context, |cfs, jobs| {
        let mut section = jobs.get(KIND, id).cloned().ok_or(RealmSyncError::NoSuchJob)?;
        let delete: Vec<&str> = change.delete.iter().map(String::as_str).collect();
        format().update(&mut section, change.set, &delete)?;
        Ok(store(context, cfs, jobs, section, StateStore::observe)?)
    })
}

/// Removes a job, with what the cluster and this node remember of it.
///
/// # Errors
/// There is none of that name (400), and what keeps the file from being written.
pub fn remove(context: &Context, id: &str) -> Result<(), RealmSyncError> {
    edit(context, |cfs, jobs| {
        if jobs.get(KIND, id).is_none() {
            return Err(no_such_job(id).into());
        }
        jobs.file.remove(id);
        jobs.write(cfs)?;
        cluster::remove(cfs, id)?;
        Ok(StateStore::new(context).remove(KIND, id)?)
    })
}

/// There is no job of that name (400).
pub fn no_such_job(id: &str) -> AccessError {
    AccessError::parameter("id", format!("No such job '{id}'"))
}
