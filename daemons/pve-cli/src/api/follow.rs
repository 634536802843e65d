//! The log of the task that a call started, printed as it comes (reference 03 §5.4).
//!
//! The task is a process of its own, as it is with the daemons. Ctrl-C asks it to end, the fourth one ends it. When this
//! program is killed it goes on.

use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Duration;

use pve_schema::Context;
use pve_schema::ids::Upid;
use pve_task::{TaskList, process, status};
use serde_json::Value;
use signal_hook::consts::SIGINT;

use super::CallError;

/// How often the log is looked at.
const POLL_EVERY: Duration = Duration::from_millis(100);
/// How long the end of a task may take to be logged.
const END_LIMIT: Duration = Duration::from_secs(15);
/// From which Ctrl-C on the task is killed.
const KILL_FROM: usize = 4;

/// The task that a result is, if it is one of this node.
pub(crate) fn task(context: &Context, data: &Value) -> Option<Upid> {
    let upid: Upid = data.as_str()?.parse().ok()?;
    (upid.node == context.site.node).then_some(upid)
}

/// Prints a task's log to its end; how it ended.
///
/// # Errors
/// The log cannot be read, or standard output is gone.
pub(crate) fn follow(context: &Context, upid: &Upid, quiet: bool) -> Result<String, CallError> {
    heed_interrupts(upid)?;
    let path = TaskList::new(context).log_path(upid);
    let mut log = File::open(&path)?;
    let mut wanted = !quiet;
    loop {
        // Looked at first: what comes between the log's end and the process's end is printed in the next round.
        let runs = process::is_running(upid);
        // Who has seen enough of the log does not end the task.
        wanted = wanted && print_rest(&mut log)?;
        if !runs {
            break;
        }
        std::thread::sleep(POLL_EVERY);
    }
    pve_task::wait_for_ends(END_LIMIT);
    Ok(status::of_log(&path))
}

/// Prints what has come since; whether anybody reads it.
fn print_rest(log: &mut File) -> Result<bool, CallError> {
    let mut new = Vec::new();
    log.read_to_end(&mut new)?;
    let mut stdout = io::stdout().lock();
    match stdout.write_all(&new).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(true),
    }
}

fn heed_interrupts(upid: &Upid) -> io::Result<()> {
    let upid = upid.clone();
    let mut signals = signal_hook::iterator::Signals::new([SIGINT])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for (before, _) in signals.forever().enumerate() {
            if before + 1 < KILL_FROM {
                process::terminate(&upid);
            } else {
                process::kill_now(&upid);
            }
        }
    })?;
    Ok(())
}
