//! What an error of any crate tells the API about itself (reference 03 §4.1).

use std::collections::BTreeMap;

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
