//! Tasks: long work in a process of its own (docs/decisions/0006-tasks-as-processes.md, reference 03 §5).
//!
//! ```text
//! daemon                                  task process (re-exec of /proc/self/exe, verb `task`)
//!   Launcher::start ── order, JSON ──────▶ session of its own, UPID from its own pid, log file
//!        ◀─────────── UPID or ERROR: … ───
//!        ──────────── OK ────────────────▶ stdin /dev/null, stdout and stderr = log, Task::run
//!   cluster log, list                      TASK OK | TASK WARNINGS: n | TASK ERROR: …
//!   watcher ◀──────── exit ───────────────
//!   list, cluster log
//! ```
//!
//! Where systemd runs, the process is a service of its own (`pve-task-….service`) that systemd starts, outside of the
//! daemon's control group and sandbox; elsewhere it is the daemon's child.
//!
//! The daemon may die at any point after the OK: the task goes on, and the next update of the list records how it ended.
//!
//! | module | holds |
//! |---|---|
//! | [`task`] | what a task is, and the registry of kinds |
//! | [`worker`] | what a running task is given: log, warnings, who asked |
//! | [`launch`] | starting one from a daemon |
//! | `spawn` | its process: a service of systemd's, or a child |
//! | [`child`] | the task's side of it |
//! | [`list`] | the list of tasks, its files, and searching it |
//! | [`log_file`] | reading a task's log |
//! | [`status`] | how a task ended |
//! | [`counters`] | what is counted of them |
//! | [`process`] | whether a task runs, and stopping it |
//!
//! Not here: what the tasks do. Kinds are registered by the binaries.

pub mod child;
pub mod counters;
pub mod launch;
pub mod list;
pub mod log_file;
mod order;
pub mod process;
mod spawn;
pub mod status;
pub mod task;
pub mod worker;

pub use child::child_main;
pub use launch::{Launcher, StartError, TaskRequest, wait_for_ends};
pub use list::{Entry, TaskList};
pub use status::Class;
pub use task::{Kinds, Task, TaskError};
pub use worker::{Worker, run_inline};

/// The hidden first argument with which a daemon's image runs a task: `main` calls [`child_main`] on it before anything
/// else, since everything a task needs comes by pipe.
pub const VERB: &str = "task";
