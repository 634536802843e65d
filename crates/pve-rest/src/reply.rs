//! What a handler answers.

use std::path::PathBuf;

use serde_json::Value;

/// What a handler answers.
#[derive(Debug, Default)]
pub struct Reply {
    /// The `data` of the envelope.
    pub data: Value,
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
    pub content: Vec<u8>,
    /// `Content-Type`.
    pub content_type: String,
    /// `Content-Encoding`, when the bytes are compressed already.
    pub content_encoding: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
}

/// What a websocket is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP port on the site's loopback address.
    Port(u16),
    /// A Unix socket.
    Socket(PathBuf),
}
