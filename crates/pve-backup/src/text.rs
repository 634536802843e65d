//! How backup logs write sizes, rates and times (reference 05 §7.5, §8 and vectors F1 to F4).

use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// The units of [`binary`], each 1024 times the one before.
const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// The size of an archive: `700MB`, `5.50GB` (vector F1).
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn archive_size(bytes: u64) -> String {
    match bytes {
        0..MIB => format!("{}KB", bytes / KIB),
        MIB..GIB => format!("{}MB", bytes / MIB),
        GIB..TIB => format!("{:.2}GB", bytes as f64 / GIB as f64),
        _ => format!("{:.2}TB", bytes as f64 / TIB as f64),
    }
}

/// A number of bytes with so many digits behind the point: `32.0 GiB` (vector F2).
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn binary(bytes: u64, digits: usize) -> String {
    let mut value = bytes as f64;
    let mut unit = UNITS[0];
    for next in UNITS.iter().skip(1) {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.digits$} {unit}")
}

/// So many bytes in that time: `581.0 MiB/s`; `0 B/s` for nothing, and for no time.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "one digit is shown; a float too large for the type becomes its largest value"
)]
pub fn rate(bytes: u64, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if bytes == 0 || seconds <= 0.0 {
        return "0 B/s".to_owned();
    }
    format!("{}/s", binary((bytes as f64 / seconds) as u64, 1))
}

/// A time in words, without those that are zero: `1d 1h 1m 1s` (vector F3).
pub fn duration_words(seconds: u64) -> String {
    const WORDS: [(u64, char); 5] = [(604_800, 'w'), (86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
    let mut left = seconds;
    let mut words = Vec::new();
    for (length, letter) in WORDS {
        if left >= length {
            words.push(format!("{}{letter}", left / length));
            left %= length;
        }
    }
    if words.is_empty() {
        "0s".to_owned()
    } else {
        words.join(" ")
    }
}

/// A time like a clock's, the hours without limit: `100:00:00` (vector F4).
pub fn duration_clock(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_f1_sizes_of_archives() {
        let cases = [
            (0, "0KB"),
            (1_048_575, "1023KB"),
            (1_048_576, "1MB"),
            (734_003_200, "700MB"),
            (1_073_741_824, "1.00GB"),
            (5_905_580_032, "5.50GB"),
            (2_748_779_069_440, "2.50TB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(archive_size(bytes), text);
        }
    }

    #[test]
    fn vector_f2_bytes() {
        let cases = [
            (0, "0.0 B"),
            (1023, "1023.0 B"),
            (1536, "1.5 KiB"),
            (34_359_738_368, "32.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(binary(bytes, 1), text);
        }
        assert_eq!(binary(30_601_641_984, 2), "28.50 GiB");
    }

    #[test]
    fn rates_of_nothing_have_no_digits() {
        assert_eq!(rate(0, Duration::from_secs(3)), "0 B/s");
        assert_eq!(rate(1, Duration::ZERO), "0 B/s");
        assert_eq!(rate(3 << 20, Duration::from_millis(1500)), "2.0 MiB/s");
    }

    #[test]
    fn vector_f3_times_in_words() {
        let cases = [
            (0, "0s"),
            (63, "1m 3s"),
            (3661, "1h 1m 1s"),
            (90_061, "1d 1h 1m 1s"),
            (700_000, "1w 1d 2h 26m 40s"),
            (3600, "1h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration_words(seconds), text);
        }
    }

    #[test]
    fn vector_f4_times_like_clocks() {
        assert_eq!(duration_clock(3725), "01:02:05");
        assert_eq!(duration_clock(360_000), "100:00:00");
    }
}
