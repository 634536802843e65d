//! Tasks that handlers start, and waiting for their ends.

use std::time::{Duration, Instant};

use pve_rest::{ApiError, Call};
use pve_schema::ids::Upid;
use pve_task::{Launcher, Task, TaskList, TaskRequest, process, status};

/// How often a task is looked at that somebody waits for.
const POLL: Duration = Duration::from_millis(50);

/// Starts a task on behalf of a call.
pub(crate) fn start<T: Task>(call: &Call, worker_type: &str, id: String, task: &T) -> Result<Upid, ApiError> {
    let request = TaskRequest {
        worker_type: worker_type.to_owned(),
        id,
        caller: call.auth_id(),
        request_id: call.request_id.to_string(),
    };
    Ok(Launcher::start(&call.context, request, task)?)
}

/// How a task ended, if it did so in time: some callers may ask for a short wait instead of a UPID.
pub(crate) fn status_within(call: &Call, upid: &Upid, limit: Duration) -> Option<String> {
    let started = Instant::now();
    while process::is_running(upid) {
        if started.elapsed() >= limit {
            return None;
        }
        std::thread::sleep(POLL);
    }
    Some(status::of_log(&TaskList::new(&call.context).log_path(upid)))
}
