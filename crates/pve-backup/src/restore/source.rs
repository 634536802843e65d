//! The archive as a stream: a file, or what a decompressor makes of it.
//!
//! A read ends when bytes are there, somebody wants the restore to stop, or its deadline has passed. The reason is kept
//! beside the error that the reader of the archive makes of it.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pve_schema::shell::quote;

use super::error::RestoreError;
use super::talk::{LOOK, Talk};
use super::throttle::Throttle;

/// How long an archive's header may take (reference 05 §15).
const HEADER: Duration = Duration::from_secs(60);
/// How long an archive may be silent then: a storage that has hung is not waited for, a slow one is.
const SILENCE: Duration = Duration::from_secs(600);
/// How long a decompressor may take to end once its output has ended.
const END: Duration = Duration::from_secs(30);
/// Bytes that are read at once under a limit.
const PART: usize = 64 << 10;
/// How much of a decompressor's words is told.
const MAX_WORDS: u64 = 4096;

/// Why a read did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Interrupted,
    Header,
    Silence,
}

/// What the stream and its owner both know.
#[derive(Debug, Default)]
pub(super) struct State {
    stop: Cell<Option<Stop>>,
    header_read: Cell<bool>,
}

impl State {
    /// The header is there: from now on there is no limit but on silence.
    pub(super) fn header_is_read(&self) {
        self.header_read.set(true);
    }

    /// The reason for an error, if it is not the archive's own fault.
    pub(super) fn reason(&self) -> Option<RestoreError> {
        Some(match self.stop.get()? {
            Stop::Interrupted => RestoreError::Interrupted,
            Stop::Header => RestoreError::HeaderTimeout,
            Stop::Silence => RestoreError::Stalled,
        })
    }
}

/// The archive as a stream.
pub(super) struct Source<'a> {
    input: Input,
    /// The limit, where this reads the file itself.
    throttle: Option<Throttle>,
    talk: &'a Talk<'a>,
    state: Rc<State>,
    header_deadline: Instant,
}

enum Input {
    File(File),
    Pipe(Box<Decompressor>),
}

impl<'a> Source<'a> {
    /// Opens an archive. `limit` in KiB per second is for the file as it is on its storage.
    pub(super) fn open(
        path: &Path,
        decompressor: Option<&[&str]>,
        limit: Option<f64>,
        talk: &'a Talk<'a>,
    ) -> Result<Self, RestoreError> {
        let file = open_file(path)?;
        let throttle = limit.map(|limit| Throttle::new(limit, Instant::now()));
        let (input, throttle) = match decompressor {
            Some(argv) => (
                Input::Pipe(Box::new(Decompressor::start(argv, path, file, throttle)?)),
                None,
            ),
            None => (Input::File(file), throttle),
        };
        Ok(Self {
            input,
            throttle,
            talk,
            state: Rc::default(),
            header_deadline: Instant::now() + HEADER,
        })
    }

    pub(super) fn state(&self) -> Rc<State> {
        Rc::clone(&self.state)
    }

    /// All was read: whether the decompressor is content, too.
    pub(super) fn finish(self) -> Result<(), RestoreError> {
        match self.input {
            Input::File(_) => Ok(()),
            Input::Pipe(decompressor) => decompressor.finish(),
        }
    }

    /// What the decompressor says of a stream that was cut short.
    pub(super) fn complaint(self) -> Option<RestoreError> {
        match self.input {
            Input::File(_) => None,
            Input::Pipe(decompressor) => decompressor.complaint(),
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        let silent_until = Instant::now() + SILENCE;
        loop {
            if self.talk.is_interrupted() {
                return Err(self.stop(Stop::Interrupted));
            }
            let now = Instant::now();
            if !self.state.header_read.get() && now >= self.header_deadline {
                return Err(self.stop(Stop::Header));
            }
            if now >= silent_until {
                return Err(self.stop(Stop::Silence));
            }
            let fd = match &self.input {
                Input::File(_) => return Ok(()),
                Input::Pipe(decompressor) => decompressor.stdout.as_fd(),
            };
            if is_readable(fd)? {
                return Ok(());
            }
        }
    }

    fn stop(&self, stop: Stop) -> io::Error {
        self.state.stop.set(Some(stop));
        io::Error::other("stopped")
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait()?;
        let limit = if self.throttle.is_some() { PART } else { buffer.len() };
        let part = buffer.get_mut(..limit.min(buffer.len())).unwrap_or_default();
        let part_len = part.len();
        let got = match &mut self.input {
            Input::File(file) => file.read(part)?,
            Input::Pipe(decompressor) => decompressor.stdout.read(part)?,
        };
        debug_assert!(got <= part_len);
        let pause = self
            .throttle
            .as_mut()
            .map(|throttle| throttle.pause(got, Instant::now()));
        if let Some(pause) = pause
            && !self.talk.sleep(pause)
        {
            return Err(self.stop(Stop::Interrupted));
        }
        Ok(got)
    }
}

fn is_readable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO);
    match poll(&mut fds, timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Opens a regular file; a pipe is not waited for.
fn open_file(path: &Path) -> Result<File, RestoreError> {
    let failed = |source| RestoreError::Open {
        path: path.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let file = options.open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_file() {
        Ok(file)
    } else {
        Err(RestoreError::NotAFile(path.to_owned()))
    }
}

/// A decompressor; it is killed when this is dropped.
struct Decompressor {
    child: Child,
    stdout: ChildStdout,
    command: String,
    feeder: Option<Feeder>,
}

impl Decompressor {
    fn start(argv: &[&str], path: &Path, file: File, throttle: Option<Throttle>) -> Result<Self, RestoreError> {
        let (program, arguments) = argv.split_first().unwrap_or((&"cat", &[]));
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        match throttle {
            Some(_) => command.stdin(Stdio::piped()),
            None => command.arg(path).stdin(Stdio::null()),
        };
        let failed = |source| RestoreError::Decompressor {
            program: (*program).to_owned(),
            source,
        };
        let mut child = command.spawn().map_err(failed)?;
        let feeder = child
            .stdin
            .take()
            .zip(throttle)
            .map(|(stdin, throttle)| Feeder::start(file, stdin, throttle));
        let Some(stdout) = child.stdout.take() else {
            return Err(failed(io::Error::other("no output")));
        };
        Ok(Self {
            child,
            stdout,
            command: command_line(argv, path),
            feeder,
        })
    }

    fn finish(mut self) -> Result<(), RestoreError> {
        let status = self.wait();
        match status {
            Some(status) if status.success() => Ok(()),
            _ => Err(self.failure(status)),
        }
    }

    /// What it says, if it ended by itself and not well.
    fn complaint(mut self) -> Option<RestoreError> {
        // It ends on its own only if its output does.
        let ended = is_readable(self.stdout.as_fd()).ok()? && self.stdout.read(&mut [0]).ok()? == 0;
        let status = ended.then(|| self.wait())??;
        (!status.success()).then(|| self.failure(Some(status)))
    }

    fn wait(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + END;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                _ => return None,
            }
        }
    }

    fn failure(&mut self, status: Option<ExitStatus>) -> RestoreError {
        let words = match (self.child.stderr.take(), status) {
            (Some(stderr), Some(_)) => words(stderr),
            _ => String::new(),
        };
        RestoreError::decompress(self.command.clone(), status, &words)
    }
}

