//! Ports for consoles (reference 06b §13, 01 §4.5).
//!
//! A port is handed out before its listener exists, so it is noted in a file for a moment: `PORT EPOCH` lines, under a
//! lock, shared with everything else on the host that hands out ports this way.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::time::Duration;

use pve_daemon::volatile;
use pve_schema::{Context, Failure};

/// VNC ports.
pub const VNC: RangeInclusive<u16> = 5900..=5999;
/// SPICE ports.
pub const SPICE: RangeInclusive<u16> = 61000..=61998;
/// How long a note keeps a port from being handed out again, in seconds.
const RESERVED_FOR: i64 = 5;
/// How long to wait for the lock.
const LOCK: Duration = Duration::from_secs(10);

/// Why there is no port.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// All are taken.
    #[error("unable to find free port ({first}-{end})")]
    NoneFree {
        /// The first of the range.
        first: u16,
        /// One past the last.
        end: u16,
    },
    /// Somebody holds the lock too long.
    #[error(transparent)]
    Lock(#[from] pve_cfs::CfsError),
    /// The notes cannot be written.
    #[error("unable to reserve port - {0}")]
    Notes(io::Error),
}

impl Failure for PortError {}

/// Finds a port that nobody listens on at the site's address, and keeps others from taking it for a moment.
///
/// # Errors
/// [`PortError`].
pub fn reserve(context: &Context, range: RangeInclusive<u16>) -> Result<u16, PortError> {
    let site = &context.site;
    let notes = site.path("/var/tmp/pve-reserved-ports");
    let lock = site.path("/var/lock/pve-ports.lck");
    for directory in [notes.parent(), lock.parent()].into_iter().flatten() {
        fs::create_dir_all(directory).map_err(PortError::Notes)?;
    }
    let _lock = pve_cfs::FileLock::exclusive(&lock, LOCK)?;
    let text = fs::read_to_string(&notes).unwrap_or_default();
    let mut reserved = parse(&text, context.now());
    let is_free = |port: u16| TcpListener::bind((site.address, port)).is_ok();
    let port = range
        .clone()
        .find(|port| !reserved.contains_key(port) && is_free(*port))
        .ok_or(PortError::NoneFree {
            first: *range.start(),
            end: range.end().saturating_add(1),
        })?;
    reserved.insert(port, context.now());
    let lines: String = reserved.iter().map(|(port, time)| format!("{port} {time}\n")).collect();
    volatile::replace(&notes, lines.as_bytes()).map_err(PortError::Notes)?;
    Ok(port)
}

/// The notes that still count; lines of another shape are dropped.
fn parse(text: &str, now: i64) -> BTreeMap<u16, i64> {
    let fresh = |time: i64| time.saturating_add(RESERVED_FOR) > now && time <= now.saturating_add(RESERVED_FOR);
    text.lines()
        .filter_map(|line| {
            let (port, time) = line.split_once(' ')?;
            Some((port.parse().ok()?, time.trim().parse().ok()?))
        })
        .filter(|(_, time)| fresh(*time))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fresh_notes_count() {
        let notes = parse("5900 100\n5901 96\n5902 95\n5903 9999\nx y\n5904\n", 100);
        assert_eq!(notes.into_keys().collect::<Vec<_>>(), [5900, 5901]);
    }

    #[test]
    fn ports_are_handed_out_once_and_never_while_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let mut site = pve_testing::site(directory.path(), "n1");
        site.address = pve_testing::loopback(1);
        let context = Context::new(site);
        let used = TcpListener::bind((context.site.address, 0)).unwrap();
        let first = used.local_addr().unwrap().port();
        let range = first..=first + 2;
        let one = reserve(&context, range.clone()).unwrap();
        let two = reserve(&context, range.clone()).unwrap();
        assert!(one != two && one != first && two != first);
        let error = reserve(&context, range).unwrap_err().to_string();
        assert_eq!(error, format!("unable to find free port ({first}-{})", first + 3));
    }
}
