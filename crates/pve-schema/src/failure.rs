//! What an error of any crate tells the API about itself (reference 03 §4.1).

use std::collections::BTreeMap;
use std::io;

/// Parameter name → what is wrong with it; errors without a name use the key `_root`.
pub type ParamErrors = BTreeMap<String, String>;

/// An error that knows how a client is to see it.
///
/// The text a client matches on is the error's `Display`. A plain failure is status 500 without an `errors` map, so
/// most error types implement this trait with an empty body.
pub trait Failure: std::error::Error {
    /// The HTTP status.
    fn status(&self) -> u16 {
        500
    }

    /// The `errors` map of a parameter error.
    fn param_errors(&self) -> Option<&ParamErrors> {
        None
    }
}

/// The system's own word for an I/O error, without the number that Rust appends: what upstream's `$!` says.
pub fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(number) => text.trim_end_matches(&format!(" (os error {number})")).to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_speak_like_the_system() {
        // ENOENT, EADDRNOTAVAIL.
        assert_eq!(
            errno_text(&io::Error::from_raw_os_error(2)),
            "No such file or directory"
        );
        assert_eq!(
            errno_text(&io::Error::from_raw_os_error(99)),
            "Cannot assign requested address"
        );
        assert_eq!(errno_text(&io::Error::other("no errno")), "no errno");
    }
}
