//! Where the lines of a run go: the task's log, and while a guest is backed up a file of its own (reference 05 §7.3,
//! §7.4).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pve_qemu::journal::Journal;
use pve_schema::Context;
use pve_task::Worker;

/// The logs of a run.
#[derive(Debug)]
pub(super) struct RunLog<'a> {
    pub(super) worker: &'a mut Worker,
    guest: Option<File>,
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Info,
    Warn,
    Error,
}

impl<'a> RunLog<'a> {
    pub(super) fn new(worker: &'a mut Worker) -> Self {
        Self { worker, guest: None }
    }

    /// Begins the log of a guest, which replaces the one of its last backup.
    pub(super) fn begin_guest(&mut self, path: &Path) -> io::Result<()> {
        self.guest = Some(File::create(path)?);
        Ok(())
    }

    /// Ends the log of a guest.
    pub(super) fn end_guest(&mut self) {
        self.guest = None;
    }

    /// A line for both logs.
    pub(super) fn info(&mut self, line: &str) {
        self.write(Level::Info, line, true);
    }

    /// A line for the task's log only.
    pub(super) fn info_for_task(&mut self, line: &str) {
        self.write(Level::Info, line, false);
    }

    /// A failure.
    pub(super) fn error(&mut self, line: &str) {
        self.write(Level::Error, line, true);
    }

    /// Something that went wrong without stopping the run; it counts as a warning of the task.
    pub(super) fn warning(&mut self, line: &str) {
        self.write(Level::Warn, line, true);
    }

    fn write(&mut self, level: Level, text: &str, for_guest: bool) {
        for line in text.lines() {
            let word = match level {
                Level::Info => "INFO",
                Level::Warn => "WARN",
                Level::Error => "ERROR",
            };
            match level {
                Level::Warn => self.worker.warn(line),
                _ => self.worker.log(format!("{word}: {line}")),
            }
            if let Some(file) = self.guest.as_mut().filter(|_| for_guest) {
                let stamp = stamp(self.worker.context.now());
                // A full disk under the log must not stop the backup.
                let _ = writeln!(file, "{stamp} {word}: {line}");
            }
        }
    }
}

/// What starts and stops a guest speaks through this: its own lines are not those of a backup's log.
impl Journal for RunLog<'_> {
    fn log(&mut self, line: &str) {
        log::info!("{line}");
    }

    fn warn(&mut self, line: &str) {
        self.info(line);
    }

    fn is_interrupted(&self) -> bool {
        self.worker.is_interrupted()
    }
}

/// Local time as lines have it: `2026-08-20 02:30:05`.
pub(super) fn stamp(now: i64) -> String {
    local(now, "%Y-%m-%d %H:%M:%S")
}

/// A time in the system's zone; one that no calendar reaches counts as the epoch.
pub(super) fn local(now: i64, format: &str) -> String {
    let time = Timestamp::from_second(now).unwrap_or(Timestamp::UNIX_EPOCH);
    time.to_zoned(TimeZone::system()).strftime(format).to_string()
}

/// Where a guest's own log is until it is copied beside the archive.
pub(super) fn guest_log(context: &Context, kind: &str, vmid: impl std::fmt::Display) -> PathBuf {
    directory(context).join(format!("{kind}-{vmid}.log"))
}

fn directory(context: &Context) -> PathBuf {
    context.site.path("/var/log/vzdump")
}

/// Makes the directory of the guests' logs.
pub(super) fn make_directory(context: &Context) -> io::Result<()> {
    fs::create_dir_all(directory(context))
}
