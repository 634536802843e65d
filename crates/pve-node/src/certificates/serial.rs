//! The CA's counter of certificates: a hexadecimal number in a file (reference 04 §7.3).

/// Bytes of the longest serial number (RFC 5280 §4.1.2.2).
const MAX_BYTES: usize = 20;

/// The number after the one in a file: its bytes, and the file's new content. `None`: the file holds no such number.
pub(super) fn next(text: &str) -> Option<(Vec<u8>, String)> {
    let digits = text.trim();
    if digits.is_empty() {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    let even = format!("{}{digits}", if digits.len() % 2 == 1 { "0" } else { "" });
    let mut bytes = hex::decode(even).ok()?;
    increment(&mut bytes);
    if bytes.len() > MAX_BYTES {
        return None;
    }
    let text = hex::encode_upper(&bytes);
    Some((bytes, text + "\n"))
}

fn increment(bytes: &mut Vec<u8>) {
    for byte in bytes.iter_mut().rev() {
        let (sum, carried) = byte.overflowing_add(1);
        *byte = sum;
        if !carried {
            return;
        }
    }
    bytes.insert(0, 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_count() {
        for (before, after) in [
            ("0000000000000000\n", "01\n"),
            ("01\n", "02\n"),
            ("0F", "10\n"),
            ("ff", "0100\n"),
            ("FFFF\n", "010000\n"),
            ("abc", "0ABD\n"),
        ] {
            assert_eq!(next(before).unwrap().1, after, "{before}");
        }
        for bad in ["", "x", "-1", "ä", &"F".repeat(40)] {
            assert!(next(bad).is_none(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_counts_or_is_refused(text in ".{0,50}") {
            let _ = next(&text);
        }
    }
}
