//! Backing guests up (reference 05 §6, §7, §8, §10, §11, §12).
//!
//! ```text
//!  request ── checks ──▶ task ─▶ options ─▶ job-init ─▶ storage ─▶ global lock ─▶ guest, guest, … ─▶ job-end
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`request`] | the checks of a call, and the start of its task |
//! | [`rights`] | who may give which option |
//! | [`given`], [`conf`], [`options`] | options as given, `/etc/vzdump.conf`, and what holds in the end |
//! | [`notes`] | the notes template |
//! | [`defaults`], [`extract`] | what holds on a node, and the config inside an archive |
//! | [`task`], `run`, `guest` | the run: its set-up, all guests, one guest |
//! | `lock` | one run at a time on a node |
//! | `place` | names of archives, what is there already, what goes again |
//! | `hook`, `log` | the administrator's script, the lines of a run |
//! | [`qemu`] | what is particular about VMs |
//!
//! Not here: how a disk's content comes into an archive, and how an archive is compressed.

pub mod conf;
pub mod defaults;
mod error;
pub mod extract;
pub mod given;
mod guest;
mod hook;
mod lock;
mod log;
pub mod notes;
pub mod options;
mod place;
pub mod qemu;
pub mod request;
pub mod rights;
mod run;
pub mod task;

pub use error::VzdumpError;
pub use request::{Answer, request};
