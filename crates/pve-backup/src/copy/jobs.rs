//! What QEMU is told: nodes, jobs, and their end.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, Instant};

use pve_qemu::config::DriveKey;
use pve_qemu::qmp::{Qmp, QmpError};
use pve_schema::Site;
use pve_schema::ids::VmId;
use serde_json::{Value, json};

use super::error::CopyError;
use super::{Limits, Volume};

/// What the names of all our jobs and nodes begin with.
const PREFIX: &str = "vzdump-";
/// How long QEMU may take for a step that waits for the guest's I/O in flight.
const STEP: Duration = Duration::from_secs(600);
/// How long cancelled jobs may take to end, a monitor that does not answer included.
const RELEASE: Duration = Duration::from_secs(600);
/// How often cancelled jobs are looked at.
const POLL: Duration = Duration::from_millis(20);

/// The name of a disk's job, and of the node that the job writes to.
pub(super) fn job_name(key: DriveKey) -> String {
    format!("{PREFIX}{key}")
}

/// The name of the node that a disk is read from.
pub(super) fn source_node(key: DriveKey, volume: Option<&Volume>) -> String {
    match volume {
        None => format!("drive-{key}"),
        Some(_) => format!("{PREFIX}source-{key}"),
    }
}

/// A job as QEMU tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) is_concluded: bool,
    /// Whether it has nothing left to copy.
    pub(super) is_through: bool,
    pub(super) is_paused: bool,
    pub(super) error: Option<String>,
}

/// A VM's monitor. A connection is open during each call only: others want to speak with the VM, too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Monitor<'a> {
    site: &'a Site,
    vmid: VmId,
}

impl<'a> Monitor<'a> {
    pub(super) fn new(site: &'a Site, vmid: VmId) -> Self {
        Self { site, vmid }
    }

