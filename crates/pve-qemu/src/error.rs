//! What can go wrong in a VM's life. The texts are upstream's: clients and log readers match on them.

use std::io;

use pve_cfs::CfsError;
use pve_guest::GuestError;
use pve_schema::ids::VmId;
use pve_schema::{Failure, ParamErrors};
use pve_storage::StorageError;

use crate::config::ConfigError;
use crate::files::FileError;
use crate::network::NetworkError;
use crate::qmp::QmpError;
use crate::qmp::agent::AgentGate;

/// What can go wrong in a VM's life.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The config file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The config's state: its lock, for one.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// A value of the config.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A change of the config.
    #[error(transparent)]
    Update(#[from] crate::update::UpdateError),
    /// `/etc/pve` or a lock.
    #[error(transparent)]
    Cfs(#[from] CfsError),
    /// The monitor.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// The guest agent.
    #[error(transparent)]
    Agent(#[from] AgentGate),
    /// A storage or a volume.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What of the config cannot run here.
    #[error(transparent)]
    Command(#[from] crate::command::CommandError),
    /// KVM is asked for and not there.
    #[error(transparent)]
    Kvm(#[from] crate::accel::KvmUnavailable),
    /// The node or its QEMU.
    #[error(transparent)]
    Host(#[from] crate::start::host::HostError),
    /// No port for a console.
    #[error(transparent)]
    Port(#[from] pve_node::console::ports::PortError),
    /// A tap or a bridge.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// It was not created.
    #[error(transparent)]
    Create(#[from] crate::create::CreateError),
    /// It may not be destroyed.
    #[error(transparent)]
    Destroy(#[from] crate::destroy::Refusal),
    /// Something that names it cannot be changed.
    #[error("{0}")]
    Forget(Box<dyn std::error::Error + Send + Sync>),
    /// A disk may not be resized.
    #[error(transparent)]
    Resize(#[from] crate::resize::ResizeError),
    /// It may not be restored over.
    #[error(transparent)]
    Restore(#[from] crate::restored::Refused),
    /// The config in an archive.
    #[error(transparent)]
    Archived(#[from] crate::restored::ArchivedError),
    /// A runtime file.
    #[error("{what} - {source}")]
    Runtime {
        /// What was to be done.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },

    /// It runs already.
    #[error("VM {0} already running")]
    AlreadyRunning(VmId),
    /// It does not run.
    #[error("VM {0} not running")]
    NotRunning(VmId),
    /// Templates do not run.
    #[error("you can't start a vm if it's a template")]
    TemplateStart,
    /// Templates do not run.
    #[error("VM {0} is a template and cannot be resumed!")]
    TemplateResume(VmId),
    /// QEMU ended instead of coming up.
    #[error("start failed: QEMU exited with code {0}")]
    QemuExit(i32),
    /// QEMU was killed instead of coming up.
    #[error("start failed: QEMU got signal {0}")]
    QemuSignal(i32),
    /// QEMU did not come up in time.
    #[error("start failed: got timeout")]
    StartTimeout,
    /// systemd does not do something to the VM's scope.
    #[error("unable to handle scope '{0}.scope' - {1}")]
    Scope(VmId, pve_systemd::SystemdError),
    /// QEMU could not be executed at all, or died at once.
    #[error("start failed: {0}")]
    Start(String),
    /// The guest did not follow, and nobody forces it.
    #[error("VM quit/powerdown failed - got timeout")]
    StopTimeout,
    /// The guest could not even be asked, and nobody forces it.
    #[error("VM quit/powerdown failed")]
    StopFailed,
    /// It survived SIGKILL: stuck in the kernel.
    #[error("VM still running - unable to terminate it")]
    Unkillable,
    /// A paused guest cannot shut itself down.
    #[error("VM is paused - cannot shutdown")]
    Paused,
    /// The hook script failed where that matters.
    #[error("hookscript error for {vmid} on {phase}: {text}")]
    Hook {
        /// The VM.
        vmid: VmId,
        /// Its phase.
        phase: &'static str,
        /// What went wrong.
        text: String,
    },
    /// What a human monitor command answered where it should say nothing.
    #[error("{0}")]
    Human(String),
    /// What the config asks for is not built yet.
    #[error("{0} is not supported by this build yet")]
    NotYet(&'static str),
    /// A terminal needs a serial port that is a socket.
    #[error("unable to find a serial interface")]
    NoSerial,
    /// Somebody stopped the task.
    #[error("received interrupt")]
    Interrupted,
}

impl VmError {
    fn inner(&self) -> Option<&dyn Failure> {
        Some(match self {
            Self::File(error) => error,
            Self::Guest(error) => error,
            Self::Config(error) => error,
            Self::Update(error) => error,
            Self::Cfs(error) => error,
            Self::Qmp(error) => error,
            Self::Agent(error) => error,
            Self::Storage(error) => error,
            Self::Network(error) => error,
            Self::Command(error) => error,
            Self::Port(error) => error,
            Self::Create(error) => error,
            Self::Destroy(error) => error,
            Self::Resize(error) => error,
            Self::Restore(error) => error,
            Self::Archived(error) => error,
            _ => return None,
        })
    }
}

impl Failure for VmError {
    fn status(&self) -> u16 {
        match self {
            Self::NotYet(_) => 501,
            _ => self.inner().map_or(500, Failure::status),
        }
    }

    fn param_errors(&self) -> Option<&ParamErrors> {
        self.inner()?.param_errors()
    }
}
