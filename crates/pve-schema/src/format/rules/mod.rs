//! The rules of named formats that no regular expression tells.
//!
//! Each is named after its format in `formats.json`, `-` and the like as `_`: the build script of `pve-contract` refers
//! to them by that name, so a rule that is missing here does not compile.

mod firewall;
mod guest;
mod names;
mod net;
mod pem;
mod sdn;
mod system;

#[cfg(test)]
mod tests;

use super::NamedFormat;

pub use firewall::*;
pub use guest::*;
pub use names::*;
pub use net::*;
pub use pem::*;
pub use sdn::*;
pub use system::*;

/// What a rule answers.
type Checked = Result<(), String>;

/// Fits, or fails with the format's own text.
fn when(fits: bool, format: &NamedFormat, value: &str) -> Checked {
    if fits { Ok(()) } else { Err(format.refusal(value)) }
}

/// Decimal digits only, at least one.
fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// A number of decimal digits within limits, inclusive.
fn number_in(text: &str, limits: std::ops::RangeInclusive<u64>) -> Option<u64> {
    let number = text.parse().ok().filter(|_| digits(text))?;
    limits.contains(&number).then_some(number)
}

/// The elements of a comma list in which none may be empty.
fn elements(value: &str) -> Result<Vec<&str>, String> {
    let all: Vec<&str> = value.split(',').collect();
    if all.iter().any(|element| element.is_empty()) {
        return Err("extraneous commas in list".to_owned());
    }
    Ok(all)
}
