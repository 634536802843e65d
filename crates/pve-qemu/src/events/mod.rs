//! The event daemon's logic: who is told when a VM ends by itself, and what follows (reference 06b §6.5).
//!
//! ```text
//!            connect                SHUTDOWN, or found shut down after a reconnect
//!  QEMU ───────────────▶ greeted ─────────────────────────────▶ ended by itself
//!                           │                                        │ query-status says so,
//!                           │                                        │ and no backup holds the VM
//!                           │                                        ▼
//!                           │                     60 s            quitting ──▶ SIGKILL
//!                           │                                        │
//!                           └──────────── connection closed ◀────────┘
//!                                                │
//!                                                ▼
//!                         [`Exit`] handed to the caller: clean up, perhaps start again
//! ```
//!
//! QEMU runs with `-no-shutdown`, so a guest that powers off leaves a stopped process behind that somebody must end;
//! that is [`session`]. The sockets and processes around it are [`server`]. What is done after the end is not here.

pub mod server;
mod session;

pub use server::{Server, ServerError};
pub use session::{Garbage, Messages};

use pve_schema::ids::VmId;

use crate::process::Process;

/// How a VM ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The VM.
    pub vmid: VmId,
    /// It shut down rather than died.
    pub graceful: bool,
    /// The guest itself asked for it.
    pub guest: bool,
    /// Its process, as far as known: by now another one may run the same VM.
    pub process: Option<Process>,
}
