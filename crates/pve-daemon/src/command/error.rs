//! Why a command did not do its work.

use std::io;

use pve_schema::Failure;

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The program could not be started.
    #[error("command '{command}' failed: failed to execute - {source}")]
    Execute {
        /// The command line.
        command: String,
        /// What the system says.
        source: io::Error,
    },
    /// It ended with another code than 0.
    #[error("command '{command}' failed: exit code {code}")]
    ExitCode {
        /// The command line.
        command: String,
        /// The code.
        code: i32,
        /// What it wrote to standard error, trimmed.
        stderr: String,
    },
    /// A signal ended it.
    #[error("command '{command}' failed: got signal {signal}")]
    Signal {
        /// The command line.
        command: String,
        /// The signal's number.
        signal: i32,
        /// What it wrote to standard error, trimmed.
        stderr: String,
    },
    /// It missed its deadline and was stopped.
    #[error("command '{command}' failed: got timeout")]
    Timeout {
        /// The command line.
        command: String,
    },
    /// It wrote more than allowed and was stopped.
    #[error("command '{command}' failed: output exceeds {limit} bytes")]
    TooMuchOutput {
        /// The command line.
        command: String,
        /// Bytes allowed per stream.
        limit: usize,
    },
    /// Talking to it failed.
    #[error("command '{command}' failed: {source}")]
    Io {
        /// The command line.
        command: String,
        /// What the system says.
        source: io::Error,
    },
}

impl CommandError {
    /// What the command itself said on standard error; without such words the error's own text.
    pub fn detail(&self) -> String {
        match self {
            Self::ExitCode { stderr, .. } | Self::Signal { stderr, .. } if !stderr.is_empty() => stderr.clone(),
            _ => self.to_string(),
        }
    }

    /// Whether the command missed its deadline.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }
}

impl Failure for CommandError {}
