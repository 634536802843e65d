//! What the parser must know of a guest type's keys.

use pve_cfs::GuestKind;
use pve_schema::schema::Kind;

use crate::config::GuestConfig;

pub use pve_schema::check::boolean_word;

/// A key and its value as they are to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The key; another one than in the file for an alias.
    pub key: String,
    /// The value in its stored spelling.
    pub value: String,
}

/// What a line is to a guest type that hands some lines on as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawLine {
    /// None of those.
    No,
    /// A key that is handed on, and its value.
    Pair(String, String),
    /// It looks like one, and its key is not known.
    Refused,
}

/// Checks a value of a type whose words do not depend on the key, and gives its stored spelling: as weakly as upstream
/// does for a file, without limits.
///
/// # Errors
/// `type check ('integer') failed - got 'x'`
pub fn check_scalar(kind: Kind, value: &str) -> Result<String, String> {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let wrong = |kind: &str| Err(format!("type check ('{kind}') failed - got '{value}'"));
    match kind {
        Kind::Boolean => match boolean_word(value) {
            Some(word) => Ok(u8::from(word).to_string()),
            None => wrong("boolean"),
        },
        Kind::Integer if !is_digits(value) => wrong("integer"),
        Kind::Number => {
            let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
            if is_digits(whole) && is_digits(fraction) {
                Ok(value.to_owned())
            } else {
                wrong("number")
            }
        }
        _ => Ok(value.to_owned()),
    }
}

/// What a guest type knows about its keys.
pub trait KeyRules {
    /// The guest type.
    fn kind(&self) -> GuestKind;

    /// Checks a line of a config file and gives what is to be stored.
    ///
    /// # Errors
    /// The text that upstream's warning ends in, `unknown setting 'x'` or `type check ('integer') failed - got 'x'`.
    fn check(&self, key: &str, value: &str) -> Result<Checked, String>;

    /// Reads a line that is handed on to others as it is.
    fn raw_line(&self, _line: &str) -> RawLine {
        RawLine::No
    }

    /// Puts a config into the shape that is written.
    ///
    /// # Errors
    /// Why it cannot be written.
    fn before_write(&self, _config: &mut GuestConfig) -> Result<(), String> {
        Ok(())
    }
}
