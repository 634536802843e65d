//! `journalctl`, read entry by entry, as fast as they are wanted.

use std::io::{self, BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::JournalError;
use super::entry::{Entry, FIELDS};

/// How long the next entry may take: journals of many gigabytes on a slow disk are searched for it.
const DEADLINE: Duration = Duration::from_secs(60);
/// An entry that is longer is left out: no line of a log is.
const MAX_ENTRY: usize = 1 << 20;

/// A running `journalctl`; it ends with this.
#[derive(Debug)]
pub(super) struct Source {
    child: Child,
    output: BufReader<ChildStdout>,
    command: String,
    /// Whether anything came.
    has_spoken: bool,
}

impl Source {
    /// Starts it for the journal in a directory, or for the machine's.
    pub(super) fn open(directory: Option<&Path>, arguments: Vec<String>) -> Result<Self, JournalError> {
        let fields = format!("--output-fields={FIELDS}");
        let mut words = ["--no-pager", "--quiet", "--all", "--output=json", &fields]
            .map(str::to_owned)
            .to_vec();
        words.extend(directory.map(|directory| format!("--directory={}", directory.display())));
        words.extend(arguments);
        let mut child = Command::new("journalctl")
            .args(&words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(Self {
            child,
            output: BufReader::with_capacity(64 << 10, output),
            command: format!("journalctl {}", words.join(" ")),
            has_spoken: false,
        })
    }

    /// The next entry; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, JournalError> {
        let mut line = Vec::new();
        while self.read_line(&mut line)? {
            self.has_spoken = true;
            match serde_json::from_slice(&line) {
                Ok(entry) => return Ok(Some(entry)),
                Err(error) => log::warn!("an entry of the journal is left out - {error}"),
            }
        }
        let status = self.child.wait()?;
        if status.success() || self.has_spoken {
            return Ok(None);
        }
        let how = match status.code() {
            Some(code) => format!("exit code {code}"),
            None => status.to_string(),
        };
        Err(JournalError::Command(self.command.clone(), how))
    }

    /// Reads a line, of which no more than an entry's length is kept; false at the end.
    fn read_line(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        line.clear();
        let mut has_any = false;
        loop {
            if self.output.buffer().is_empty() {
                self.wait()?;
            }
            let bytes = self.output.fill_buf()?;
            if bytes.is_empty() {
                return Ok(has_any);
            }
            has_any = true;
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
            let room = MAX_ENTRY.saturating_sub(line.len()).min(part.len());
            line.extend_from_slice(part.get(..room).unwrap_or_default());
            let used = part.len() + usize::from(end.is_some());
            self.output.consume(used);
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    /// Waits until there is something to read, or the end.
    fn wait(&self) -> io::Result<()> {
        let mut descriptors = [PollFd::new(self.output.get_ref().as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(DEADLINE).unwrap_or(PollTimeout::MAX);
        match poll(&mut descriptors, limit) {
            Ok(0) => Err(io::ErrorKind::TimedOut.into()),
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