impl Drop for Decompressor {
    fn drop(&mut self) {
        if let Some(feeder) = &self.feeder {
            feeder.stop.store(true, Ordering::Relaxed);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(thread) = self.feeder.take().and_then(|feeder| feeder.thread) {
            let _ = thread.join();
        }
    }
}

/// What a program that has ended has said.
fn words(stderr: ChildStderr) -> String {
    let mut words = Vec::new();
    let _ = stderr.take(MAX_WORDS).read_to_end(&mut words);
    String::from_utf8_lossy(&words).into_owned()
}

/// The command as a shell would take it.
pub(super) fn command_line(argv: &[&str], path: &Path) -> String {
    format!("{} {}", argv.join(" "), quote(&path.to_string_lossy()))
}

/// Feeds a decompressor at a limited rate.
struct Feeder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feeder {
    fn start(mut file: File, mut stdin: ChildStdin, mut throttle: Throttle) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let feed = move || {
            let mut buffer = vec![0; PART];
            // An archive that cannot be read any further is one that ends early; a decompressor that has ended says why.
            while let Ok(got @ 1..) = file.read(&mut buffer) {
                if stdin.write_all(buffer.get(..got).unwrap_or_default()).is_err() {
                    return;
                }
                let end = Instant::now() + throttle.pause(got, Instant::now());
                while Instant::now() < end {
                    if seen.load(Ordering::Relaxed) {
                        return;
                    }
                    std::thread::sleep(end.saturating_duration_since(Instant::now()).min(LOOK));
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("restore-feed".to_owned())
            .spawn(feed)
            .ok();
        Self { stop, thread }
    }
}

/// The directory that upstream's command line names.
pub(super) fn scratch() -> PathBuf {
    PathBuf::from(format!("/var/tmp/vzdumptmp{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use pve_qemu::journal::{Journal, SystemLog};

    use super::*;

    const LINE: [&str; 4] = ["sh", "-c", "exec sleep 100", "x"];

    fn archive() -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"content").unwrap();
        file
    }

    #[test]
    fn an_archive_that_says_nothing_is_not_waited_for() {
        let file = archive();
        let mut journal = SystemLog;
        let talk = Talk::new(&mut journal);
        let mut source = Source::open(file.path(), Some(&LINE), None, &talk).unwrap();
        source.header_deadline = Instant::now() + Duration::from_millis(50);
        source.read(&mut [0; 10]).unwrap_err();
        let reason = source.state().reason().unwrap().to_string();
        assert_eq!(reason, "got timeout reading VMA header - corrupted?");
        // It is no fault of the program, which is gone when this is dropped.
        assert!(source.complaint().is_none());
    }

    struct Stopped;

    impl Journal for Stopped {
        fn log(&mut self, _line: &str) {}

        fn warn(&mut self, _line: &str) {}

        fn is_interrupted(&self) -> bool {
            true
        }
    }

    #[test]
    fn an_interrupt_ends_a_wait() {
        let file = archive();
        let mut journal = Stopped;
        let talk = Talk::new(&mut journal);
        let mut source = Source::open(file.path(), Some(&LINE), Some(1.0), &talk).unwrap();
        source.read(&mut [0; 10]).unwrap_err();
        assert_eq!(source.state().reason().unwrap().to_string(), "interrupted by signal");
    }

    #[test]
    fn only_files_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("p");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [pipe.as_path(), directory.path()] {
            let error = open_file(path).unwrap_err().to_string();
            assert_eq!(error, format!("archive '{}' is not a file", path.display()));
        }
    }

    #[test]
    fn a_missing_decompressor_is_named() {
        let file = archive();
        let mut journal = SystemLog;
        let talk = Talk::new(&mut journal);
        let missing = Source::open(file.path(), Some(&["no-such-program", "-d"]), None, &talk).err();
        assert_eq!(
            missing.unwrap().to_string(),
            "unable to run 'no-such-program' - No such file or directory (is the package installed?)"
        );
    }
}
