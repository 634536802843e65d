//! A VM that a backup holds, and what is due when the backup dies (reference 05 §7.4, 06b §6.5).
//!
//! ```text
//!  take: connection to the event daemon ─▶ marker ─▶ `lock: backup` ··· owe, owe ··· release: unlock ─▶ marker goes
//!                          │                                                              ─▶ connection closes
//!                          └── worker killed: the kernel closes it
//!                               ─▶ settle: jobs gone, guest as it was, files gone, unlocked
//! ```
//!
//! The marker tells whoever finds a dead backup what it owed: the guest its run, the disk its space. It is settled by the
//! event daemon at once, or – should that not run either – by its next start, the VM's next start or the next backup of
//! the VM. A second connection, [`Hold::keep`], keeps the VM's process while the backup reads from it, even if the guest
//! powers off.
//!
//! Not here: what a backup does.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use pve_daemon::volatile;
use pve_schema::ids::VmId;
use pve_schema::{Context, Site, errno_text};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cleanup::Next;
use crate::error::VmError;
use crate::files;
use crate::journal::Journal;
use crate::power::stop;
use crate::process::{self, Process, Stat};
use crate::qmp::{self, Agent, Qmp, QmpError};
use crate::runtime::{self, Runtime};

/// The `lock` key of a VM that is backed up.
const LOCK: &str = "backup";
/// What the names of a backup's jobs and block nodes begin with.
const PREFIX: &str = "vzdump-";
/// How long a killed worker may take to vanish after its connection closed.
const VANISH: Duration = Duration::from_secs(5);
/// How long the event daemon waits for whoever changes the VM at the same time.
const CONFIG_LOCK: Duration = Duration::from_secs(60);
/// How long the jobs of a dead backup may take to end: what they wrote to has gone, so they fail at once.
const JOBS: Duration = Duration::from_secs(30);
/// How often they are looked at.
const POLL: Duration = Duration::from_millis(100);
/// Where the `flock` is that a run of backups holds, below the site's root.
pub const RUN_LOCK: &str = "/run/vzdump.lock";

/// What a guest is to be once its backup is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owed {
    /// As it is.
    #[default]
    Nothing,
    /// Running: the backup paused or stopped it.
    Running,
    /// Off: the backup started it, paused, only to read its disks.
    Off,
}

/// What a backup owes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debt {
    /// To the guest.
    pub guest: Owed,
    /// Whether the guest's file systems are frozen.
    pub frozen: bool,
    /// Files and directories that go whatever happens.
    pub files: Vec<PathBuf>,
}

/// What stands in the marker.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    pid: i32,
    started: u64,
    debt: Debt,
}

impl Marker {
    fn read(site: &Site, vmid: VmId) -> Option<Self> {
        let bytes = fs::read(Runtime::new(site, vmid).backup_marker()).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn worker(&self) -> Process {
        Process {
            pid: self.pid,
            started: self.started,
        }
    }
}

/// A VM that this process backs up.
#[derive(Debug)]
pub struct Hold {
    context: Context,
    vmid: VmId,
    worker: Process,
    debt: Debt,
    /// Closed when the backup ends, however it ends.
    _alive: Option<UnixStream>,
    /// Open while the VM's process is to stay.
    kept: Option<UnixStream>,
}

impl Hold {
    /// Takes a VM of this node for a backup.
    ///
    /// # Errors
    /// `VM is locked (…)`, and what the files say.
    pub fn take(context: &Context, vmid: VmId, journal: &mut dyn Journal) -> Result<Self, VmError> {
        let _lock = files::lock(context, vmid)?;
        settle(context, vmid, journal)?;
        let mut config = files::load(context, vmid)?;
        config.set_lock(LOCK)?;
        runtime::create_directory(&context.site).map_err(marker_error)?;
        let pid = i32::try_from(std::process::id()).unwrap_or_default();
        let hold = Self {
            context: context.clone(),
            vmid,
            worker: Process {
                pid,
                started: Stat::read(pid).map_or(0, |stat| stat.started),
            },
            debt: Debt::default(),
            _alive: connect(&context.site, "backup", vmid)
                .inspect_err(|error| journal.warn(&unreachable(error)))
                .ok(),
            kept: None,
        };
        // Before the lock: should this process die in between, somebody still knows whose lock it is.
        hold.write()?;
        if let Err(error) = files::save(context, vmid, &mut config) {
            hold.forget();
            return Err(error.into());
        }
        Ok(hold)
    }

    /// Has the VM's process stay from now on, even if the guest powers off. Without the event daemon the process stays
    /// anyway.
    pub fn keep(&mut self) {
        self.kept = connect(&self.context.site, "vzdump", self.vmid)
            .inspect_err(|error| log::warn!("{}", unreachable(error)))
            .ok();
    }

