//! Sizes of disks as text (reference 03 §2.8).

/// `K`, `M`, `G`, `T`: powers of 1024.
const UNITS: [char; 4] = ['K', 'M', 'G', 'T'];

/// Reads a size, `32G` or `1.5GiB`; no unit is bytes. The result is cut to whole bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text
        .strip_suffix("iB")
        .map_or(Some(text), |rest| rest.ends_with(UNITS).then_some(rest))?;
    let unit = text
        .chars()
        .last()
        .and_then(|last| UNITS.iter().position(|unit| *unit == last));
    let (number, exponent) = match unit {
        Some(index) => (text.get(..text.len() - 1)?, u32::try_from(index + 1).ok()?),
        None => (text, 0),
    };
    let factor = 1024_u64.checked_pow(exponent)?;
    match number.split_once('.') {
        None => digits(number)?.checked_mul(factor),
        Some((whole, fraction)) => {
            let whole = digits(whole)?.checked_mul(factor)?;
            let all = !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
            if !all {
                return None;
            }
            let fraction: f64 = format!("0.{fraction}").parse().ok()?;
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_sign_loss,
                clippy::cast_possible_truncation
            )]
            whole.checked_add((fraction * factor as f64) as u64)
        }
    }
}

fn digits(text: &str) -> Option<u64> {
    let all = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if all { text.parse().ok() } else { None }
}

/// Prints a size with the largest unit that divides it.
pub fn format_size(bytes: u64) -> String {
    let (mut number, mut unit) = (bytes, String::new());
    for next in UNITS {
        if number % 1024 != 0 {
            break;
        }
        number /= 1024;
        unit = next.to_string();
    }
    format!("{number}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_print_with_the_largest_exact_unit() {
        let cases = [
            (1024, "1K"),
            (1536, "1536"),
            (1_073_741_825, "1073741825"),
            (1_649_267_441_664, "1536G"),
            (1_610_612_736, "1536M"),
            (0, "0T"),
        ];
        for (bytes, text) in cases {
            assert_eq!(format_size(bytes), text);
        }
    }

    #[test]
    fn sizes_parse_by_powers_of_1024() {
        for (text, bytes) in [
            ("2T", 2_199_023_255_552),
            ("10KiB", 10_240),
            ("1.5G", 1_610_612_736),
            ("512", 512),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for bad in ["1g", "-1", "", "G", "1.G", "1iB", "99999999999T", "1KB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
