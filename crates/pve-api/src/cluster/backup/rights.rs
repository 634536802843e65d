//! Who may have which job (reference 05 §4.2). The options have the rules of the method that starts a backup.

use pve_access::AccessControl;
use pve_backup::vzdump::options::check_notes_template;
use pve_backup::vzdump::rights::{check_job_storage, check_options};
use pve_rest::{ApiError, Call};
use pve_schema::list;
use pve_schema::section_config::Section;

/// Checks a new job.
pub(super) fn check_create(call: &Call, access: &AccessControl) -> Result<(), ApiError> {
    check_change(call, access)?;
    Ok(check_job_storage(access, &call.auth_id(), call.params.text("storage"))?)
}

/// Checks what a client wants to set and to take out, whatever the job is.
pub(super) fn check_change(call: &Call, access: &AccessControl) -> Result<(), ApiError> {
    check_options(access, &call.auth_id(), &call.params, &deleted(call))?;
    call.params
        .text("notes-template")
        .map_or(Ok(()), check_notes_template)?;
    Ok(())
}

/// Checks the job that is to be changed, once it is known: where its backups go now, and where they will go.
pub(super) fn check_changed(call: &Call, access: &AccessControl, job: &Section) -> Result<(), ApiError> {
    let caller = call.auth_id();
    if job.get("dumpdir").is_some() && !call.is_root() {
        return Err(ApiError::plain("only root@pam may edit jobs with a 'dumpdir' option."));
    }
    if let Some(new) = call.params.text("storage") {
        check_job_storage(access, &caller, Some(new))?;
    }
    if deleted(call).contains(&"storage") {
        check_job_storage(access, &caller, None)?;
    }
    if let Some(current) = job.text("storage") {
        check_job_storage(access, &caller, Some(current))?;
    }
    Ok(())
}

/// The options that are to be taken out.
fn deleted(call: &Call) -> Vec<&str> {
    list::split(call.params.text("delete").unwrap_or_default())
}
