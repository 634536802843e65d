//! The list of tasks (reference 03 §5.2).
//!
//! | file below `/var/log/pve/tasks` | holds |
//! |---|---|
//! | `active` | running and recent tasks, replaced as a whole |
//! | `index`, `index.1` | finished tasks, appended; the second is the previous first |
//! | `0` … `F` | logs, by the last digit of the start time |
//! | `.active.lock` | guards all changes |
//!
//! The directories belong to root: were they the web side's, it could put links in root's way.

mod entry;
mod files;
mod query;
mod update;

pub use entry::{Entry, Published};
pub use query::{Filter, Found, Source};
pub use update::ListError;

use std::path::PathBuf;

use pve_schema::Context;
use pve_schema::ids::Upid;

/// The list of tasks of one site.
#[derive(Debug, Clone)]
pub struct TaskList {
    context: Context,
}

impl TaskList {
    /// The list of a context's site.
    pub fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
        }
    }

    fn dir(&self) -> PathBuf {
        self.context.site.path("/var/log/pve/tasks")
    }

    /// Where a task's log is.
    pub fn log_path(&self, upid: &Upid) -> PathBuf {
        let digit = upid.starttime % 16;
        self.dir().join(format!("{digit:X}")).join(upid.to_string())
    }
}
