//! The tasks of a VM's life: each is an order that travels to a process of its own (reference 06b §3).
//!
//! Not here: the one that destroys a VM, since it takes the VM out of jobs, which this crate does not know.

use std::time::Duration;

use pve_node::terminal::rfb;
use pve_node::terminal::screen::Display;
use pve_node::terminal::{self, Pass};
use pve_schema::Context;
use pve_schema::ids::{AuthId, Upid, VmId};
use pve_task::{Kinds, Launcher, StartError, Task, TaskError, TaskRequest, Worker};
use serde::{Deserialize, Serialize};

use crate::console::{serial, vnc};
use crate::create;
use crate::error::VmError;
use crate::power::{self, stop};
use crate::process;
use crate::reconfigure;
use crate::resize;
use crate::start;
use crate::update::Change;

/// Adds the kinds of this crate.
pub fn register_tasks(kinds: &mut Kinds) {
    kinds
        .register::<Create>()
        .register::<Configure>()
        .register::<Start>()
        .register::<Stop>()
        .register::<Reset>()
        .register::<Reboot>()
        .register::<Pause>()
        .register::<Resume>()
        .register::<Resize>()
        .register::<Vnc>()
        .register::<SerialTerminal>()
        .register::<SerialScreen>();
}

/// Starts a VM that was to be started again after its stop.
///
/// # Errors
/// When no task can be started.
pub fn start_after_reboot(context: &Context, vmid: VmId) -> Result<Upid, StartError> {
    let request = TaskRequest {
        worker_type: "qmstart".to_owned(),
        id: vmid.to_string(),
        caller: AuthId::root(),
        request_id: String::new(),
    };
    let task = Start {
        vmid,
        options: start::Options::default(),
    };
    Launcher::start(context, request, &task)
}

/// `qmcreate`
#[derive(Debug, Serialize, Deserialize)]
pub struct Create {
    /// The VM, whose number is taken already.
    pub vmid: VmId,
    /// What it is to be.
    pub order: create::Order,
    /// Whether it is started then.
    pub start: bool,
}

impl Task for Create {
    const KIND: &'static str = "qemu-create";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        let context = worker.context.clone();
        create::create(&context, self.vmid, &self.order, worker)?;
        if self.start {
            worker.log("Execute autostart");
            let request = TaskRequest {
                worker_type: "qmstart".to_owned(),
                id: self.vmid.to_string(),
                caller: worker.caller.clone(),
                request_id: worker.request_id.clone(),
            };
            let task = Start {
                vmid: self.vmid,
                options: start::Options::default(),
            };
            // The VM is there, whether it starts or not.
            if let Err(error) = Launcher::start(&context, request, &task) {
                worker.warn(error.to_string());
            }
        }
        Ok(())
    }
}

/// `qmconfig`
#[derive(Serialize, Deserialize)]
pub struct Configure {
    /// The VM.
    pub vmid: VmId,
    /// What changes. It may hold a password, and travels by pipe.
    pub change: Change,
}

impl std::fmt::Debug for Configure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Configure")
            .field("vmid", &self.vmid)
            .field("change", &self.change.summary())
            .finish()
    }
}

impl Task for Configure {
    const KIND: &'static str = "qemu-config";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        let context = worker.context.clone();
        Ok(reconfigure::carry_out(&context, self.vmid, &self.change, worker)?)
    }
}

/// `qmstart`
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// The VM.
    pub vmid: VmId,
    /// How.
    pub options: start::Options,
}

impl Task for Start {
    const KIND: &'static str = "qemu-start";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        let context = worker.context.clone();
        Ok(start::start(&context, self.vmid, &self.options, worker)?)
    }
}

/// `qmstop` and `qmshutdown`
#[derive(Debug, Serialize, Deserialize)]
pub struct Stop {
    /// The VM.
    pub vmid: VmId,
    /// Whether the guest is asked.
    pub shutdown: bool,
    /// How long it has, in seconds.
    pub timeout: Option<u64>,
    /// Whether the process is ended when the guest does not follow.
    pub force: bool,
    /// The `lock` key is ignored.
    pub skip_lock: bool,
    /// The volumes stay active.
    pub keep_active: bool,
    /// Running shutdowns of the same VM that are ended first.
    pub overrule: Vec<Upid>,
    /// Said first: that a shutdown became a stop, for one.
    pub note: Option<String>,
}

impl Stop {
    /// The order to shut a VM down. A guest that stands still cannot follow: that is said now rather than after the
    /// timeout, or it is stopped if that is the end of it anyway.
    ///
    /// # Errors
    /// [`VmError::Paused`].
    pub fn by_shutdown(context: &Context, vmid: VmId, timeout: Option<u64>, force: bool) -> Result<Self, VmError> {
        let mut order = Self {
            vmid,
            shutdown: true,
            timeout,
            force,
            skip_lock: false,
            keep_active: false,
            overrule: Vec::new(),
            note: None,
        };
        if process::is_running(&context.site, vmid) && power::is_paused(context, vmid) {
            if !force {
                return Err(VmError::Paused);
            }
            order.shutdown = false;
            order.note = Some("VM is paused - stop instead of shutdown".to_owned());
        }
        Ok(order)
    }
}

