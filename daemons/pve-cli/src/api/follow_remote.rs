//! The log of a task on another machine, asked for again and again until the task has ended.
//!
//! Ctrl-C asks the task to end, which takes the right to stop it; the fourth one ends the program, and the task goes on. So it
//! does when the program is killed. A machine that does not answer for a while is asked again.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pve_contract::{Verb, route};
use pve_schema::ids::Upid;
use serde_json::{Map, Value};
use signal_hook::consts::SIGINT;

use super::CallError;
use super::follow::print;
use super::progress::Progress;
use super::remote::{Answer, Remote};
use crate::output::for_terminal;

/// How often the log is asked for.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked for Ctrl-C.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the other machine may not answer: as long as its daemons may take to start again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many lines are asked for at once.
const LINES: u64 = 1000;
/// From which Ctrl-C on the program ends.
const LEAVE_FROM: usize = 4;

/// Prints a task's log to its end; how it ended.
///
/// # Errors
/// The other machine does not answer or refuses, or standard output is gone.
pub(crate) fn follow(remote: &Remote, upid: &Upid, quiet: bool) -> Result<String, CallError> {
    let mut task = Task {
        remote,
        path: format!("/nodes/{}/tasks/{upid}", upid.node),
        next: 0,
        wanted: !quiet,
        is_on_terminal: io::stdout().is_terminal(),
        progress: Progress::new(quiet),
    };
    let interrupts = Arc::new(AtomicUsize::new(0));
    count_interrupts(&interrupts)?;
    let mut heeded = 0;
    let mut heard = Instant::now();
    loop {
        match task.look() {
            Ok(Some(ended)) => return Ok(ended),
            Ok(None) => heard = Instant::now(),
            Err(CallError::Remote(_)) if heard.elapsed() < PATIENCE => {}
            Err(error) => return Err(error),
        }
        let until = Instant::now() + POLL_EVERY;
        while Instant::now() < until {
            let came = interrupts.load(Ordering::SeqCst);
            if came >= LEAVE_FROM {
                return Err(CallError::Interrupted);
            }
            if came > heeded {
                heeded = came;
                task.stop();
            }
            task.progress.tick();
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Counts what comes; a handler may do no more.
fn count_interrupts(into: &Arc<AtomicUsize>) -> io::Result<()> {
    let counter = Arc::clone(into);
    let mut signals = signal_hook::iterator::Signals::new([SIGINT])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    })?;
    Ok(())
}

/// A task of another machine.
struct Task<'a> {
    remote: &'a Remote,
    path: String,
    /// The number of the next line.
    next: u64,
    wanted: bool,
    is_on_terminal: bool,
    progress: Progress,
}

impl Task<'_> {
    fn ask(&self, verb: Verb, below: &str, params: Map<String, Value>) -> Result<Value, CallError> {
        let path = format!("{}{below}", self.path);
        let method = route(verb, &path).map_err(|_| CallError::NoIndex(path.clone()))?.method;
        match self.remote.call(method, &path, &params)?? {
            Answer::Data(data) => Ok(data),
            Answer::File(_) => Ok(Value::Null),
        }
    }

    /// Prints what has come; how the task ended, if it has.
    fn look(&mut self) -> Result<Option<String>, CallError> {
        // First this: what is logged between the two is printed in the next round.
        let status = self.ask(Verb::Get, "/status", Map::new())?;
        loop {
            let mut params = Map::new();
            params.insert("start".to_owned(), self.next.into());
            params.insert("limit".to_owned(), LINES.into());
            let rows = self.ask(Verb::Get, "/log", params)?;
            if self.print(&rows)? < LINES {
                break;
            }
        }
        let is_over = status.get("status").and_then(Value::as_str) == Some("stopped");
        let exit = status.get("exitstatus").and_then(Value::as_str);
        Ok(is_over.then(|| exit.unwrap_or("unexpected status").to_owned()))
    }

    /// How many lines there were.
    fn print(&mut self, rows: &Value) -> Result<u64, CallError> {
        let lines: Vec<&str> = rows
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|row| row.get("t")?.as_str())
            .collect();
        // That is what is answered instead of nothing (reference 03 §5.6).
        if lines.is_empty() || (self.next == 0 && lines == ["no content"]) {
            return Ok(0);
        }
        let mut text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        if self.is_on_terminal {
            text = for_terminal(&text);
        }
        self.progress.speaks(text.as_bytes());
        // Who has seen enough of the log does not end the task.
        self.wanted = self.wanted && print(text.as_bytes())?;
        let count = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        self.next += count;
        Ok(count)
    }

    /// Asks the task to end.
    fn stop(&mut self) {
        self.progress.clear();
        match self.ask(Verb::Delete, "", Map::new()) {
            Ok(_) => eprintln!("asked the task to end"),
            Err(error) => eprintln!("unable to stop the task: {error}"),
        }
    }
}
