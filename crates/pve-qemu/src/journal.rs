//! Where the words about an operation go: a task's log, or the system log when no task runs it.

use pve_task::Worker;

/// Takes the words about an operation.
pub trait Journal {
    /// Something worth telling.
    fn log(&mut self, line: &str);

    /// Something that went wrong without stopping the operation.
    fn warn(&mut self, line: &str);

    /// Whether somebody wants the operation to stop.
    fn is_interrupted(&self) -> bool {
        false
    }
}

impl Journal for Worker {
    fn log(&mut self, line: &str) {
        Self::log(self, line);
    }

    fn warn(&mut self, line: &str) {
        Self::warn(self, line);
    }

    fn is_interrupted(&self) -> bool {
        Self::is_interrupted(self)
    }
}

/// The system log.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLog;

impl Journal for SystemLog {
    fn log(&mut self, line: &str) {
        log::info!("{line}");
    }

    fn warn(&mut self, line: &str) {
        log::warn!("{line}");
    }
}