impl Task for Stop {
    const KIND: &'static str = "qemu-stop";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        if let Some(note) = &self.note {
            worker.warn(note);
        }
        if !self.overrule.is_empty() {
            for upid in &self.overrule {
                pve_task::process::stop(upid);
            }
            let names: Vec<String> = self.overrule.iter().map(Upid::to_string).collect();
            worker.log(format!("overruled qmshutdown tasks: {}", names.join(", ")));
        }
        let order = stop::Order {
            way: if self.shutdown {
                stop::Way::Shutdown
            } else {
                stop::Way::Quit
            },
            timeout: self.timeout.map(Duration::from_secs),
            force: self.force,
            skip_lock: self.skip_lock,
            keep_active: self.keep_active,
        };
        let context = worker.context.clone();
        Ok(stop::stop(&context, self.vmid, order, worker)?)
    }
}

/// `qmreset`
#[derive(Debug, Serialize, Deserialize)]
pub struct Reset {
    /// The VM.
    pub vmid: VmId,
    /// The `lock` key is ignored.
    pub skip_lock: bool,
}

impl Task for Reset {
    const KIND: &'static str = "qemu-reset";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        Ok(power::reset(&worker.context, self.vmid, self.skip_lock)?)
    }
}

/// `qmreboot`
#[derive(Debug, Serialize, Deserialize)]
pub struct Reboot {
    /// The VM.
    pub vmid: VmId,
    /// How long the guest has, in seconds.
    pub timeout: Option<u64>,
}

impl Task for Reboot {
    const KIND: &'static str = "qemu-reboot";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        let context = worker.context.clone();
        Ok(power::reboot(
            &context,
            self.vmid,
            self.timeout.map(Duration::from_secs),
            worker,
        )?)
    }
}

/// `qmpause`
#[derive(Debug, Serialize, Deserialize)]
pub struct Pause {
    /// The VM.
    pub vmid: VmId,
    /// The `lock` key is ignored.
    pub skip_lock: bool,
}

impl Task for Pause {
    const KIND: &'static str = "qemu-pause";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        Ok(power::pause(&worker.context, self.vmid, self.skip_lock)?)
    }
}

/// `qmresume`
#[derive(Debug, Serialize, Deserialize)]
pub struct Resume {
    /// The VM.
    pub vmid: VmId,
    /// The `lock` key is ignored.
    pub skip_lock: bool,
}

impl Task for Resume {
    const KIND: &'static str = "qemu-resume";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        Ok(power::resume(&worker.context, self.vmid, self.skip_lock)?)
    }
}

/// `resize`
#[derive(Debug, Serialize, Deserialize)]
pub struct Resize {
    /// The VM.
    pub vmid: VmId,
    /// What and how.
    pub order: resize::Order,
}

impl Task for Resize {
    const KIND: &'static str = "qemu-resize";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        let context = worker.context.clone();
        Ok(resize::resize(&context, self.vmid, &self.order, worker)?)
    }
}

/// `vncproxy`
#[derive(Serialize, Deserialize)]
pub struct Vnc {
    /// The VM.
    pub vmid: VmId,
    /// The port of the site's address to listen on.
    pub port: u16,
    /// The display's password. It travels by pipe, and is neither logged nor shown.
    pub password: String,
    /// What leads to the VM if it is another node's ([`vnc::serve_far`]).
    #[serde(default)]
    pub far: Option<Vec<String>>,
}

impl std::fmt::Debug for Vnc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vnc")
            .field("vmid", &self.vmid)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Task for Vnc {
    const KIND: &'static str = "qemu-vnc";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        worker.log(format!("starting vnc proxy {}", worker.upid));
        let site = &worker.context.site;
        match &self.far {
            None => vnc::serve(site, self.vmid, self.port, &self.password)?,
            Some(command) => vnc::serve_far(site, command, self.port, &self.password)?,
        }
        Ok(())
    }
}

/// `vncproxy`: a serial port instead of the display.
#[derive(Debug, Serialize, Deserialize)]
pub struct SerialTerminal {
    /// The VM.
    pub vmid: VmId,
    /// The number of the port.
    pub serial: u8,
    /// Who may come.
    pub pass: Pass,
}

impl Task for SerialTerminal {
    const KIND: &'static str = "qemu-serial";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        let context = worker.context.clone();
        let open = || serial::SerialPort::open(&context.site, self.vmid, self.serial);
        Ok(terminal::serve(&context, &self.pass, worker, open)?)
    }
}

/// `vncproxy`: a serial port as the display, for VMs that have no other.
#[derive(Debug, Serialize, Deserialize)]
pub struct SerialScreen {
    /// The VM.
    pub vmid: VmId,
    /// The number of the port.
    pub serial: u8,
    /// Who may look, and how.
    pub display: Display,
}

impl Task for SerialScreen {
    const KIND: &'static str = "qemu-serial-screen";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        let context = worker.context.clone();
        let open = || serial::SerialPort::open(&context.site, self.vmid, self.serial);
        rfb::run_task(worker, &self.display, open);
        Ok(())
    }
}
