//! The lines that restore logs show, and that clients read there (reference 05 §13.4).

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Header, Progress, Stats};

/// `CFG:`, `DEV:` and `CTIME:` lines; the time is that of a zone.
pub fn contents(header: &Header, zone: &TimeZone) -> Vec<String> {
    let configs = header
        .configs()
        .iter()
        .map(|config| format!("CFG: size: {} name: {}", config.data.len(), config.name));
    let devices = header.devices().iter().map(|device| {
        let (id, size, name) = (device.id, device.size, &device.name);
        format!("DEV: dev_id={id} size: {size} devname: {name}")
    });
    // A time that no calendar reaches is told as seconds.
    let ctime = Timestamp::from_second(header.ctime).map_or_else(
        |_| header.ctime.to_string(),
        |time| {
            let local = time.to_zoned(zone.clone());
            local.strftime("%a %b %e %H:%M:%S %Y").to_string()
        },
    );
    let ctime = std::iter::once(format!("CTIME: {ctime}"));
    configs.chain(devices).chain(ctime).collect()
}

/// The line about a new percent, so many seconds after the start.
pub fn progress(progress: &Progress, seconds: u64) -> String {
    let Progress { percent, bytes } = progress;
    format!("progress {percent}% (read {bytes} bytes, duration {seconds} sec)")
}

/// The lines at the end.
pub fn summary(stats: &Stats) -> Vec<String> {
    let (total, sparse) = (stats.bytes(), stats.sparse_bytes());
    if total == 0 {
        return vec!["vma archive contains no image data".to_owned()];
    }
    let mut lines = vec![format!(
        "total bytes read {total}, sparse bytes {sparse} ({}%)",
        significant(share(sparse, total))
    )];
    let stored = total.saturating_sub(sparse);
    if stored > 0 {
        let zero = stats.zero_blocks.saturating_mul(super::BLOCK as u64);
        lines.push(format!(
            "space reduction due to 4K zero blocks {}%",
            significant(share(zero, stored))
        ));
    }
    lines
}

/// In percent. Byte counts stay below 2^53, where this is exact.
fn share(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole as f64
}

/// A percentage with three significant digits, as C's `%.3g` prints it.
fn significant(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    // Rounding may carry into a new digit, so the exponent is that of the rounded figure.
    let scientific = format!("{value:.2e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let cut = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 {
        return format!("{}e-{:02}", cut(digits), exponent.unsigned_abs());
    }
    let decimals = usize::try_from(2 - exponent).unwrap_or(0);
    cut(&format!("{value:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 05 §13.4.
    #[test]
    fn the_lines_of_a_restore() {
        let mut header = Header::new([0; 16], 1_787_193_005);
        header.add_config("qemu-server.conf", &[b'x'; 409]).unwrap();
        header.add_device("drive-scsi0", 34_359_738_368).unwrap();
        assert_eq!(
            contents(&header, &TimeZone::UTC),
            [
                "CFG: size: 409 name: qemu-server.conf",
                "DEV: dev_id=1 size: 34359738368 devname: drive-scsi0",
                "CTIME: Thu Aug 20 02:30:05 2026",
            ]
        );
        let step = Progress {
            percent: 1,
            bytes: 343_605_248,
        };
        assert_eq!(progress(&step, 1), "progress 1% (read 343605248 bytes, duration 1 sec)");
        let stats = Stats {
            clusters: 524_288,
            zero_clusters: 466_944,
            zero_blocks: 29_452,
        };
        assert_eq!(
            summary(&stats),
            [
                "total bytes read 34359738368, sparse bytes 30601641984 (89.1%)",
                "space reduction due to 4K zero blocks 3.21%",
            ]
        );
        assert_eq!(summary(&Stats::default()), ["vma archive contains no image data"]);
    }

    #[test]
    fn times_that_no_calendar_reaches_are_told() {
        let header = Header::new([0; 16], i64::MIN);
        assert_eq!(contents(&header, &TimeZone::UTC), [format!("CTIME: {}", i64::MIN)]);
    }

    #[test]
    fn percentages_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (100.0, "100"),
            (99.96, "100"),
            (99.94, "99.9"),
            (12.0, "12"),
            (9.999, "10"),
            (0.5, "0.5"),
            (0.001_234, "0.00123"),
            (0.000_012_34, "1.23e-05"),
        ] {
            assert_eq!(significant(value), text, "{value}");
        }
    }
}
