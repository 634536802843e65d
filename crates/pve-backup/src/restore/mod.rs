//! A VM from a backup (reference 05 §15).
//!
//! ```text
//! Order::check ─▶ claim (lock `create`) ─▶ task:
//!   open archive ─▶ read header ─▶ map drives, check rights, storages ─▶ firewall file
//!   ─▶ old VM gives way ─▶ allocate ─▶ extract ─▶ new config ─▶ rescan ─▶ pool
//! ```
//!
//! Nothing of the node changes before the archive's header was read and everything in it was found to be allowed. What
//! fails until the data is complete frees the new volumes again; the VM stays, without its lock.
//!
//! | module | holds |
//! |---|---|
//! | [`order`] | what is to be restored: the checks before the task |
//! | [`task`] | `qmrestore` |
//! | `run` | the steps |
//! | `source` | the archive as a stream: decompressor, deadlines, interrupts, limits |
//! | `throttle` | at most so many bytes a second |
//! | `plan` | which drive goes to which new volume |
//! | `target` | making volumes and writing to them |
//! | `talk` | the journal, shared by those who write and those who look for an interrupt |
//! | [`error`] | what can go wrong |

pub mod error;
pub mod order;
mod plan;
mod run;
mod source;
mod talk;
mod target;
pub mod task;
mod throttle;

pub use error::RestoreError;
pub use order::Order;
pub use run::restore;
pub use task::Restore;
