//! What a handler answers.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use serde_json::Value;

/// What a handler answers.
#[derive(Debug, Default)]
pub struct Reply {
    /// The `data` of the envelope.
    pub data: Value,
    /// [`Reply::data`] as JSON that is written already, instead of it: for lists that would need gigabytes as values.
    pub text: Option<String>,
    /// Number of rows in all, where `data` is a part of them.
    pub total: Option<u64>,
    /// Pending changes as text (network configuration).
    pub changes: Option<String>,
    /// A file instead of the envelope; only methods that the contract flags may answer so.
    pub download: Option<Download>,
    /// Where a websocket is to be connected, if the client asked for one.
    pub websocket: Option<Endpoint>,
}

impl Reply {
    /// No data.
    pub fn null() -> Self {
        Self::default()
    }

    /// Data that is JSON already.
    pub fn text(text: String) -> Self {
        Self {
            text: Some(text),
            ..Self::default()
        }
    }

    /// The same with its data as a value, for whoever has to look at it.
    #[must_use]
    pub fn settled(mut self) -> Self {
        if let Some(text) = self.text.take() {
            self.data = serde_json::from_str(&text).unwrap_or_default();
        }
        self
    }

    /// Rows, and how many there are in all.
    pub fn page(data: Value, total: u64) -> Self {
        Self {
            data,
            total: Some(total),
            ..Self::default()
        }
    }
}

impl From<Value> for Reply {
    fn from(data: Value) -> Self {
        Self {
            data,
            ..Self::default()
        }
    }
}

/// A file that is sent instead of the envelope.
#[derive(Debug)]
pub struct Download {
    /// The bytes.
    pub content: Content,
    /// `Content-Type`.
    pub content_type: String,
    /// `Content-Encoding`, when the bytes are compressed already.
    pub content_encoding: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
}

/// The bytes of a download.
pub enum Content {
    /// All of them.
    Whole(Vec<u8>),
    /// They are read while they are sent, as fast as the client takes them, on a thread that may block.
    Stream(Box<dyn Read + Send>),
}

impl fmt::Debug for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => write!(formatter, "Whole({} bytes)", bytes.len()),
            Self::Stream(_) => formatter.write_str("Stream"),
        }
    }
}

impl Content {
    /// A reader of all of it.
    pub fn into_reader(self) -> Box<dyn Read + Send> {
        match self {
            Self::Whole(bytes) => Box::new(std::io::Cursor::new(bytes)),
            Self::Stream(reader) => reader,
        }
    }
}

/// What a websocket is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP port on the site's loopback address.
    Port(u16),
    /// A Unix socket.
    Socket(PathBuf),
}