    /// Lets a guest that powered off end.
    pub fn keep_no_longer(&mut self) {
        self.kept = None;
    }

    /// What is owed now.
    pub fn debt(&self) -> &Debt {
        &self.debt
    }

    /// Changes what is owed, durably enough to survive this process.
    ///
    /// # Errors
    /// What the file system says.
    pub fn owe(&mut self, change: impl FnOnce(&mut Debt)) -> Result<(), VmError> {
        change(&mut self.debt);
        self.write()
    }

    /// Gives the VM back: the lock and the marker go, then the connection closes.
    ///
    /// # Errors
    /// The lock is not there any more, or cannot be removed.
    pub fn release(self) -> Result<(), VmError> {
        let _lock = files::lock(&self.context, self.vmid)?;
        let unlocked = unlock(&self.context, self.vmid);
        self.forget();
        unlocked
    }

    fn write(&self) -> Result<(), VmError> {
        let marker = Marker {
            pid: self.worker.pid,
            started: self.worker.started,
            debt: self.debt.clone(),
        };
        let written = serde_json::to_vec(&marker)
            .map_err(io::Error::from)
            .and_then(|bytes| volatile::replace(&self.marker(), &bytes));
        written.map_err(marker_error)
    }

    fn forget(&self) {
        runtime::remove(&self.marker());
    }

    fn marker(&self) -> PathBuf {
        Runtime::new(&self.context.site, self.vmid).backup_marker()
    }
}

fn marker_error(source: io::Error) -> VmError {
    VmError::Runtime {
        what: "unable to leave the marker of a backup",
        source,
    }
}

/// Introduces this process to the event daemon: as one that needs the VM's process (`vzdump`), or as one whose end is to
/// be noticed (`backup`).
fn connect(site: &Site, word: &str, vmid: VmId) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(runtime::event_socket(site))?;
    let hello = json!({ word: { "vmid": vmid.to_string() } });
    stream.write_all(hello.to_string().as_bytes())?;
    Ok(stream)
}

fn unreachable(error: &io::Error) -> String {
    format!("unable to tell qmeventd about the backup - {}", errno_text(error))
}

/// VMs with a backup's marker, alive or not.
pub fn held(site: &Site) -> Vec<VmId> {
    let names = fs::read_dir(runtime::directory(site)).into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".backup")?.parse().ok())
        .collect()
}

/// Settles what a dead backup left, as far as that can be done under the config lock that the caller has. One that is
/// alive is left alone.
///
/// # Errors
/// What the config's file says.
pub fn settle(context: &Context, vmid: VmId, journal: &mut dyn Journal) -> Result<Next, VmError> {
    let Some(marker) = Marker::read(&context.site, vmid) else {
        return Ok(Next::Rest);
    };
    if marker.worker().is_alive() {
        return Ok(Next::Rest);
    }
    journal.warn(&format!("a backup of VM {vmid} was killed; settling what it left"));
    let next = settle_guest(context, vmid, &marker.debt, journal);
    for path in &marker.debt.files {
        runtime::remove(path);
    }
    if files::exists(context, vmid)? && files::load(context, vmid)?.lock() == Some(LOCK) {
        unlock(context, vmid)?;
        journal.warn(&format!("removed left over backup lock from '{vmid}'!"));
    }
    runtime::remove(&Runtime::new(&context.site, vmid).backup_marker());
    Ok(next)
}

/// Settles what a backup left whose connection to the event daemon just closed.
///
/// # Errors
/// When the lock is not to be had; as [`settle`].
pub fn settle_after_end(context: &Context, vmid: VmId, journal: &mut dyn Journal) -> Result<Next, VmError> {
    let Some(marker) = Marker::read(&context.site, vmid) else {
        return Ok(Next::Rest);
    };
    // The kernel closes connections before the process has gone.
    marker.worker().wait_gone(VANISH);
    let _lock = files::lock_within(context, vmid, CONFIG_LOCK)?;
    settle(context, vmid, journal)
}

