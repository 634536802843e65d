//! What can go wrong.

use std::io;

use pve_qemu::console::vnc::VncError;
use pve_qemu::error::VmError;
use pve_qemu::files::FileError;
use pve_schema::ids::VmId;
use pve_schema::{Failure, errno_text};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QmError {
    /// The VM's configuration.
    #[error(transparent)]
    File(#[from] FileError),
    /// The VM.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// Its display.
    #[error(transparent)]
    Vnc(#[from] VncError),
    /// Who calls gives no password.
    #[error(
        "the environment has no {}: it is the display's new password",
        pve_qemu::console::vnc::PASSWORD_VARIABLE
    )]
    NoPassword,
    /// The port is none that a terminal can show.
    #[error("serial interface 'serial{0}' is not configured")]
    NotConfigured(u8),
    /// Somebody else looks at it, for one.
    #[error("unable to connect to serial interface 'serial{number}' - {}", errno_text(error))]
    Connect { number: u8, error: io::Error },
    /// Standard input or output.
    #[error("connection failed - {}", errno_text(.0))]
    Io(#[from] io::Error),
    /// It was waited for in vain.
    #[error("VM {0} still running - got timeout")]
    StillRunning(VmId),
}

impl Failure for QmError {}
