//! What goes wrong on the way to a daemon or another node, and the status that tells it (reference 01 §3.8).

use std::io;

use hyper_util::client::legacy;
use pve_cfs::CfsError;
use pve_rest::ApiError;

use crate::answer::Answer;
use crate::refusal::Refusal;

/// What clients are told of a peer that is silent.
pub(super) const TIMED_OUT: &str = "Connection timed out";

/// What went wrong between us and the one who is to answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The target cannot be passed on.
    Uri,
    /// Where the node is, or its certificate, cannot be found out.
    Files(CfsError),
    /// No connection, and why.
    Connect(String),
    /// The other end is not the node, or does not speak TLS, and why.
    Tls(String),
    /// No answer in time.
    Silent,
    /// The connection broke before an answer came.
    Broken,
    /// The answer is not HTTP.
    Garbled,
}

impl Failure {
    /// From the pooling client's error.
    pub(super) fn of(error: &legacy::Error) -> Self {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(cause) = source {
            if let Some(cause) = cause.downcast_ref::<hyper::Error>() {
                return Self::of_connection(cause);
            }
            if let Some(cause) = cause.downcast_ref::<io::Error>().filter(|_| error.is_connect()) {
                return Self::Connect(pve_schema::errno_text(cause));
            }
            source = cause.source();
        }
        if error.is_connect() {
            Self::Connect(TIMED_OUT.to_owned())
        } else {
            Self::Broken
        }
    }

    /// From the error of a connection.
    pub(super) fn of_connection(error: &hyper::Error) -> Self {
        if error.is_parse() { Self::Garbled } else { Self::Broken }
    }

    /// What the client gets: mostly a 59x without a body.
    pub(super) fn told(self) -> Result<Answer, ApiError> {
        Ok(match self {
            Self::Files(error) => return Err(error.into()),
            Self::Uri => Refusal::ProxyUri.into(),
            Self::Connect(reason) => Answer::bare(595, &reason),
            Self::Tls(reason) => Answer::bare(596, &reason),
            Self::Silent => Answer::bare(596, TIMED_OUT),
            Self::Broken => Answer::bare(596, "Broken pipe"),
            Self::Garbled => Answer::bare(599, "invalid answer"),
        })
    }
}
