//! The one error that reaches a client (reference 03 §4.1).

use pve_schema::{Failure, ParamErrors};

/// An error as a client sees it: status, message and the `errors` map.
///
/// The first line of the message becomes the reason phrase; the message itself goes out with a newline at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// The message, with the newline it may end in on the wire.
    pub message: String,
    /// Parameter name → text; empty unless parameters are at fault.
    pub errors: ParamErrors,
}

impl ApiError {
    /// An error with a status of its own.
    pub fn status(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            errors: ParamErrors::new(),
        }
    }

    /// A plain failure: status 500.
    pub fn plain(message: impl Into<String>) -> Self {
        Self::status(500, with_newline(message.into()))
    }

    /// Parameters are at fault: status 400.
    pub fn parameters(errors: ParamErrors) -> Self {
        Self {
            status: 400,
            message: "Parameter verification failed.\n".to_owned(),
            errors,
        }
    }

    /// One parameter is at fault: status 400.
    pub fn parameter(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self::parameters(ParamErrors::from([(name.into(), text.into())]))
    }

    /// The caller may not do that: status 403. `what` is the detail in parentheses, empty for none.
    pub fn permission(what: &str) -> Self {
        let detail = if what.is_empty() {
            String::new()
        } else {
            format!(" ({what})")
        };
        Self::status(403, format!("Permission check failed{detail}\n"))
    }

    /// There is no such method, or it has no handler yet: status 501, without the newline (reference 01 §3.7).
    pub fn not_implemented(verb: &str, path: &str) -> Self {
        Self::status(501, format!("Method '{verb} {path}' not implemented"))
    }

    /// The path names a node that nobody knows: status 500, as if its address had been looked for.
    pub fn unknown_node(name: &str) -> Self {
        Self::plain(format!(
            "hostname lookup '{name}' failed - failed to get address info for: {name}: Name or service not known"
        ))
    }

    /// The first line of the message: the reason phrase.
    pub fn reason(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }
}

/// Ends a text with exactly the newline that messages carry on the wire.
fn with_newline(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Every crate's error becomes the client's error by what it says about itself.
impl<E: Failure> From<E> for ApiError {
    fn from(error: E) -> Self {
        let message = match error.param_errors() {
            Some(errors) if !errors.is_empty() => return Self::parameters(errors.clone()),
            _ => with_newline(error.to_string()),
        };
        Self::status(error.status(), message)
    }
}