/// Brings the guest back to what it was; what does not work of it is told.
fn settle_guest(context: &Context, vmid: VmId, debt: &Debt, journal: &mut dyn Journal) -> Next {
    let site = &context.site;
    if !process::is_running(site, vmid) {
        return match debt.guest {
            Owed::Running => Next::Start,
            _ => Next::Rest,
        };
    }
    let mut tell = |result: Result<(), VmError>| {
        if let Err(error) = result {
            journal.warn(&error.to_string());
        }
    };
    tell(remove_jobs(site, vmid));
    if debt.frozen {
        tell(thaw(site, vmid));
    }
    match (debt.guest, status(site, vmid).as_deref()) {
        (Owed::Running, Ok("paused" | "prelaunch")) => {
            tell(
                qmp::execute(site, vmid, "cont", Value::Null)
                    .map(drop)
                    .map_err(VmError::from),
            );
        }
        (Owed::Off, Ok("prelaunch")) => tell(quit(context, vmid)),
        (_, Ok(_)) => {}
        (_, Err(error)) => tell(Err(VmError::Human(error.to_string()))),
    }
    Next::Rest
}

/// Ends a VM that was started only for a backup.
///
/// # Errors
/// As [`stop::stop`].
pub fn quit(context: &Context, vmid: VmId) -> Result<(), VmError> {
    let order = stop::Order {
        way: stop::Way::Quit,
        timeout: None,
        force: true,
        skip_lock: true,
        keep_active: false,
    };
    stop::stop(context, vmid, order, &mut crate::journal::SystemLog)
}

/// The word for what a VM is doing: `running`, `prelaunch`.
///
/// # Errors
/// As [`qmp::execute`].
pub fn status(site: &Site, vmid: VmId) -> Result<String, QmpError> {
    let answer = qmp::execute(site, vmid, "query-status", Value::Null)?;
    let status = answer.get("status").and_then(Value::as_str);
    Ok(status.unwrap_or_default().to_owned())
}

fn thaw(site: &Site, vmid: VmId) -> Result<(), VmError> {
    let agent = Agent::new(site, vmid);
    let frozen = agent.execute("guest-fsfreeze-status", Value::Null)?;
    if frozen.as_str() == Some("frozen") {
        agent.execute("guest-fsfreeze-thaw", Value::Null)?;
    }
    Ok(())
}

/// Ends the jobs of a dead backup and removes the block nodes that they wrote to.
fn remove_jobs(site: &Site, vmid: VmId) -> Result<(), VmError> {
    let mut qmp = Qmp::new(site, vmid);
    let deadline = Instant::now() + JOBS;
    loop {
        let jobs = qmp.execute("query-jobs", Value::Null)?;
        let ours = |job: &&Value| text(job, "id").starts_with(PREFIX);
        let jobs: Vec<&Value> = jobs.as_array().into_iter().flatten().filter(ours).collect();
        if jobs.is_empty() {
            break;
        }
        for job in jobs {
            let command = match text(job, "status") {
                "concluded" => "job-dismiss",
                _ => "job-cancel",
            };
            // One that is about to end by itself refuses; the next look finds it concluded.
            let _ = qmp.execute(command, json!({ "id": text(job, "id") }));
        }
        if Instant::now() >= deadline {
            return Err(VmError::Human(format!("the backup jobs of VM {vmid} do not end")));
        }
        std::thread::sleep(POLL);
    }
    let nodes = qmp.execute("query-named-block-nodes", json!({ "flat": true }))?;
    for node in nodes.as_array().into_iter().flatten() {
        let name = text(node, "node-name");
        if name.starts_with(PREFIX) {
            qmp.execute("blockdev-del", json!({ "node-name": name }))?;
        }
    }
    Ok(())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Takes the `lock` key away, if it is a backup's.
fn unlock(context: &Context, vmid: VmId) -> Result<(), VmError> {
    let mut config = files::load(context, vmid)?;
    config.remove_lock(LOCK)?;
    Ok(files::save(context, vmid, &mut config)?)
}

/// Removes the `lock: backup` of VMs that no backup holds: those of a node that lost its power, for one. While a run of
/// backups holds the node, nothing happens.
pub fn remove_stale_locks(context: &Context, journal: &mut dyn Journal) {
    let path = context.site.path(RUN_LOCK);
    // Whoever can open it can lock it.
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    let Ok(file) = options.open(&path) else {
        return;
    };
    let Ok(_run) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
        return;
    };
    let vmids = files::list(context).unwrap_or_else(|error| {
        journal.warn(&error.to_string());
        Vec::new()
    });
    for vmid in vmids {
        let removed = files::lock(context, vmid).map_err(VmError::from).and_then(|_lock| {
            let is_stale = files::load(context, vmid)?.lock() == Some(LOCK);
            if is_stale {
                unlock(context, vmid)?;
            }
            Ok(is_stale)
        });
        match removed {
            Ok(true) => journal.warn(&format!("removed left over backup lock from '{vmid}'!")),
            Ok(false) => {}
            Err(error) => journal.warn(&format!("VM {vmid}: {error}")),
        }
    }
}
