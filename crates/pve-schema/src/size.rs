//! Disk sizes as text: `32G`, `1536M` (reference 03 §2.8, "Sizes").

/// The units, smallest first: each is 1024 times the one before it, and bytes have none.
const UNITS: [&str; 5] = ["", "K", "M", "G", "T"];

/// A size in bytes. Fractions of a byte are cut off; a text that is no size is `None`, and so is one beyond 64 bits.
pub fn parse(text: &str) -> Option<u64> {
    let number_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(number_end)?;
    let unit = unit.strip_suffix("iB").filter(|unit| !unit.is_empty()).unwrap_or(unit);
    let power = u32::try_from(UNITS.iter().position(|known| *known == unit)?).ok()?;
    let factor = 1024_u64.checked_pow(power)?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match number.split_once('.') {
        None if digits(number) => number.parse::<u64>().ok()?.checked_mul(factor),
        Some((whole, fraction)) if digits(whole) && digits(fraction) => {
            let bytes = number.parse::<f64>().ok()? * factor as f64;
            (bytes < u64::MAX as f64).then_some(bytes as u64)
        }
        _ => None,
    }
}

/// A size in the largest unit that tells it exactly; 0 is `0T`.
pub fn print(bytes: u64) -> String {
    let mut value = bytes;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    for larger in units {
        if !value.is_multiple_of(1024) {
            break;
        }
        value /= 1024;
        unit = Some(larger);
    }
    format!("{value}{}", unit.unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 03 §8.4, vector 50.
    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("1.5G", Some(1_610_612_736)),
            ("1.999", Some(1)),
            ("0.5K", Some(512)),
            ("1KiB", Some(1024)),
            ("10k", None),
            ("", None),
            ("1iB", None),
            (".5", None),
            ("5.", None),
            ("1.2.3", None),
            ("3X", None),
            ("99999999999T", None),
        ] {
            assert_eq!(parse(text), bytes, "{text}");
        }
    }

    /// Reference 03 §8.4, vector 51.
    #[test]
    fn sizes_are_written_in_the_largest_exact_unit() {
        for (bytes, text) in [
            (1536, "1536"),
            (1_048_576, "1M"),
            (1_610_612_736, "1536M"),
            (5_497_558_138_880, "5T"),
            (0, "0T"),
        ] {
            assert_eq!(print(bytes), text);
        }
    }
}
