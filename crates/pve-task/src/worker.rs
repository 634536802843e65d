//! What a running task is given: where it is, who asked, a log.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pve_schema::Context;
use pve_schema::ids::{AuthId, Upid};

use crate::process::start_time;
use crate::{StartError, Task, TaskError, TaskRequest};

/// How often a progress line is written at most.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How often a sleeping task looks whether it is to stop.
const WAKE_EVERY: Duration = Duration::from_millis(100);

/// What a running task is given.
#[derive(Debug)]
pub struct Worker {
    /// The site and the clock.
    pub context: Context,
    /// The task's own id.
    pub upid: Upid,
    /// Who asked for it.
    pub caller: AuthId,
    /// The request it came from.
    pub request_id: String,
    output: Output,
    warnings: u64,
    interrupted: Arc<AtomicBool>,
    interrupted_text: Option<&'static str>,
}

/// Where the log goes.
#[derive(Debug)]
enum Output {
    /// Standard output, which is the log file.
    Stdout,
    /// Into memory, for tests.
    Memory(Vec<u8>),
}

impl Worker {
    pub(crate) fn new(
        context: Context,
        upid: Upid,
        caller: AuthId,
        request_id: String,
        interrupted: Arc<AtomicBool>,
    ) -> Self {
        Self {
            context,
            upid,
            caller,
            request_id,
            output: Output::Stdout,
            warnings: 0,
            interrupted,
            interrupted_text: None,
        }
    }

    /// Sets what the task fails with if somebody stops it, for kinds that have words of their own for it.
    pub fn set_interrupted_text(&mut self, text: &'static str) {
        self.interrupted_text = Some(text);
    }

    /// What the task fails with if somebody stops it.
    pub(crate) fn interruption(&self) -> TaskError {
        self.interrupted_text
            .map_or_else(TaskError::interrupted, TaskError::new)
    }

    /// Writes a line to the log.
    pub fn log(&mut self, line: impl AsRef<str>) {
        self.print(&format!("{}\n", line.as_ref()));
    }

    /// Writes a text to the log as it is, without a line feed of its own.
    pub fn print(&mut self, text: &str) {
        // A full disk under the log must not stop the work.
        let _ = match &mut self.output {
            Output::Stdout => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
            }
            Output::Memory(log) => log.write_all(text.as_bytes()),
        };
    }

    /// Writes a warning to the log and to the system log; a task with warnings does not end in `OK`.
    pub fn warn(&mut self, text: impl AsRef<str>) {
        let text = text.as_ref().trim_end_matches('\n');
        self.warnings += 1;
        log::warn!("{text}");
        self.log(format!("WARN: {text}"));
    }

    /// How many warnings there were.
    pub fn warnings(&self) -> u64 {
        self.warnings
    }

    /// Whether somebody wants the task to stop. It has a few seconds to clean up.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }

    /// Ends the work here if somebody wants the task to stop.
    ///
    /// # Errors
    /// [`TaskError::interrupted`].
    pub fn check_interrupt(&self) -> Result<(), TaskError> {
        if self.is_interrupted() {
            Err(self.interruption())
        } else {
            Ok(())
        }
    }

    /// Sleeps, but no longer than until somebody wants the task to stop.
    ///
    /// # Errors
    /// [`TaskError::interrupted`].
    pub fn sleep(&self, duration: Duration) -> Result<(), TaskError> {
        let end = Instant::now() + duration;
        loop {
            self.check_interrupt()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(WAKE_EVERY));
        }
    }

    /// Runs another task as a step of this one: same process, same log.
    ///
    /// # Errors
    /// The step's own.
    pub fn step<T: Task>(&mut self, task: T) -> Result<(), TaskError> {
        task.run(self)
    }

    /// Tells how far a copy of `total` bytes has come, at most once a second and at the end.
    pub fn progress(&mut self, progress: &mut Progress, done: u64) {
        if let Some(line) = progress.line(done, Instant::now()) {
            self.log(line);
        }
    }
}

/// How far a copy has come.
#[derive(Debug)]
pub struct Progress {
    label: String,
    total: u64,
    told: Option<Instant>,
    finished: bool,
}

impl Progress {
    /// A copy of `total` bytes; `label` is the verb: `transferred`.
    pub fn new(label: &str, total: u64) -> Self {
        Self {
            label: label.to_owned(),
            total,
            told: None,
            finished: false,
        }
    }

    fn line(&mut self, done: u64, now: Instant) -> Option<String> {
        let finished = done >= self.total;
        let due = self.told.is_none_or(|told| now.duration_since(told) >= PROGRESS_EVERY);
        if self.finished || !(due || finished) {
            return None;
        }
        self.told = Some(now);
        self.finished = finished;
        let percent = if self.total == 0 {
            100.0
        } else {
            // Figures for people: two digits are all that is shown.
            #[allow(clippy::cast_precision_loss)]
            let share = done as f64 / self.total as f64;
            share * 100.0
        };
        Some(format!(
            "{} {} of {} ({percent:.2}%)",
            self.label,
            human(done),
            human(self.total)
        ))
    }
}

/// Bytes for people: `320.0 MiB`.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    #[allow(clippy::cast_precision_loss)]
    let mut value = bytes as f64;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// What a task that ran inline left behind.
#[derive(Debug)]
pub struct Inline {
    /// How it ended.
    pub result: Result<(), TaskError>,
    /// Its log, without the last line that a task of its own would have.
    pub log: String,
    /// How many warnings there were.
    pub warnings: u64,
}

/// Runs a task in the calling thread and keeps its log: for tests of what a task does.
///
/// # Errors
/// [`StartError`] if the request makes no UPID.
pub fn run_inline<T: Task>(context: &Context, request: TaskRequest, task: T) -> Result<Inline, StartError> {
    let pid = std::process::id();
    let upid = request.upid(context, pid, start_time(pid).unwrap_or(0))?;
    let mut worker = Worker::new(
        context.clone(),
        upid,
        request.caller,
        request.request_id,
        Arc::new(AtomicBool::new(false)),
    );
    worker.output = Output::Memory(Vec::new());
    let result = task.run(&mut worker);
    let log = match worker.output {
        Output::Memory(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Output::Stdout => String::new(),
    };
    Ok(Inline {
        result,
        log,
        warnings: worker.warnings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_once_a_second_and_at_the_end() {
        let mut progress = Progress::new("transferred", 32 << 30);
        let start = Instant::now();
        assert_eq!(
            progress.line(320 << 20, start).as_deref(),
            Some("transferred 320.0 MiB of 32.0 GiB (0.98%)")
        );
        assert_eq!(progress.line(330 << 20, start + Duration::from_millis(900)), None);
        assert!(progress.line(330 << 20, start + Duration::from_secs(1)).is_some());
        assert_eq!(
            progress.line(32 << 30, start + Duration::from_millis(1100)).as_deref(),
            Some("transferred 32.0 GiB of 32.0 GiB (100.00%)")
        );
        assert_eq!(progress.line(32 << 30, start + Duration::from_secs(9)), None);
        assert_eq!(
            Progress::new("x", 0).line(0, start).as_deref(),
            Some("x 0.0 B of 0.0 B (100.00%)")
        );
    }
}
