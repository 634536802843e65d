//! The access log: one line per request (reference 01 §1.8).
//!
//! `IP - USERID [dd/mm/yyyy:HH:MM:SS ±hhmm] "REQUESTLINE" CODE LENGTH`, the month as a number, local time.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pve_schema::ids::AuthId;
use pve_schema::{Site, errno_text};

use crate::counters::Handled;
use crate::second::OfSecond;

/// Owner writes, group reads: the log names users and paths.
const MODE: u32 = 0o640;

/// An open access log.
#[derive(Debug)]
pub struct AccessLog {
    path: PathBuf,
    file: Mutex<File>,
}

/// The log that both proxies write.
const SHARED: &str = "/var/log/pveproxy/access.log";

/// The log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("unable to open log file '{SHARED}' - {}", errno_text(.0))]
pub struct LogError(io::Error);

impl AccessLog {
    /// Opens the log that both proxies write.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open_shared(site: &Site) -> Result<Self, LogError> {
        Self::open(site.path(SHARED)).map_err(LogError)
    }

    /// Opens the log for appending and creates it if need be, readable by owner and group only.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let file = Mutex::new(open(&path)?);
        Ok(Self { path, file })
    }

    /// Opens the path anew, after logrotate has moved the file away. On failure the old file stays in use.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn reopen(&self) -> io::Result<()> {
        let fresh = open(&self.path)?;
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Writes one line in one write.
    fn write(&self, line: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(line.as_bytes()) {
            log::error!("error writing access log: {error}");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

/// The line of one request, filled in as more becomes known.
///
/// A request that is dropped unanswered is logged with code 500.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) log: Option<Arc<AccessLog>>,
    /// What the log shows as the client's address.
    pub(crate) address: String,
    /// Who asked, once that is known.
    pub(crate) caller: Option<AuthId>,
    /// The request's first line, as received.
    pub(crate) request_line: String,
    /// Where it was handled, for the metrics.
    pub(crate) handled: Handled,
    /// Why it was dropped, for the system log.
    pub(crate) problem: &'static str,
    written: bool,
}

impl Entry {
    /// A line about a request.
    pub(crate) fn new(log: Option<Arc<AccessLog>>, address: String, request_line: String) -> Self {
        Self {
            log,
            address,
            caller: None,
            request_line,
            handled: Handled::default(),
            problem: "Broken pipe",
            written: false,
        }
    }

    /// Writes the line. `length` is that of the body on the wire; `None` for no body and for streams.
    pub(crate) fn write(&mut self, now: i64, code: u16, length: Option<u64>) {
        self.written = true;
        let Some(log) = &self.log else { return };
        let user = self.caller.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        let length = length.map_or_else(|| "-".to_owned(), |length| length.to_string());
        let (address, line) = (&self.address, &self.request_line);
        log.write(&format!(
            "{address} - {user} [{}] \"{line}\" {code} {length}\n",
            DATE.get(now, |now| date(now).into())
        ));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.written {
            log::error!("problem with client {}; {}", self.address, self.problem);
            self.write(Timestamp::now().as_second(), 500, None);
        }
    }
}

/// The date of the last line.
static DATE: OfSecond<Arc<str>> = OfSecond::new();

/// `24/08/2026:14:46:01 +0200`, local time.
fn date(now: i64) -> String {
    match Timestamp::from_second(now) {
        Ok(time) => {
            let local = time.to_zoned(TimeZone::system());
            local.strftime("%d/%m/%Y:%H:%M:%S %z").to_string()
        }
        Err(_) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_line_has_the_documented_shape() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let log = Arc::new(AccessLog::open(&path).unwrap());
        let mut entry = Entry::new(
            Some(Arc::clone(&log)),
            "::ffff:192.0.2.7".into(),
            "GET /api2/json/version HTTP/1.1".into(),
        );
        entry.caller = Some("root@pam!ci".parse().unwrap());
        entry.write(1_787_575_561, 200, Some(17));
        let text = read(&path);
        let (before, rest) = text.split_once('[').unwrap();
        let (stamp, after) = rest.split_once(']').unwrap();
        assert_eq!(before, "::ffff:192.0.2.7 - root@pam!ci ");
        assert_eq!(after, " \"GET /api2/json/version HTTP/1.1\" 200 17\n");
        let pattern: String = stamp
            .chars()
            .map(|c| if c.is_ascii_digit() { '9' } else { c })
            .collect();
        assert!(
            ["99/99/9999:99:99:99 +9999", "99/99/9999:99:99:99 -9999"].contains(&pattern.as_str()),
            "{stamp}"
        );
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn an_unanswered_request_is_logged_as_500() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let log = Arc::new(AccessLog::open(&path).unwrap());
        drop(Entry::new(Some(log), "192.0.2.7".into(), "GET / HTTP/1.1".into()));
        assert!(read(&path).ends_with("\"GET / HTTP/1.1\" 500 -\n"));
    }

    #[test]
    fn after_reopen_lines_go_to_the_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let log = Arc::new(AccessLog::open(&path).unwrap());
        std::fs::rename(&path, dir.path().join("access.log.1")).unwrap();
        log.reopen().unwrap();
        Entry::new(Some(Arc::clone(&log)), "-".into(), "-".into()).write(0, 403, None);
        assert!(read(&path).ends_with("\"-\" 403 -\n"));
        assert_eq!(read(&dir.path().join("access.log.1")), "");
    }
}
