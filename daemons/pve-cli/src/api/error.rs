//! What can go wrong with a command line.

use std::io;

use pve_daemon::cli::SiteError;
use pve_rest::ApiError;
use pve_schema::errno_text;

use super::connect::ConnectError;
use super::remote::RemoteError;

/// What can go wrong with a command line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Who calls is not root.
    #[error("please run as root")]
    NotRoot,
    /// A word is no text.
    #[error("400 arguments must be valid UTF-8")]
    Encoding,
    /// There is no such option, or it matches several.
    #[error("Unknown option: {0}\n400 unable to parse option")]
    UnknownOption(String),
    /// The beginning of an option's name fits several.
    #[error("Option {0} is ambiguous ({1})\n400 unable to parse option")]
    AmbiguousOption(String, String),
    /// An option stands without its value.
    #[error("Option {0} requires an argument\n400 unable to parse option")]
    MissingValue(String),
    /// A word is neither true nor false.
    #[error("400 unable to parse boolean option")]
    Boolean,
    /// Words are missing.
    #[error("400 not enough arguments")]
    NotEnough,
    /// There are more words than the verb takes.
    #[error("400 too many arguments")]
    TooMany,
    /// The format of the output is none.
    #[error(
        "400 Parameter verification failed.\noutput-format: value '{0}' does not have a value in the enumeration 'text, json, json-pretty, yaml'"
    )]
    OutputFormat(String),
    /// There is nothing below the path.
    #[error("resource '{0}' does not define child links")]
    NoIndex(String),
    /// The two passwords differ.
    #[error("Passwords do not match!")]
    PasswordsDiffer,
    /// There was no password, or another secret.
    #[error("no {0} given")]
    NoSecret(&'static str),
    /// There are more lines than secrets.
    #[error("several secrets are asked for: there must be one line for each")]
    SecretLines,
    /// A file that was named.
    #[error("unable to read '{path}' - {}", errno_text(error))]
    File { path: String, error: io::Error },
    /// Which other node is meant, or as whom.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Another node does not answer.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The user ended it.
    #[error("interrupted")]
    Interrupted,
    /// There is no such root directory.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The method refused.
    #[error("{}", api_text(.0))]
    Api(ApiError),
    /// Standard input or output, or the log of a task.
    #[error("{}", errno_text(.0))]
    Io(#[from] io::Error),
}

impl From<ApiError> for CallError {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl CallError {
    /// Whether the command line itself is wrong, so that its usage helps.
    pub(crate) fn is_about_usage(&self) -> bool {
        match self {
            Self::UnknownOption(_)
            | Self::AmbiguousOption(..)
            | Self::MissingValue(_)
            | Self::Boolean
            | Self::NotEnough
            | Self::TooMany
            | Self::OutputFormat(_) => true,
            Self::Api(error) => !error.errors.is_empty(),
            _ => false,
        }
    }
}

/// A refusal as upstream's tools print it: a plain failure is its text, anything else has its status before it; a line for
/// each parameter at fault.
fn api_text(error: &ApiError) -> String {
    let message = error.message.trim_end();
    let mut text = match error.status {
        500 => message.to_owned(),
        status => format!("{status} {message}"),
    };
    for (name, fault) in &error.errors {
        text.push_str(&format!("\n{name}: {}", fault.trim_end()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_tell_what_is_wrong() {
        for (error, expected) in [
            (
                ApiError::plain("create user failed: user 'a@pve' already exists"),
                "create user failed: user 'a@pve' already exists",
            ),
            (
                ApiError::parameter("userid", "value does not look like a valid user name\n"),
                "400 Parameter verification failed.\nuserid: value does not look like a valid user name",
            ),
            (
                ApiError::status(404, "No such tfa entry 'x'\n"),
                "404 No such tfa entry 'x'",
            ),
            (
                ApiError::status(501, "Method 'GET /x' is not built yet\n"),
                "501 Method 'GET /x' is not built yet",
            ),
        ] {
            assert_eq!(CallError::from(error).to_string(), expected);
        }
    }
}
