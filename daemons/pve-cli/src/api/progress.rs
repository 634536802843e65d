//! That something goes on, while a task says nothing: `running 1:05  42%` on the last line of a terminal. Where either standard output
//! or standard error is none, nothing of it is printed.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How long a task may be silent before anything is shown.
const SILENCE: Duration = Duration::from_secs(2);
/// How often the line changes.
const EVERY: Duration = Duration::from_secs(1);
/// To the beginning of the line, and nothing behind it (ECMA-48 §8.3.41).
const CLEAR: &str = "\r\x1b[K";

/// The line.
#[derive(Debug)]
pub(crate) struct Progress {
    is_wanted: bool,
    started: Instant,
    /// When the task last said something.
    spoken: Instant,
    /// When the line was last written, if it stands there.
    shown: Option<Instant>,
    /// How far the task last said it is.
    share: Option<String>,
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        let now = Instant::now();
        Self {
            is_wanted: !quiet && is_seen(),
            started: now,
            spoken: now,
            shown: None,
            share: None,
        }
    }

    /// The task said something, which is printed next.
    pub(crate) fn speaks(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        self.clear();
        self.spoken = Instant::now();
        if let Some(share) = share(&String::from_utf8_lossy(text)) {
            self.share = Some(share);
        }
    }

    /// Time passes.
    pub(crate) fn tick(&mut self) {
        let is_due = self.shown.is_none_or(|shown| shown.elapsed() >= EVERY);
        if self.is_wanted && self.spoken.elapsed() >= SILENCE && is_due {
            let text = line(self.started.elapsed(), self.share.as_deref());
            write(&format!("{CLEAR}{text}"));
            self.shown = Some(Instant::now());
        }
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if self.shown.take().is_some() {
            write(CLEAR);
        }
    }
}

/// Takes the line away for somebody who does not know whether it is there, and ends the program.
pub(crate) fn clear_line() {
    if is_seen() {
        write(CLEAR);
    }
}

fn is_seen() -> bool {
    io::stdout().is_terminal() && io::stderr().is_terminal()
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Whether it can be written does not matter to the task.
fn write(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

fn line(elapsed: Duration, share: Option<&str>) -> String {
    let seconds = elapsed.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let time = match hours {
        0 => format!("{minutes}:{seconds:02}"),
        hours => format!("{hours}:{minutes:02}:{seconds:02}"),
    };
    match share {
        Some(share) => format!("running {time}  {share}"),
        None => format!("running {time}"),
    }
}

/// The last percentage of a text.
fn share(text: &str) -> Option<String> {
    let end = text.rfind('%')?;
    let before = text.get(..end)?;
    let digits = before.len() - before.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let number = before.get(end.checked_sub(digits)?..)?;
    let is_share = number
        .parse::<f64>()
        .is_ok_and(|number| (0.0..=100.0).contains(&number));
    is_share.then(|| format!("{number}%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is_is_what_was_said_last() {
        for (text, expected) in [
            (
                "INFO:  12% (1.0 GiB of 8.0 GiB)\nINFO:  34.5% (2.8 GiB)\n",
                Some("34.5%"),
            ),
            ("100%", Some("100%")),
            ("no share", None),
            ("%", None),
            ("x%", None),
            ("4711%", None),
            ("1.2.3%", None),
        ] {
            assert_eq!(share(text).as_deref(), expected, "{text}");
        }
        assert_eq!(line(Duration::from_secs(65), Some("42%")), "running 1:05  42%");
        assert_eq!(line(Duration::from_secs(3725), None), "running 1:02:05");
    }
}
