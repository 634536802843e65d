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
//! | `lock` | one run at a time on a node |
//! | [`task`] | the run |
//!
//! Not here: how a disk's content comes into an archive, and how an archive is compressed.

pub mod conf;
mod error;
pub mod given;
mod lock;
pub mod notes;
pub mod options;
pub mod request;
pub mod rights;
pub mod task;

pub use error::VzdumpError;
pub use request::{Answer, request};
