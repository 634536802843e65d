//! What can go wrong when others are asked.

use std::io::ErrorKind;

/// There is no answer. The texts name the server, and the proxy on the way to it; never path, query or password.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A setting that is no URL of a proxy for HTTP.
    #[error("'{0}' is no URL of an HTTP proxy - check 'http_proxy' in /etc/pve/datacenter.cfg")]
    Proxy(String),
    /// The one certificate that is to be trusted cannot be read.
    #[error("the certificate to be trusted is none - {0}")]
    Certificate(String),
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
    /// What the HTTP library's error means; `proxy` is the one that it goes through, host and port.
    pub(crate) fn of(server: &str, proxy: Option<&str>, error: ureq::Error) -> Self {
        if is_unknown_name(&error) {
            // It is the proxy that looks up the server.
            return Self::Unknown(proxy.unwrap_or(server).to_owned());
        }
        let server = match proxy {
            Some(proxy) => format!("{server} through the proxy {proxy}"),
            None => server.to_owned(),
        };
        match error {
            ureq::Error::Timeout(_) => Self::Timeout(server),
            ureq::Error::BodyExceedsLimit(_) => Self::TooLarge(server),
            ureq::Error::Io(error) if error.kind() == ErrorKind::TimedOut => Self::Timeout(server),
            ureq::Error::Io(_) | ureq::Error::ConnectionFailed | ureq::Error::Rustls(_) | ureq::Error::Tls(_) => {
                Self::Connect {
                    server,
                    reason: error.to_string(),
                }
            }
            // Its text has all of the URL.
            ureq::Error::BadUri(_) => Self::Protocol {
                server,
                reason: "the URL cannot be asked".to_owned(),
            },
            error => Self::Protocol {
                server,
                reason: error.to_string(),
            },
        }
    }
}

/// The standard library has no kind for failures of the resolver, only these words and no number of the system's.
fn is_unknown_name(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::HostNotFound => true,
        ureq::Error::Io(error) => {
            error.raw_os_error().is_none() && error.to_string().starts_with("failed to lookup address")
        }
        _ => false,
    }
}
