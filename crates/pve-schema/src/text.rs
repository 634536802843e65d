//! Texts that are stored in one line: comments, descriptions.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

/// What cannot stand in a line of a file as it is.
const LINE: &AsciiSet = &CONTROLS.add(b'%').add(b':');
/// What cannot stand in a header, cookie or form value: all but the unreserved characters of RFC 3986 §2.3.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Escapes a text for a line of a file (reference 02 §2 "Text encoding", 06a §2): of its UTF-8 bytes, every control
/// character, `%`, `:` and what is not ASCII becomes `%XX`.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, LINE).to_string()
}

/// Escapes a text for a header, cookie or form value: everything but letters, digits and `-._~` becomes `%XX`
/// (reference 01 §3.6).
pub fn encode_component(text: &str) -> String {
    utf8_percent_encode(text, COMPONENT).to_string()
}

/// The text behind an escaped one. What is no escape stays as it is, bytes that are no UTF-8 become `U+FFFD`.
pub fn decode(text: &str) -> String {
    decode_bytes(text.as_bytes())
}

/// As [`decode`], of bytes.
pub(crate) fn decode_bytes(bytes: &[u8]) -> String {
    // Nearly all of it is UTF-8, which is faster to find out than to mend.
    let bytes = Cow::from(percent_decode(bytes)).into_owned();
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Whether a field of a file counts as on or set (reference 02 §2): it is neither empty nor the single character `0`.
pub fn truthy(text: &str) -> bool {
    !matches!(text, "" | "0")
}

/// A description as the `#` lines of a guest's config, one per line of the text (reference 06a §2).
pub fn encode_lines(text: &str) -> String {
    text.lines().map(|line| format!("#{}\n", encode(line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 06a vector 3, 05 §2.1.
    #[test]
    fn unsafe_bytes_are_escaped() {
        assert_eq!(encode("a: b%c\tx"), "a%3A b%25c%09x");
        assert_eq!(encode("50% done: ü"), "50%25 done%3A %C3%BC");
        assert_eq!(encode("~\u{7f}"), "~%7F");
        // Reference 02 §16, vectors 10 to 12.
        assert_eq!(encode("a:b%c"), "a%3Ab%25c");
        assert_eq!(encode("\t"), "%09");
        assert_eq!(encode("äöü €"), "%C3%A4%C3%B6%C3%BC %E2%82%AC");
        assert_eq!(encode("x/y?z=1&2 ~{|}"), "x/y?z=1&2 ~{|}");
    }

    #[test]
    fn decoding_gives_the_text_back() {
        for text in ["a: b%c\tx", "50% done: ü", "äöü €", "x/y?z=1&2 ~{|}", "", "%zz"] {
            assert_eq!(decode(&encode(text)), text);
        }
        assert_eq!(decode("a%3a%3"), "a:%3");
        assert_eq!(decode("%zz%4"), "%zz%4");
        assert_eq!(decode("100% sure"), "100% sure");
        assert_eq!(decode("lab%3A first line"), "lab: first line");
        assert_eq!(decode("%FF"), "\u{fffd}");
        assert_eq!(decode("%ff"), "\u{fffd}");
    }

    #[test]
    fn components_keep_only_unreserved_characters() {
        assert_eq!(encode_component("a-b._~9"), "a-b._~9");
        assert_eq!(
            encode_component("PVE:root@pam:6A::x+/= ü"),
            "PVE%3Aroot%40pam%3A6A%3A%3Ax%2B%2F%3D%20%C3%BC"
        );
        assert_eq!(decode(&encode_component("a: %\t\nü")), "a: %\t\nü");
    }

    #[test]
    fn descriptions_take_a_line_each() {
        assert_eq!(encode_lines("a\nb: c\n"), "#a\n#b%3A c\n");
        assert_eq!(encode_lines(""), "");
    }
}
