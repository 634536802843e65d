//! What it means to run a job (reference 05 §2.5).

use pve_access::AccessControl;
use pve_backup::vzdump::{self, Answer};
use pve_daemon::BoxError;
use pve_jobs::jobs_cfg::vzdump_params;
use pve_jobs::state::Started;
use pve_jobs::{Job, JobKind, realm_sync};
use pve_schema::Context;
use pve_schema::ids::AuthId;
use pve_schema::section_config::Section;

/// Runs a job: what came of it.
pub(crate) fn job(context: &Context, job: &Job, section: &Section) -> Started {
    match job.kind {
        JobKind::Vzdump => match backup(context, section) {
            Ok(Answer::Nothing) => Started::Done,
            Ok(Answer::Started(upid)) => Started::Task(upid),
            Err(error) => Started::Failed(error.to_string()),
        },
        JobKind::RealmSync => realm_sync::job::run(context, job, section),
    }
}

/// Does what the method that starts a backup does, as `root@pam`.
fn backup(context: &Context, section: &Section) -> Result<Answer, BoxError> {
    let access = AccessControl::load(context)?;
    let request_id = format!("job-{}", section.id);
    let params = vzdump_params(section);
    Ok(vzdump::request(
        context,
        &access,
        &AuthId::root(),
        &request_id,
        &params,
    )?)
}
