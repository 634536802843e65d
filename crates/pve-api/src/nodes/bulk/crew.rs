//! The tasks of single guests that run at the same time.

use std::time::Duration;

use pve_schema::ids::Upid;
use pve_task::{Launcher, Task, TaskError, TaskList, TaskRequest, Worker, process, status};

use super::plan::Guest;

/// How often running tasks are looked at.
const POLL: Duration = Duration::from_millis(100);

/// The tasks of single guests that run at the same time.
#[derive(Debug)]
pub(super) struct Crew {
    /// What a failure is called: `Starting`.
    verb: &'static str,
    limit: usize,
    running: Vec<(Guest, Upid)>,
}

impl Crew {
    /// None yet, `limit` at most.
    pub(super) fn new(verb: &'static str, limit: usize) -> Self {
        Self {
            verb,
            limit,
            running: Vec::new(),
        }
    }

    /// Waits until there is room for one more.
    ///
    /// # Errors
    /// Somebody stops the task; those of the guests go on.
    pub(super) fn wait_for_room(&mut self, worker: &mut Worker) -> Result<(), TaskError> {
        self.wait_until(worker, self.limit.saturating_sub(1))
    }

    /// Waits until all have ended.
    ///
    /// # Errors
    /// As [`Crew::wait_for_room`].
    pub(super) fn wait_for_all(&mut self, worker: &mut Worker) -> Result<(), TaskError> {
        self.wait_until(worker, 0)
    }

    fn wait_until(&mut self, worker: &mut Worker, left: usize) -> Result<(), TaskError> {
        loop {
            self.settle(worker);
            if self.running.len() <= left {
                return Ok(());
            }
            worker.sleep(POLL)?;
        }
    }

    /// Tells of those that have ended badly, and forgets all that have ended.
    fn settle(&mut self, worker: &mut Worker) {
        let (running, ended): (Vec<_>, Vec<_>) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|(_, upid)| process::is_running(upid));
        self.running = running;
        for (guest, upid) in ended {
            let status = status::of_log(&TaskList::new(&worker.context).log_path(&upid));
            if status::is_error(&status) {
                self.tell_failure(worker, guest, &status);
            }
        }
    }

    /// Starts the task of a guest, as the one who asked for all: whether it runs.
    pub(super) fn start<T: Task>(&mut self, worker: &mut Worker, guest: Guest, worker_type: &str, task: &T) -> bool {
        let request = TaskRequest {
            worker_type: worker_type.to_owned(),
            id: guest.vmid.to_string(),
            caller: worker.caller.clone(),
            request_id: worker.request_id.clone(),
        };
        match Launcher::start(&worker.context, request, task) {
            Ok(upid) => {
                self.running.push((guest, upid));
                true
            }
            Err(error) => {
                self.tell_failure(worker, guest, &error.to_string());
                false
            }
        }
    }

    /// Tells that something could not be done to a guest. The others are not held up by it.
    pub(super) fn tell_failure(&self, worker: &mut Worker, guest: Guest, reason: &str) {
        worker.log(format!("{} {guest} failed: {reason}", self.verb));
    }
}
