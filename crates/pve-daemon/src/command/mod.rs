//! Commands as values, and the one small runner that executes them.
//!
//! A [`Command`] says what is to be run: program, arguments, environment, input and deadline. Pure functions make
//! them (tests look at them as data), [`Command::run`] executes them. A command inherits the caller's process group, so
//! that whoever stops a task stops its commands too; on its deadline it alone is asked to end and then killed.
//!
//! What is not here: shells, pipelines between commands, and long-running children that outlive the call.

mod child;
mod error;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use pve_schema::shell::quote;

use child::{Feeder, Reader};
pub use error::CommandError;

/// How much a command may write to each of its outputs before it is stopped: far beyond any answer that the suite
/// reads whole, and small beside a node's memory. Callers who expect more say so.
const OUTPUT_LIMIT: usize = 64 << 20;

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    inherits: bool,
    input: Vec<u8>,
    deadline: Duration,
    output_limit: usize,
}

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a command that ended left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text; bytes that are no UTF-8 become the replacement character.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text, without white space around it.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}

impl Command {
    /// A program without arguments that may run for `deadline`.
    pub fn new(program: impl Into<PathBuf>, deadline: Duration) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            inherits: true,
            input: Vec::new(),
            deadline,
            output_limit: OUTPUT_LIMIT,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I>(mut self, arguments: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// The command sees no variable of the caller's environment, only those that are set with [`Command::env`].
    #[must_use]
    pub fn clean_environment(mut self) -> Self {
        self.inherits = false;
        self
    }

    /// Sets a variable of the environment, which is the caller's otherwise.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// What the command reads from standard input: nothing unless set.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Sets how many bytes each output stream may carry.
    #[must_use]
    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The arguments, without the program.
    pub fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    /// Runs the command to its end and keeps what it writes.
    ///
    /// # Errors
    /// Whatever keeps it from ending with code 0 before its deadline.
    pub fn run(&self) -> Result<Output, CommandError> {
        self.run_lines(&mut |_, _| ())
    }

    /// Runs the command to its end and hands over each line as it comes, without its line feed.
    ///
    /// # Errors
    /// As [`Command::run`].
    pub fn run_lines(&self, on_line: &mut dyn FnMut(Stream, &str)) -> Result<Output, CommandError> {
        self.run_lines_once_ready(&mut |_| Ok(()), on_line)
    }

    /// As [`Command::run_lines`], but does something about the new process, whose number it is told, before that gets any
    /// of its input.
    ///
    /// # Errors
    /// As [`Command::run`], and what `ready` fails with; the process is ended then.
    pub fn run_lines_once_ready(
        &self,
        ready: &mut dyn FnMut(u32) -> io::Result<()>,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Output, CommandError> {
        let output = self.outcome_lines(ready, on_line)?;
        if output.status.success() {
            return Ok(output);
        }
        let command = self.to_string();
        let stderr = output.stderr_text();
        Err(match output.status.code() {
            Some(code) => CommandError::ExitCode { command, code, stderr },
            None => {
                let signal = output.status.signal().unwrap_or_default();
                CommandError::Signal {
                    command,
                    signal,
                    stderr,
                }
            }
        })
    }

    /// Runs the command to its end, whatever its exit code: for commands whose code is an answer.
    ///
    /// # Errors
    /// When it cannot be started, misses its deadline or writes too much.
    pub fn outcome(&self) -> Result<Output, CommandError> {
        self.outcome_lines(&mut |_| Ok(()), &mut |_, _| ())
    }

    fn outcome_lines(
        &self,
        ready: &mut dyn FnMut(u32) -> io::Result<()>,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Output, CommandError> {
        let stdin = if self.input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        };
        let mut command = std::process::Command::new(&self.program);
        if !self.inherits {
            command.env_clear();
        }
        let mut child = command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| CommandError::Execute {
                command: self.to_string(),
                source,
            })?;
        let followed = match ready(child.id()) {
            Ok(()) => self.follow(&mut child, on_line),
            Err(source) => Err(self.io(source)),
        };
        // An ended child is only reaped by this; one that is still there has been given up on.
        if followed.is_err() {
            child::end(&mut child);
        }
        let status = child.wait().map_err(|source| self.io(source))?;
        let (stdout, stderr) = followed?;
        Ok(Output { status, stdout, stderr })
    }

    /// Feeds the child and reads from it until it ends.
    ///
    /// The end is the child's own: a grandchild that keeps a pipe open keeps nobody waiting.
    fn follow(
        &self,
        child: &mut Child,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> Result<(Vec<u8>, Vec<u8>), CommandError> {
        let io = |source| self.io(source);
        let started = Instant::now();
        let exit = child::pid_fd(child).map_err(io)?;
        let mut feeder = Feeder::new(child, &self.input).map_err(io)?;
        let mut stdout = Reader::new(child.stdout.take(), Stream::Stdout).map_err(io)?;
        let mut stderr = Reader::new(child.stderr.take(), Stream::Stderr).map_err(io)?;
        loop {
            let left = self.deadline.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(CommandError::Timeout {
                    command: self.to_string(),
                });
            }
            let ended = child::wait_for_any(&exit, &feeder, &stdout, &stderr, left).map_err(io)?;
            feeder.write_some();
            let more = stdout.read_some(on_line).map_err(io)? | stderr.read_some(on_line).map_err(io)?;
            if stdout.bytes.len().max(stderr.bytes.len()) > self.output_limit {
                return Err(CommandError::TooMuchOutput {
                    command: self.to_string(),
                    limit: self.output_limit,
                });
            }
            // What an ended child has left in the pipes is read to the last byte.
            if ended && !more {
                stdout.finish(on_line);
                stderr.finish(on_line);
                return Ok((stdout.bytes, stderr.bytes));
            }
        }
    }

    fn io(&self, source: io::Error) -> CommandError {
        CommandError::Io {
            command: self.to_string(),
            source,
        }
    }
}

impl fmt::Display for Command {
    /// The command line as a shell would take it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote(&self.program.to_string_lossy()))?;
        for argument in &self.arguments {
            write!(f, " {}", quote(&argument.to_string_lossy()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::*;

    fn shell(script: &str, seconds: u64) -> Command {
        Command::new("/bin/sh", Duration::from_secs(seconds)).args(["-c", script])
    }

    #[test]
    fn both_streams_and_their_lines_are_kept() {
        let mut lines = Vec::new();
        let output = shell("echo one; echo two >&2; printf last", 10)
            .run_lines(&mut |stream, line| lines.push((stream, line.to_owned())))
            .unwrap();
        assert_eq!(output.stdout_text(), "one\nlast");
        assert_eq!(output.stderr_text(), "two");
        lines.sort_by_key(|(stream, _)| *stream == Stream::Stderr);
        let expected = [
            (Stream::Stdout, "one"),
            (Stream::Stdout, "last"),
            (Stream::Stderr, "two"),
        ];
        assert_eq!(lines, expected.map(|(stream, line)| (stream, line.to_owned())));
    }

    #[test]
    fn an_exit_code_is_an_error_that_carries_what_was_said() {
        let error = shell("echo 'no room' >&2; exit 3", 10).run().unwrap_err();
        assert_eq!(error.detail(), "no room");
        let text = error.to_string();
        assert_eq!(
            text,
            r"command '/bin/sh -c 'echo '\''no room'\'' >&2; exit 3'' failed: exit code 3"
        );
        assert_eq!(shell("exit 3", 10).outcome().unwrap().status.code(), Some(3));
    }

    #[test]
    fn a_signal_and_a_missing_program_are_told_apart() {
        let error = shell("kill -9 $$", 10).run().unwrap_err();
        assert!(matches!(error, CommandError::Signal { signal: 9, .. }), "{error}");
        let error = Command::new("/nonexistent/tool", Duration::from_secs(1))
            .run()
            .unwrap_err();
        assert!(matches!(error, CommandError::Execute { .. }), "{error}");
    }

    #[test]
    fn the_deadline_ends_a_command_even_when_it_ignores_sigterm() {
        let started = Instant::now();
        let script = "trap '' TERM; while :; do sleep 1; done";
        let error = Command::new("/bin/sh", Duration::from_millis(200))
            .args(["-c", script])
            .run()
            .unwrap_err();
        assert!(error.is_timeout());
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn input_larger_than_a_pipe_goes_through() {
        let input = vec![b'x'; 1 << 20];
        let command = Command::new("/bin/cat", Duration::from_secs(10)).input(input.clone());
        assert_eq!(command.run().unwrap().stdout, input);
        // One that reads nothing is no failure.
        Command::new("/bin/true", Duration::from_secs(10))
            .input(input)
            .run()
            .unwrap();
    }

    #[test]
    fn a_process_waits_for_its_input_until_it_is_ready() {
        let command = shell("read -r line; echo $$ $line", 10).input("go\n");
        let mut pid = 0;
        let output = command.run_lines_once_ready(
            &mut |id| {
                pid = id;
                Ok(())
            },
            &mut |_, _| (),
        );
        assert_eq!(output.unwrap().stdout_text(), format!("{pid} go\n"));
        let error = command.run_lines_once_ready(
            &mut |id| {
                pid = id;
                Err(io::Error::other("not so"))
            },
            &mut |_, _| (),
        );
        assert!(matches!(error, Err(CommandError::Io { .. })));
        let gone = kill(Pid::from_raw(pid.try_into().unwrap()), None);
        assert_eq!(gone, Err(nix::errno::Errno::ESRCH));
    }

    #[test]
    fn endless_output_is_stopped() {
        let error = shell("while :; do echo xxxxxxxxxxxxxxxx; done", 20)
            .output_limit(10_000)
            .run();
        assert!(matches!(error, Err(CommandError::TooMuchOutput { limit: 10_000, .. })));
    }

    #[test]
    fn a_grandchild_that_keeps_the_pipe_open_keeps_nobody_waiting() {
        let started = Instant::now();
        let output = shell("sleep 30 & echo $!", 20).run().unwrap();
        assert!(started.elapsed() < Duration::from_secs(15));
        let pid = output.stdout_text().trim().parse().unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
}
