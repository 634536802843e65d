//! Starting a task from a daemon, and learning of its end.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::process::ExitStatus;
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::time::Duration;

use pve_cfs::{Cfs, Priority, service_name};
use pve_schema::ids::{AuthId, Upid};
use pve_schema::{Context, Failure, errno_text};

use crate::order::{FAILURE, Order, RELEASE, VERSION};
use crate::spawn::{Running, Spawned, exit_text};
use crate::status::{Class, is_error};
use crate::{Task, TaskList, counters};

/// How long a task process may take to report its UPID: it only reads the order and makes its log.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Longest report.
const MAX_REPORT: u64 = 64 * 1024;

/// Who wants what kind of work done on what.
#[derive(Debug, Clone)]
pub struct TaskRequest {
    /// The type in the UPID: `qmstart`. Empty: `unknown`.
    pub worker_type: String,
    /// What the work is done on, often a VMID; may be empty.
    pub id: String,
    /// Who asks, a token included.
    pub caller: AuthId,
    /// The request it came from.
    pub request_id: String,
}

impl TaskRequest {
    pub(crate) fn upid(&self, context: &Context, pid: u32, pstart: u64) -> Result<Upid, StartError> {
        let upid = Upid {
            node: context.site.node.clone(),
            pid,
            pstart,
            starttime: u32::try_from(context.now()).unwrap_or(0),
            worker_type: if self.worker_type.is_empty() {
                "unknown".to_owned()
            } else {
                self.worker_type.clone()
            },
            id: self.id.clone(),
            user: self.caller.to_string(),
        };
        let text = upid.to_string();
        text.parse::<Upid>().map_err(|_| StartError::InvalidUpid(text))
    }
}

/// Why a task did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Type, subject or user hold characters that a UPID cannot.
    #[error("unable to parse worker upid '{0}'")]
    InvalidUpid(String),
    /// The task cannot be written down.
    #[error("unable to write the order: {0}")]
    Order(String),
    /// The process could not be started.
    #[error("unable to fork worker - {0}")]
    Fork(String),
    /// The process did not report.
    #[error("got no worker upid - start worker failed")]
    NoUpid,
    /// The process reported a failure.
    #[error("starting worker failed: {0}")]
    Failed(String),
}

impl Failure for StartError {}

/// Starts tasks.
#[derive(Debug)]
pub struct Launcher;

impl Launcher {
    /// Starts a task and returns its UPID once it runs. A thread of the caller's process waits for its end and logs it.
    ///
    /// # Errors
    /// [`StartError`]; the process, if there was one, is killed then.
    pub fn start<T: Task>(context: &Context, request: TaskRequest, task: &T) -> Result<Upid, StartError> {
        // A request that makes no UPID fails here rather than in a process.
        request.upid(context, 0, 0)?;
        let order = Order {
            version: VERSION,
            site: (*context.site).clone(),
            worker_type: request.worker_type,
            id: request.id,
            caller: request.caller,
            request_id: request.request_id,
            kind: T::KIND.to_owned(),
            payload: serde_json::to_value(task).map_err(|error| StartError::Order(error.to_string()))?,
        };
        let caller = order.caller.to_string();
        let line = line(&order)?;
        let what = format!("Proxmox VE task {} {} of {caller}", order.worker_type, order.id);
        let Spawned {
            mut running,
            order: stdin,
            report: stdout,
        } = Spawned::new(&context.site, &what).map_err(|error| StartError::Fork(errno_text(&error)))?;
        match hand_over(&mut running, stdin, stdout, line) {
            Ok(upid) => {
                counters::started();
                announce(context, &caller, &upid);
                watch(context.clone(), caller, upid.clone(), running);
                Ok(upid)
            }
            Err(error) => {
                running.kill(&context.site);
                Err(error)
            }
        }
    }
}

fn line(order: &Order) -> Result<Vec<u8>, StartError> {
    let mut line = serde_json::to_vec(order).map_err(|error| StartError::Order(error.to_string()))?;
    line.push(b'\n');
    Ok(line)
}

