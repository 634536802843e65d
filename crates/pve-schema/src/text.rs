//! Texts that are stored in one line: comments, descriptions.

/// Escapes a text for a line of a file (reference 02 §2 "Text encoding", 06a §2): of its UTF-8 bytes, every control
/// character, `%`, `:` and what is not ASCII becomes `%XX`.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | b':' | 0..=0x1F | 0x7F.. => out.push_str(&format!("%{byte:02X}")),
            _ => out.push(char::from(byte)),
        }
    }
    out
}

/// The text behind an escaped one. What is no escape stays as it is, bytes that are no UTF-8 become `U+FFFD`.
pub fn decode(text: &str) -> String {
    String::from_utf8_lossy(&unescape(text.as_bytes())).into_owned()
}

/// Replaces every `%XX`; malformed escapes stay.
pub(crate) fn unescape(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let escaped = match tail {
            [high, low, ..] if byte == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => out.push(byte),
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
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
    }

    #[test]
    fn decoding_gives_the_text_back() {
        for text in ["a: b%c\tx", "50% done: ü", "", "%zz"] {
            assert_eq!(decode(&encode(text)), text);
        }
        assert_eq!(decode("a%3a%3"), "a:%3");
        assert_eq!(decode("%FF"), "\u{fffd}");
    }

    #[test]
    fn descriptions_take_a_line_each() {
        assert_eq!(encode_lines("a\nb: c\n"), "#a\n#b%3A c\n");
        assert_eq!(encode_lines(""), "");
    }
}
