//! The log of a task on another node, asked for again and again until the task has ended.
//!
//! Ctrl-C asks the task to end, which takes the right to stop it; the fourth one ends the program at once, and the task goes
//! on. So it does when the program is killed. A node that does not answer for a while is asked again, and so is one whose
//! `pveproxy` answers that its `pvedaemon` does not.

use std::io::{self, IsTerminal as _};
use std::ops::RangeInclusive;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pve_contract::{Verb, route};
use pve_schema::ids::Upid;
use serde_json::{Map, Value};
use signal_hook::consts::SIGINT;

use super::CallError;
use super::follow::print;
use super::progress::{self, Progress};
use super::remote::{Answer, Remote, RemoteError};
use crate::FAILURE;
use crate::output::for_terminal;

/// How often the log is asked for.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked for Ctrl-C.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the other node may not answer, one question or several: as long as its daemons may take to start again.
const PATIENCE: Duration = Duration::from_secs(30);
/// The statuses with which the other node says that it cannot answer now: 595 to 599 while the `pvedaemon` behind its
/// `pveproxy` is away (reference 01 §3.8), 500 when that is to know the token; others are those of proxies on the way.
const CANNOT_ANSWER: RangeInclusive<u16> = 500..=599;
/// How many lines are asked for at once.
const LINES: u64 = 1000;
/// From which Ctrl-C on the program ends.
const LEAVE_FROM: usize = 4;

/// Prints a task's log to its end; how it ended.
///
/// # Errors
/// The other node does not answer or refuses, or standard output is gone.
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
    heed_interrupts(&interrupts)?;
    let mut heeded = 0;
    let mut heard = Instant::now();
    loop {
        match task.look() {
            Ok(Some(ended)) => return Ok(ended),
            Ok(None) => heard = Instant::now(),
            Err(error) if is_silence(&error) && heard.elapsed() < PATIENCE => {}
            Err(error) => return Err(error),
        }
        let until = Instant::now() + POLL_EVERY;
        while Instant::now() < until {
            let came = interrupts.load(Ordering::SeqCst);
            if came > heeded {
                heeded = came;
                task.stop();
            }
            task.progress.tick();
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Whether nobody answered, which may be otherwise the next time.
fn is_silence(error: &CallError) -> bool {
    match error {
        CallError::Remote(error) => matches!(error, RemoteError::Fetch(_)),
        CallError::Api(error) => CANNOT_ANSWER.contains(&error.status),
        _ => false,
    }
}

/// Counts what comes, up to the one that ends the program: that does not wait for an answer.
fn heed_interrupts(into: &Arc<AtomicUsize>) -> io::Result<()> {
    let counter = Arc::clone(into);
    let mut signals = signal_hook::iterator::Signals::new([SIGINT])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            if counter.fetch_add(1, Ordering::SeqCst) + 1 >= LEAVE_FROM {
                progress::clear_line();
                eprintln!("{}", CallError::Interrupted);
                process::exit(i32::from(FAILURE));
            }
        }
    })?;
    Ok(())
}

/// A task of another node.
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
        match self.remote.call_within(PATIENCE, method, &path, &params)?? {
            Answer::Data(data) => Ok(data),
            // It was not asked for.
            Answer::File(_) => Err(self.remote.no_api().into()),
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
        let state = status.get("status").and_then(Value::as_str);
        let is_over = state.ok_or_else(|| self.remote.no_api())? == "stopped";
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

#[cfg(test)]
mod tests {
    use super::super::remote::tests::{JSON, Told, server};
    use super::*;

    const RUNS: Told = (200, JSON, "{\"data\":{\"status\":\"running\"}}");
    const ENDED: Told = (
        200,
        JSON,
        "{\"data\":{\"status\":\"stopped\",\"exitstatus\":\"VM quit/powerdown failed\"}}",
    );
    const LOG: Told = (200, JSON, "{\"data\":[{\"n\":1,\"t\":\"no content\"}]}");

    fn ended(answers: &[Told]) -> Result<String, String> {
        let upid = "UPID:n1:00000001:00000001:00000001:qmshutdown:100:root@pam:"
            .parse()
            .unwrap();
        let (remote, asked) = server(answers.to_vec());
        let ended = follow(&remote, &upid, true).map_err(|error| error.to_string());
        let asked: Vec<String> = asked.try_iter().collect();
        assert_eq!(asked.len(), answers.len(), "{asked:?}, {ended:?}");
        assert!(
            asked
                .iter()
                .all(|line| line.starts_with("get /api2/json/nodes/n1/tasks/upid%3an1")),
            "{asked:?}"
        );
        ended
    }

    #[test]
    fn a_task_is_followed_while_the_daemons_behind_the_proxy_start_again() {
        let nobody = |status| (status, "text/html", "");
        let answers = [RUNS, LOG, nobody(595), RUNS, nobody(500), nobody(599), ENDED, LOG];
        assert_eq!(ended(&answers), Ok("VM quit/powerdown failed".to_owned()));
    }

    #[test]
    fn a_task_is_followed_no_longer_when_the_answer_is_a_refusal_or_none() {
        let refused: Told = (403, JSON, "{\"data\":null,\"message\":\"Permission check failed\\n\"}");
        assert_eq!(
            ended(&[RUNS, LOG, refused]),
            Err("403 Permission check failed".to_owned())
        );
        let page: Told = (200, "text/html", "<html>");
        let empty: Told = (200, JSON, "{}");
        for answers in [&[page][..], &[RUNS, page], &[empty, LOG]] {
            let said = ended(answers).unwrap_err();
            assert!(
                said.ends_with("does not answer as the API does - is it pveproxy?"),
                "{said}"
            );
        }
    }
}
