//! What can go wrong with metric servers.

use pve_cfs::CfsError;
use pve_schema::Failure;
use pve_schema::digest::Modified;
use pve_schema::section_config::{OptionError, WriteError};

/// A change, or a question about the servers, that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A file cannot be read or written, or its lock not be had.
    #[error(transparent)]
    Cfs(#[from] CfsError),
    /// An option cannot be set or removed.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The file cannot be written like that.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Somebody changed the file meanwhile.
    #[error(transparent)]
    Modified(#[from] Modified),
    /// To be added, and there already.
    #[error("Metric server '{0}' already exists")]
    Exists(String),
    /// To be changed, and not there.
    #[error("no such server '{0}'")]
    NoSuchServer(String),
    /// To be shown, and not there.
    #[error("status server entry '{0}' does not exist")]
    NoSuchEntry(String),
    /// An option that holds something else than it should.
    #[error("invalid value for option '{key}' - {reason}")]
    Value {
        /// The option.
        key: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// The secret would go elsewhere than it was set for.
    #[error("the token must be set again (or deleted) when {0} changes")]
    TokenWanted(&'static str),
    /// The server cannot be reached, or refuses.
    #[error("{0}")]
    Test(#[source] SendError),
    /// An OpenTelemetry collector cannot be reached, or refuses.
    #[error("Connection test failed: {0}")]
    CollectorTest(#[source] SendError),
}

impl Failure for ServerError {}

/// A server was not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No socket to it.
    #[error("couldn't create {service} socket [{host}]:{port} - {reason}")]
    Socket {
        /// What it was to be, `carbon` or `influxdb`.
        service: &'static str,
        /// Its name or address.
        host: String,
        /// Its port.
        port: u32,
        /// Why not.
        reason: String,
    },
    /// The socket broke, or nobody took what was written.
    #[error("{0}")]
    Broken(String),
    /// It answered, and not that all is well: the status line.
    #[error("{code} {reason}")]
    Status {
        /// The status.
        code: u16,
        /// Its usual words.
        reason: &'static str,
    },
    /// There was no answer.
    #[error("500 {0}")]
    NoAnswer(String),
    /// It is not to be told any more.
    #[error("it is told no more")]
    Dismissed,
}

impl SendError {
    /// Whether it was not even reached.
    pub fn is_connection(&self) -> bool {
        matches!(self, Self::Socket { .. })
    }

    /// Whether it is better left alone for a while. One that refuses what it is told answers at once, and may well take
    /// what it is told next.
    pub fn asks_for_a_pause(&self) -> bool {
        const TOO_MANY: u16 = 429;
        match self {
            Self::Status { code, .. } => *code >= 500 || *code == TOO_MANY,
            _ => true,
        }
    }
}
