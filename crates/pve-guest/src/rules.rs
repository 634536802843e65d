//! What the parser must know of a guest type's keys.

use pve_cfs::GuestKind;

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

/// What a guest type knows about its keys.
pub trait KeyRules {
    /// The guest type.
    fn kind(&self) -> GuestKind;

    /// Checks a line of a config file and gives what is to be stored.
    ///
    /// # Errors
    /// The text that upstream's warning ends in, `unknown setting 'x'` or `type check ('integer') failed - got 'x'`.
    fn check(&self, key: &str, value: &str) -> Result<Checked, String>;

    /// Puts a config into the shape that is written.
    ///
    /// # Errors
    /// Why it cannot be written.
    fn before_write(&self, _config: &mut GuestConfig) -> Result<(), String> {
        Ok(())
    }
}
