//! The encoding of descriptions, which a config file carries as `#` lines (reference 06a §2).

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What is not written as it is: everything outside printable ASCII, `%` and `:`.
const SPECIAL: &AsciiSet = &CONTROLS.add(b'%').add(b':');

/// One line of a description as it stands in the file, without the leading `#`.
pub fn encode(line: &str) -> String {
    utf8_percent_encode(line, SPECIAL).to_string()
}

/// One line of a description as a person reads it.
pub fn decode(line: &str) -> String {
    percent_decode_str(line).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_printable_ascii_is_escaped() {
        assert_eq!(encode("a: b%c\tx"), "a%3A b%25c%09x");
        assert_eq!(encode("ü"), "%C3%BC");
        assert_eq!(decode("lab%3A first line"), "lab: first line");
        assert_eq!(decode("100% sure"), "100% sure");
    }
}
