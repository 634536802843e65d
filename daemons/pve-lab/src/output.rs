//! Many daemons, one terminal: each line with its daemon's name before it.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// How many of a daemon's last lines are kept, for the message about its failure.
const KEPT: usize = 15;
/// The longest line that is shown whole: nothing the daemons write comes near.
const LONGEST_LINE: u64 = 16 * 1024;
/// Width of the column of daemons' names, a blank included.
pub(crate) const COLUMN: usize = 13;

/// A daemon's last lines.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    /// The lines, oldest first.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Shows what comes out of a pipe until its end, in a thread of its own.
pub(crate) fn follow(name: &'static str, colour: u8, pipe: impl Read + Send + 'static, tail: &Tail) -> JoinHandle<()> {
    let tail = tail.clone();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        loop {
            let mut line = Vec::new();
            match reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            show(name, colour, &line);
            tail.push(line);
        }
    })
}

/// Shows one line; colours only where there is somebody to see them. A terminal that went away is no reason to end.
pub(crate) fn show(name: &str, colour: u8, line: &str) {
    let mut stderr = std::io::stderr().lock();
    let coloured = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let text = if coloured {
        format!("\x1b[{colour}m{name:<COLUMN$}|\x1b[0m {line}\n")
    } else {
        format!("{name:<COLUMN$}| {line}\n")
    };
    let _ = stderr.write_all(text.as_bytes());
}

/// A line of the lab's own.
pub(crate) fn say(line: &str) {
    show("lab", 1, line);
}
