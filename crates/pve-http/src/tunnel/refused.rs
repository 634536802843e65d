//! Why there is no tunnel, and what the viewer is told (reference 01 §3.2, §3.4, §4.6).

use std::time::{Duration, UNIX_EPOCH};

use pve_access::AccessError;

use super::request::HeadError;
use crate::SERVER_NAME;
use crate::refusal::Refusal;

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// The request has no head.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// What every server of the suite refuses in the same way.
    #[error(transparent)]
    Http(#[from] Refusal),
    /// The ticket is not good, or the secret behind it cannot be read.
    #[error("{0}")]
    Access(#[from] AccessError),
    /// `/etc/pve` does not say where the guest's node is.
    #[error(transparent)]
    Cfs(#[from] pve_cfs::CfsError),
    /// The ticket is good, and its port is none of SPICE's: nobody is answered.
    #[error("SPICE Port {0} is not in allowed range (61000, 61999)")]
    Port(u16),
    /// Another node sent the viewer here, and here is not the guest's node either.
    #[error("proxy loop detected")]
    Loop,
    /// No connection to the guest or its node.
    #[error("connect to '{target}' failed: {reason}")]
    Unreachable {
        /// The address, as people know it.
        target: String,
        /// What the system said.
        reason: String,
    },
    /// The guest's node refused; its status line.
    #[error("{line}")]
    Remote {
        /// The status line.
        line: String,
        /// The status in it.
        status: u16,
    },
    /// Something here broke or hangs.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl Refused {
    /// The status: of the answer, or of the log where there is none.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Head(error) => error.status(),
            Self::Http(refusal) => refusal.status().as_u16(),
            Self::Access(AccessError::InvalidSpiceTicket) => 401,
            Self::Access(_) | Self::Cfs(_) | Self::Port(_) | Self::Loop | Self::Internal(_) => 500,
            Self::Unreachable { .. } => 502,
            Self::Remote { status, .. } => *status,
        }
    }

    /// The answer, and the length of its body for the log. `None`: the connection is closed without a word.
    pub(super) fn answer(&self, minor: u8, now: i64) -> Option<(String, Option<u64>)> {
        let body = match self {
            Self::Port(_) => return None,
            Self::Remote { line, .. } => return Some((format!("{line}\r\n\r\n"), None)),
            Self::Http(refusal) => refusal.body(),
            // What broke is for the log.
            Self::Access(error) if !matches!(error, AccessError::InvalidSpiceTicket) => "internal error".to_owned(),
            other => other.to_string(),
        };
        let reason = match self {
            Self::Http(refusal) => refusal.to_string(),
            _ => body.clone(),
        };
        let reason: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let since = Duration::from_secs(u64::try_from(now).unwrap_or_default());
        let date = httpdate::fmt_http_date(UNIX_EPOCH + since);
        let length = body.len();
        let text = format!(
            "HTTP/1.{minor} {} {reason}\r\nCache-Control: max-age=0\r\nConnection: close\r\nDate: {date}\r\n\
             Pragma: no-cache\r\nServer: {SERVER_NAME}\r\nContent-Length: {length}\r\nExpires: {date}\r\n\r\n{body}",
            self.status()
        );
        Some((text, u64::try_from(length).ok().filter(|length| *length > 0)))
    }
}
