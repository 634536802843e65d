//! The log of the task that a call started, printed as it comes (reference 03 §5.4).
//!
//! The task is a process of its own, as it is with the daemons. Ctrl-C asks it to end, the fourth one ends it. When this
//! program is killed it goes on.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write};
use std::time::Duration;

use pve_schema::Context;
use pve_schema::ids::Upid;
use pve_task::{TaskList, process, status};
use serde_json::Value;
use signal_hook::consts::SIGINT;

use super::progress::Progress;
use super::{CallError, signals};
use crate::output::for_terminal;

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
    let mut log = Log {
        file: File::open(&path)?,
        unprinted: Vec::new(),
        is_on_terminal: io::stdout().is_terminal(),
    };
    let mut wanted = !quiet;
    let mut progress = Progress::new(quiet);
    loop {
        // Looked at first: what comes between the log's end and the process's end is printed in the next round.
        let runs = process::is_running(upid);
        // Who has seen enough of the log does not end the task.
        let text = log.next(!runs)?;
        progress.speaks(&text);
        wanted = wanted && print(&text)?;
        if !runs {
            break;
        }
        progress.tick();
        std::thread::sleep(POLL_EVERY);
    }
    drop(progress);
    pve_task::wait_for_ends(END_LIMIT);
    Ok(status::of_log(&path))
}

/// A task's log as it grows.
struct Log<R> {
    file: R,
    /// The beginning of a line whose end has not come.
    unprinted: Vec<u8>,
    is_on_terminal: bool,
}

impl<R: Read> Log<R> {
    /// What has come since, and is to be printed: on a terminal whole lines, unless these are the `last`, as text that does
    /// nothing to it.
    fn next(&mut self, last: bool) -> io::Result<Vec<u8>> {
        self.file.read_to_end(&mut self.unprinted)?;
        if !self.is_on_terminal {
            return Ok(std::mem::take(&mut self.unprinted));
        }
        let end = match self.unprinted.iter().rposition(|byte| *byte == b'\n') {
            _ if last => self.unprinted.len(),
            Some(at) => at + 1,
            None => 0,
        };
        let lines: Vec<u8> = self.unprinted.drain(..end).collect();
        Ok(for_terminal(&String::from_utf8_lossy(&lines)).into_bytes())
    }
}

/// Prints; whether anybody reads it.
pub(super) fn print(text: &[u8]) -> Result<bool, CallError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(true),
    }
}

fn heed_interrupts(upid: &Upid) -> io::Result<()> {
    let upid = upid.clone();
    let mut interrupts = signal_hook::iterator::Signals::new([SIGINT])?;
    signals::leave_interrupts();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for (before, _) in interrupts.forever().enumerate() {
            if before + 1 < KILL_FROM {
                process::terminate(&upid);
            } else {
                process::kill_now(&upid);
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_whole_lines_that_do_nothing_to_it() {
        let mut log = Log {
            file: "user \u{1b}[2J\u{e9}\nha".as_bytes(),
            unprinted: Vec::new(),
            is_on_terminal: true,
        };
        let text = |bytes: io::Result<Vec<u8>>| String::from_utf8(bytes.unwrap()).unwrap();
        assert_eq!(text(log.next(false)), "user \\u{1b}[2J\u{e9}\n");
        log.file = "lf\r".as_bytes();
        assert_eq!(text(log.next(false)), "");
        assert_eq!(text(log.next(true)), "half\\r");
        log.is_on_terminal = false;
        log.file = b"\x1b\xff";
        assert_eq!(log.next(false).unwrap(), b"\x1b\xff");
    }
}
