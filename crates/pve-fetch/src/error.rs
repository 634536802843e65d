//! What can go wrong when others are asked.

use std::io::ErrorKind;

/// There is no answer. The texts name the server, never path or query.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A setting that is no URL of a proxy.
    #[error("'{0}' is no URL of a proxy - check 'http_proxy' in /etc/pve/datacenter.cfg")]
    Proxy(String),
    /// The name is not known.
    #[error("can't find {0} - name lookup failed")]
    Unknown(String),
    /// The server took too long.
    #[error("{0} does not answer - timeout")]
    Timeout(String),
    /// The connection, or TLS on it, failed.
    #[error("can't connect to {server} - {reason}")]
    Connect {
        /// Host and port.
        server: String,
        /// The system's or the TLS library's words.
        reason: String,
    },
    /// An answer that is longer than is taken.
    #[error("{0} answers more than is taken")]
    TooLarge(String),
    /// The request or the answer is not as HTTP wants it.
    #[error("no proper answer from {server} - {reason}")]
    Protocol {
        /// Host and port.
        server: String,
        /// The HTTP library's words.
        reason: String,
    },
}

impl FetchError {
    pub(crate) fn of(server: &str, error: ureq::Error) -> Self {
        let server = server.to_owned();
        match error {
            ureq::Error::HostNotFound => Self::Unknown(server),
            ureq::Error::Timeout(_) => Self::Timeout(server),
            ureq::Error::BodyExceedsLimit(_) => Self::TooLarge(server),
            ureq::Error::Io(error) if error.kind() == ErrorKind::TimedOut => Self::Timeout(server),
            ureq::Error::Io(_) | ureq::Error::ConnectionFailed | ureq::Error::Rustls(_) | ureq::Error::Tls(_) => {
                Self::Connect {
                    server,
                    reason: error.to_string(),
                }
            }
            error => Self::Protocol {
                server,
                reason: error.to_string(),
            },
        }
    }
}