/// Gives the order, waits for the UPID, and releases the task.
fn hand_over(running: &mut Running, stdin: PipeWriter, stdout: PipeReader, order: Vec<u8>) -> Result<Upid, StartError> {
    let (mut stdin, report) = exchange(stdin, stdout, order)?;
    if let Some(text) = report.strip_prefix(FAILURE) {
        return Err(StartError::Failed(text.to_owned()));
    }
    let upid: Upid = report.parse().map_err(|_| StartError::NoUpid)?;
    if !running.is(&upid) {
        return Err(StartError::NoUpid);
    }
    writeln!(stdin, "{RELEASE}").map_err(|_| StartError::NoUpid)?;
    Ok(upid)
}

/// Writes the order and reads one line, with a deadline: pipes have none, so a thread does it. One that is late ends
/// when the process is killed.
fn exchange(mut stdin: PipeWriter, stdout: PipeReader, order: Vec<u8>) -> Result<(PipeWriter, String), StartError> {
    let (answer, answered) = mpsc::channel();
    let spawned = std::thread::Builder::new()
        .name("task-start".to_owned())
        .spawn(move || {
            let mut report = String::new();
            let result = stdin
                .write_all(&order)
                .and_then(|()| stdin.flush())
                .and_then(|()| BufReader::new(stdout.take(MAX_REPORT)).read_line(&mut report));
            let _ = answer.send(result.map(|_| (stdin, report)));
        });
    spawned.map_err(|error| StartError::Fork(errno_text(&error)))?;
    match answered.recv_timeout(HANDSHAKE) {
        Ok(Ok((stdin, report))) => Ok((stdin, report.trim_end_matches('\n').to_owned())),
        Ok(Err(_)) | Err(_) => Err(StartError::NoUpid),
    }
}

fn announce(context: &Context, caller: &str, upid: &Upid) {
    let log = Cfs::new(context).cluster_log();
    log.log(
        Priority::Info,
        &service_name(),
        caller,
        &format!("starting task {upid}"),
    );
    if let Err(error) = TaskList::new(context).refresh(Some(upid)) {
        // The task runs: the next update of the list finds it by its process.
        log::warn!("{error}");
    }
}

/// How many tasks of this process have an end that is still to be logged.
static WATCHED: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// One of those, as long as it lives.
struct Watched;

impl Watched {
    fn new() -> Self {
        *WATCHED.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        *WATCHED.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        WATCHED.1.notify_all();
    }
}

/// Waits until the ends of all tasks that this process started are logged, `limit` at most: for a program that ends with
/// its task.
pub fn wait_for_ends(limit: Duration) {
    let watched = WATCHED.0.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = WATCHED.1.wait_timeout_while(watched, limit, |left| *left > 0);
    drop(waited);
}

/// Waits for the end of a task and logs it.
fn watch(context: Context, caller: String, upid: Upid, running: Running) {
    let name = format!("task-{}", upid.pid);
    let watched = Watched::new();
    let spawned = std::thread::Builder::new().name(name).spawn(move || {
        let _watched = watched;
        let ended = running.wait();
        let status = match TaskList::new(&context).refresh(None) {
            Ok(entries) => entries
                .into_iter()
                .find(|entry| entry.upid == upid)
                .and_then(|entry| entry.status),
            Err(error) => {
                log::warn!("{error}");
                None
            }
        };
        let status = status.unwrap_or_else(|| crate::status::of_log(&TaskList::new(&context).log_path(&upid)));
        // How somebody else's child exited is not told; its log tells as much.
        let well = ended.as_ref().map_or_else(|| !is_error(&status), ExitStatus::success);
        let status = if Class::of(&status) == Class::Unknown {
            ended.map_or(status, exit_text)
        } else {
            status
        };
        let priority = if well { Priority::Info } else { Priority::Error };
        Cfs::new(&context)
            .cluster_log()
            .log(priority, &service_name(), &caller, &format!("end task {upid} {status}"));
    });
    if let Err(error) = spawned {
        log::warn!("unable to watch a task - {}", errno_text(&error));
    }
}
