//! How lists and free text are written in files and parameters (reference 02 §2).

/// Splits a list: at NUL alone if there is one, else at commas, semicolons and white space.
pub fn split_list(text: &str) -> Vec<&str> {
    if text.contains('\0') {
        return text.split('\0').collect();
    }
    text.split(|c: char| c == ',' || c == ';' || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect()
}

/// Whether a raw value counts as set: not empty and not the single character `0`.
pub fn truthy(text: &str) -> bool {
    !text.is_empty() && text != "0"
}

/// Escapes free text for a field of `user.cfg`: every byte outside `0x20-0x24 0x26-0x39 0x3B-0x7E` becomes `%XX`.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            0x20..=0x24 | 0x26..=0x39 | 0x3B..=0x7E => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Undoes [`encode`]: every `%XX` becomes its byte; what is not UTF-8 then becomes U+FFFD.
pub fn decode(text: &str) -> String {
    String::from_utf8_lossy(&decode_bytes(text)).into_owned()
}

/// Every `%XX` as its byte.
fn decode_bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (b'%', [high, low, after @ ..]) => hex_digit(*high).zip(hex_digit(*low)).map(|pair| (pair, after)),
            _ => None,
        };
        match escaped {
            Some(((high, low), after)) => {
                out.push(high << 4 | low);
                rest = after;
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

/// The value of a hexadecimal digit.
fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 02 §16, vectors 10 to 12.
    #[test]
    fn lists_and_text() {
        assert_eq!(split_list(" a , b;c d"), ["a", "b", "c", "d"]);
        assert!(split_list(",").is_empty());
        assert_eq!(split_list("x\0y z"), ["x", "y z"]);
        for (plain, encoded) in [
            ("a:b%c", "a%3Ab%25c"),
            ("\t", "%09"),
            ("äöü €", "%C3%A4%C3%B6%C3%BC %E2%82%AC"),
            ("x/y?z=1&2 ~{|}", "x/y?z=1&2 ~{|}"),
        ] {
            assert_eq!(encode(plain), encoded);
            assert_eq!(decode(encoded), plain);
        }
        assert_eq!(decode("%zz%4"), "%zz%4");
        assert_eq!(decode("%ff"), "\u{fffd}");
    }
}