    fn qmp(&self) -> Qmp<'a> {
        Qmp::new(self.site, self.vmid)
    }

    /// Opens an image for reading, as the source of a job.
    pub(super) fn attach(&self, key: DriveKey, volume: &Volume) -> Result<(), CopyError> {
        let is_device = volume
            .path
            .metadata()
            .is_ok_and(|data| data.file_type().is_block_device());
        let protocol = if is_device { "host_device" } else { "file" };
        let node = json!({
            "driver": volume.format,
            "node-name": source_node(key, Some(volume)),
            "read-only": true,
            "file": { "driver": protocol, "filename": volume.path.to_string_lossy(), "read-only": true },
        });
        self.qmp().execute("blockdev-add", node)?;
        Ok(())
    }

    /// The sizes of nodes in bytes, in the order of the names.
    pub(super) fn sizes(&self, nodes: &[String]) -> Result<Vec<u64>, CopyError> {
        let known = self.nodes(&mut self.qmp())?;
        let size = |name: &String| {
            let node = known.iter().find(|node| node["node-name"] == json!(name));
            let size = node.and_then(|node| node["image"]["virtual-size"].as_u64());
            size.ok_or_else(|| CopyError::NoNode(name.clone()))
        };
        nodes.iter().map(size).collect()
    }

    fn nodes(&self, qmp: &mut Qmp<'_>) -> Result<Vec<Value>, QmpError> {
        let mut answer = qmp.execute_within("query-named-block-nodes", json!({ "flat": true }), STEP)?;
        Ok(answer.as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Connects the targets of jobs with the server.
    pub(super) fn connect(&self, socket: &Path, targets: &[(DriveKey, &str)]) -> Result<(), CopyError> {
        let mut qmp = self.qmp();
        for (key, export) in targets {
            let node = json!({
                "driver": "nbd",
                "node-name": job_name(*key),
                "server": { "type": "unix", "path": socket.to_string_lossy() },
                "export": export,
            });
            qmp.execute("blockdev-add", node)?;
        }
        Ok(())
    }

    /// Starts the jobs, all at the same instant. The first one copies; the others only save what the guest overwrites.
    pub(super) fn start(&self, jobs: &[(DriveKey, String)], limits: &Limits) -> Result<(), CopyError> {
        let action = |(key, source): &(DriveKey, String)| {
            json!({ "type": "blockdev-backup", "data": {
                "job-id": job_name(*key),
                "device": source,
                "target": job_name(*key),
                "sync": "full",
                "speed": limits.bytes_per_second.unwrap_or(0),
                "on-source-error": "report",
                "on-target-error": "report",
                "auto-dismiss": false,
                "x-perf": { "max-workers": limits.max_workers.max(1), "use-copy-range": false },
            } })
        };
        let transaction = json!({
            "properties": { "completion-mode": "grouped" },
            "actions": jobs.iter().map(action).collect::<Vec<Value>>(),
        });
        let mut qmp = self.qmp();
        qmp.execute_within("transaction", transaction, STEP)?;
        for (key, _) in jobs.iter().skip(1) {
            // A small disk may be done already.
            if let Err(error) = qmp.execute("job-pause", json!({ "id": job_name(*key) })) {
                log::debug!("job of {key} is not paused: {error}");
            }
        }
        Ok(())
    }

    /// Lets a job copy that was paused.
    pub(super) fn resume(&self, key: DriveKey) {
        // It was not paused if it was done at once; a paused one whose turn it is will be resumed again.
        if let Err(error) = self.qmp().execute("job-resume", json!({ "id": job_name(key) })) {
            log::debug!("job of {key} is not resumed: {error}");
        }
    }

    /// All our jobs.
    pub(super) fn jobs(&self) -> Result<Vec<Job>, QmpError> {
        ours(&mut self.qmp())
    }

    /// Ends all our jobs and removes all our nodes, of this run and of those that were killed.
    ///
    /// # Errors
    /// [`CopyError::Stuck`] if that does not come to an end. A VM that does not run has none.
    pub(super) fn release(&self) -> Result<(), CopyError> {
        let deadline = Instant::now() + RELEASE;
        loop {
            match self.try_release() {
                Ok(true) | Err(QmpError::NotRunning(_)) => return Ok(()),
                Ok(false) => {}
                Err(error) => log::warn!("unable to remove backup jobs: {error}"),
            }
            if Instant::now() >= deadline {
                return Err(CopyError::Stuck);
            }
            std::thread::sleep(POLL);
        }
    }

    /// One round: whether nothing is left.
    fn try_release(&self) -> Result<bool, QmpError> {
        let mut qmp = self.qmp();
        let jobs = ours(&mut qmp)?;
        for job in &jobs {
            let command = if job.is_concluded { "job-dismiss" } else { "job-cancel" };
            tolerate(qmp.execute(command, json!({ "id": job.name })))?;
        }
        if !jobs.is_empty() {
            return Ok(false);
        }
        let nodes = self.nodes(&mut qmp)?;
        let names = nodes.iter().filter_map(|node| node["node-name"].as_str());
        let left: Vec<&str> = names.filter(|name| name.starts_with(PREFIX)).collect();
        for name in &left {
            tolerate(qmp.execute("blockdev-del", json!({ "node-name": name })))?;
        }
        Ok(left.is_empty())
    }
}

/// A refusal is looked at again in the next round; without a connection there is no use in going on.
fn tolerate(answer: Result<Value, QmpError>) -> Result<(), QmpError> {
    match answer {
        Err(error) if error.is_refusal() => {
            log::debug!("{error}");
            Ok(())
        }
        answer => answer.map(drop),
    }
}

fn ours(qmp: &mut Qmp<'_>) -> Result<Vec<Job>, QmpError> {
    let answer = qmp.execute("query-jobs", Value::Null)?;
    let all = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(all.iter().filter_map(job).collect())
}

fn job(value: &Value) -> Option<Job> {
    let name = value["id"].as_str().filter(|name| name.starts_with(PREFIX))?;
    let status = value["status"].as_str().unwrap_or_default();
    Some(Job {
        name: name.to_owned(),
        is_concluded: status == "concluded",
        is_paused: status == "paused",
        is_through: matches!(status, "waiting" | "pending" | "concluded"),
        error: value["error"].as_str().map(str::to_owned),
    })
}
