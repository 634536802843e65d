//! What can go wrong with users and rights, in the words that clients match on.

use pve_schema::ids::TokenId;
use pve_schema::{Failure, ParamErrors};

use crate::limits::Refused;

/// What can go wrong with users and rights.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A request without ticket or token (401).
    #[error("No ticket")]
    NoTicket,
    /// A request whose ticket or token is not good (401). The reason is for the log alone.
    #[error("Authentication failed!")]
    Unauthenticated {
        /// Why.
        reason: String,
    },
    /// Nobody can tell now whether a token's secret is right (500).
    #[error("{0}")]
    Unverifiable(String),
    /// A change without, or with a wrong, CSRF prevention token (401).
    #[error("Permission denied - invalid csrf token")]
    InvalidCsrfToken,
    /// A log-in that failed (401). The reason was logged and is not disclosed.
    #[error("authentication failure")]
    LoginFailed,
    /// A password that is not looked at. Who logs in is told that it failed, and the log why; who is logged in and
    /// changes something is told why (500), as of a wrong password.
    #[error(transparent)]
    Limit(#[from] Refused),
    /// A short-lived ticket that is not good (401).
    #[error("permission denied - invalid {0} ticket")]
    InvalidTicket(&'static str),
    /// A SPICE proxy ticket that is not good (401).
    #[error("invalid ticket")]
    InvalidSpiceTicket,
    /// Something that is in the contract and not built yet (501).
    #[error("{0}: not built yet")]
    NotBuilt(String),
    /// A second factor that does not exist (404).
    #[error("No such tfa entry '{0}'")]
    NoSuchFactor(String),
    /// The caller lacks a right (403); the detail may be empty.
    #[error("Permission check failed{}", detail(.0))]
    Permission(String),
    /// Parameters are at fault (400).
    #[error("Parameter verification failed.")]
    Parameters(ParamErrors),
    /// A refusal or failure in plain words (500).
    #[error("{0}")]
    Plain(String),
    /// A change that failed while its file was locked (500), wrapped in what was to be done.
    #[error("{prefix}: {}", flatten(.source))]
    Change {
        /// `create user failed` and the like.
        prefix: String,
        /// What failed.
        source: Box<AccessError>,
    },
    /// The cluster's files.
    #[error("{0}")]
    Store(String),
    /// `user.cfg` cannot be read.
    #[error("Unable to load access control list: {0}")]
    Load(String),
    /// No such user.
    #[error("no such user ('{0}')")]
    NoSuchUser(String),
    /// The user may not log in.
    #[error("user '{0}' is disabled")]
    UserDisabled(String),
    /// The user's time is over.
    #[error("user '{0}' access expired")]
    UserExpired(String),
    /// No such token.
    #[error("no such token '{token}' for user '{user}'")]
    NoSuchToken {
        /// The token's name.
        token: String,
        /// Its supposed owner.
        user: String,
    },
    /// A realm that is not configured.
    #[error("auth domain '{0}' does not exist")]
    NoSuchRealm(String),
}

/// What is wrong with JSON that somebody sent, without a word of it: the text may be long, secret, or made to deceive
/// readers of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at line {line} column {column}")]
pub struct JsonFault {
    what: &'static str,
    line: usize,
    column: usize,
}

impl From<serde_json::Error> for JsonFault {
    fn from(error: serde_json::Error) -> Self {
        use serde_json::error::Category;
        let what = match error.classify() {
            Category::Io => "input/output error",
            Category::Syntax => "no JSON",
            Category::Data => "unexpected value",
            Category::Eof => "unexpected end",
        };
        Self {
            what,
            line: error.line(),
            column: error.column(),
        }
    }
}

/// ` (WHAT)`, or nothing.
fn detail(what: &str) -> String {
    if what.is_empty() {
        String::new()
    } else {
        format!(" ({what})")
    }
}

/// An error as text inside another: one with a status of its own brings that, and a line per parameter.
fn flatten(error: &AccessError) -> String {
    let status = error.status();
    let mut text = match status {
        500 => error.to_string(),
        status => format!("{status} {error}"),
    };
    for (name, what) in error.param_errors().into_iter().flatten() {
        text.push_str(&format!("\n{name}: {what}"));
    }
    text
}

impl AccessError {
    /// A failure in plain words.
    pub fn plain(text: impl Into<String>) -> Self {
        Self::Plain(text.into())
    }

    /// One parameter is at fault.
    pub fn parameter(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Parameters(ParamErrors::from([(name.into(), text.into())]))
    }

    /// There is no such token.
    pub fn no_such_token(id: &TokenId) -> Self {
        Self::NoSuchToken {
            token: id.name.clone(),
            user: id.user.to_string(),
        }
    }

    /// A refusal without detail.
    pub fn permission() -> Self {
        Self::Permission(String::new())
    }

    /// A privilege, or one of several, is missing on a path.
    pub fn missing(path: &str, privileges: &[&str]) -> Self {
        Self::Permission(format!("{path}, {}", privileges.join("|")))
    }

    /// Wraps an error in what was to be done.
    pub fn during(self, prefix: impl Into<String>) -> Self {
        Self::Change {
            prefix: prefix.into(),
            source: Box::new(self),
        }
    }
}

impl Failure for AccessError {
    fn status(&self) -> u16 {
        match self {
            Self::NoTicket
            | Self::Unauthenticated { .. }
            | Self::InvalidCsrfToken
            | Self::LoginFailed
            | Self::InvalidTicket(_)
            | Self::InvalidSpiceTicket => 401,
            Self::Permission(_) => 403,
            Self::Parameters(_) => 400,
            Self::NotBuilt(_) => 501,
            Self::NoSuchFactor(_) => 404,
            _ => 500,
        }
    }

    fn param_errors(&self) -> Option<&ParamErrors> {
        match self {
            Self::Parameters(errors) => Some(errors),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 02 §3, "error wrapping".
    #[test]
    fn an_error_with_a_status_is_flattened_inside_another() {
        let error = AccessError::parameter("role", "Cannot add …").during("ACL update failed");
        assert_eq!(
            error.to_string(),
            "ACL update failed: 400 Parameter verification failed.\nrole: Cannot add …"
        );
        assert_eq!((error.status(), error.param_errors()), (500, None));
        let plain = AccessError::plain("no such group 'g'").during("create user failed");
        assert_eq!(plain.to_string(), "create user failed: no such group 'g'");
    }
}
