//! Starting and stopping many guests, as tasks.

use std::time::Duration;

use pve_access::AccessControl;
use pve_cfs::{Cfs, GuestKind};
use pve_lxc::status as containers;
use pve_qemu::journal::Journal;
use pve_qemu::{hold, process, start, tasks as vm};
use pve_schema::Context;
use pve_schema::ids::VmId;
use pve_task::{Task, TaskError, Worker};
use serde::{Deserialize, Serialize};

use super::PRIVILEGES;
use super::crew::Crew;
use super::plan::{Guest, Wanted, plan};

/// How long to wait after the start of a VM before the next guest, unless it says itself. Containers are up at once.
const AFTER_VM: Duration = Duration::from_secs(3);
/// How often a node without a majority looks whether it has one.
const QUORUM_POLL: Duration = Duration::from_secs(1);

/// `startall`
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StartAll {
    /// Only these, managed ones among them.
    pub(super) vms: Option<Vec<VmId>>,
    /// Also those that do not start with the node.
    pub(super) force: bool,
    /// How many at the same time.
    pub(super) workers: usize,
}

impl Task for StartAll {
    const KIND: &'static str = "node-startall";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        let context = worker.context.clone();
        let cfs = Cfs::new(&context);
        wait_for_quorum(&cfs, worker)?;
        hold::remove_stale_locks(&context, &mut Plain(worker));
        let wanted = Wanted {
            vms: self.vms.as_deref(),
            onboot: !self.force,
        };
        let mut crew = Crew::new("Starting", self.workers);
        // A guest may need what those before it offer: they are up when it starts.
        let mut pause = Duration::ZERO;
        for group in plan(&cfs, wanted)? {
            crew.wait_for_all(worker)?;
            for guest in group {
                if runs(&context, guest) {
                    continue;
                }
                if guest.kind == GuestKind::Lxc {
                    worker.warn(format!(
                        "skipping {guest} - containers cannot be started by this build yet"
                    ));
                    continue;
                }
                worker.sleep(std::mem::take(&mut pause))?;
                crew.wait_for_room(worker)?;
                if start_guest(&mut crew, worker, guest)? {
                    pause = pause_after(guest);
                }
            }
        }
        crew.wait_for_all(worker)
    }
}

/// Starts one guest: whether it is on its way.
fn start_guest(crew: &mut Crew, worker: &mut Worker, guest: Guest) -> Result<bool, TaskError> {
    if !may(crew, worker, guest)? {
        return Ok(false);
    }
    worker.log(format!("Starting {guest}"));
    let task = vm::Start {
        vmid: guest.vmid,
        options: start::Options::default(),
    };
    Ok(crew.start(worker, guest, "qmstart", &task))
}

/// How long a guest has before the next is started.
fn pause_after(guest: Guest) -> Duration {
    match (guest.startup.up, guest.kind) {
        (Some(seconds), _) => Duration::from_secs(seconds.into()),
        (None, GuestKind::Qemu) => AFTER_VM,
        (None, GuestKind::Lxc) => Duration::ZERO,
    }
}

/// `stopall`
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StopAll {
    /// Only these, managed ones among them.
    pub(super) vms: Option<Vec<VmId>>,
    /// Guests that do not follow are ended.
    pub(super) force_stop: bool,
    /// How long a guest has that does not say so itself, in seconds.
    pub(super) timeout: u32,
    /// How many at the same time.
    pub(super) workers: usize,
}

impl Task for StopAll {
    const KIND: &'static str = "node-stopall";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        let wanted = Wanted {
            vms: self.vms.as_deref(),
            onboot: false,
        };
        let mut crew = Crew::new("Stopping", self.workers);
        // What started first may be needed by all that came after it: it goes last.
        for group in plan(&Cfs::new(&worker.context), wanted)?.into_iter().rev() {
            for guest in group.into_iter().rev() {
                crew.wait_for_room(worker)?;
                self.stop_guest(&mut crew, worker, guest)?;
            }
            crew.wait_for_all(worker)?;
        }
        Ok(())
    }
}

impl StopAll {
    fn stop_guest(&self, crew: &mut Crew, worker: &mut Worker, guest: Guest) -> Result<(), TaskError> {
        let context = worker.context.clone();
        if !runs(&context, guest) {
            return Ok(());
        }
        if guest.kind == GuestKind::Lxc {
            worker.warn(format!(
                "skipping {guest} - containers cannot be stopped by this build yet"
            ));
            return Ok(());
        }
        if !may(crew, worker, guest)? {
            return Ok(());
        }
        let timeout = guest.startup.down.unwrap_or(self.timeout);
        worker.log(format!("Stopping {guest} (timeout = {timeout} seconds)"));
        match vm::Stop::by_shutdown(&context, guest.vmid, Some(timeout.into()), self.force_stop) {
            Ok(task) => {
                crew.start(worker, guest, "qmshutdown", &task);
            }
            Err(error) => crew.tell_failure(worker, guest, &error.to_string()),
        }
        Ok(())
    }
}

/// Whether a guest runs. Of a container that cannot be asked nobody knows, and nobody here could do anything about it.
fn runs(context: &Context, guest: Guest) -> bool {
    match guest.kind {
        GuestKind::Qemu => process::is_running(&context.site, guest.vmid),
        GuestKind::Lxc => containers::current(context, guest.vmid).is_ok_and(|status| status.running.is_some()),
    }
}

/// Whether who asked may do it to this guest: a right on `/` need not reach down to it.
fn may(crew: &Crew, worker: &mut Worker, guest: Guest) -> Result<bool, TaskError> {
    let access = AccessControl::load(&worker.context)?;
    let path = format!("/vms/{}", guest.vmid);
    match access.require_all(&worker.caller, &path, &PRIVILEGES) {
        Ok(()) => Ok(true),
        Err(error) => {
            crew.tell_failure(worker, guest, &error.to_string());
            Ok(false)
        }
    }
}

/// Waits for the cluster: a node that is alone never has to.
fn wait_for_quorum(cfs: &Cfs, worker: &mut Worker) -> Result<(), TaskError> {
    if cfs.is_quorate() {
        return Ok(());
    }
    worker.log("waiting for quorum ...");
    while !cfs.is_quorate() {
        worker.sleep(QUORUM_POLL)?;
    }
    worker.log("got quorum");
    Ok(())
}

/// A task's log for what is worth a line but no warning.
struct Plain<'a>(&'a mut Worker);

impl Journal for Plain<'_> {
    fn log(&mut self, line: &str) {
        self.0.log(line);
    }

    fn warn(&mut self, line: &str) {
        self.0.log(line);
    }
}
