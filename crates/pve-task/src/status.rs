//! How a task ended (reference 03 §5.3).

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use pve_schema::errno_text;

/// The status of a task that left no last line.
pub const UNEXPECTED: &str = "unexpected status";
/// Longest last line that is looked at: index lines hold it, and error texts are not longer.
const MAX_LINE: u64 = 64 * 1024;

/// What kind of end a status tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// All went well.
    Ok,
    /// There were warnings.
    Warning,
    /// It failed.
    Error,
    /// Nobody knows, or it still runs.
    Unknown,
}

impl Class {
    /// The class of a status text.
    pub fn of(status: &str) -> Self {
        match status {
            "OK" => Self::Ok,
            "" | UNEXPECTED => Self::Unknown,
            _ if warnings(status).is_some() => Self::Warning,
            _ => Self::Error,
        }
    }

    /// The word of `statusfilter`, in any case.
    pub fn from_word(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "ok" => Some(Self::Ok),
            "warning" => Some(Self::Warning),
            "error" => Some(Self::Error),
            "unknown" => Some(Self::Unknown),
            _ => None,
        }
    }
}

/// Whether a status tells of a failure: neither `OK` nor `WARNINGS: N`.
pub fn is_error(status: &str) -> bool {
    !matches!(Class::of(status), Class::Ok | Class::Warning)
}

fn warnings(status: &str) -> Option<&str> {
    status
        .strip_prefix("WARNINGS: ")
        .filter(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The status of a log file.
pub fn of_log(path: &Path) -> String {
    match tail(path) {
        Ok(tail) => of_tail(&tail),
        Err(error) if error.kind() == ErrorKind::NotFound => UNEXPECTED.to_owned(),
        Err(error) => format!("unable to get last line from task log - {}", errno_text(&error)),
    }
}

fn tail(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(MAX_LINE)))?;
    let mut tail = Vec::new();
    file.take(MAX_LINE).read_to_end(&mut tail)?;
    Ok(tail)
}

/// The status that the end of a log tells of.
fn of_tail(tail: &[u8]) -> String {
    let tail = tail.strip_suffix(b"\n").unwrap_or(tail);
    let last = tail.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let last = String::from_utf8_lossy(last);
    let found = match last.strip_prefix("TASK ") {
        Some("OK") => Some("OK"),
        Some(rest) if warnings(rest).is_some() => Some(rest),
        Some(rest) => rest.strip_prefix("ERROR: ").filter(|text| !text.is_empty()),
        None => None,
    };
    found.unwrap_or(UNEXPECTED).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 03 §8.7, vectors 69 to 71.
    #[test]
    fn the_last_line_tells_the_status() {
        for (log, status) in [
            ("TASK OK\n", "OK"),
            ("TASK OK", "OK"),
            ("TASK OK\n\n", UNEXPECTED),
            ("TASK ERROR: \n", UNEXPECTED),
            ("xTASK OK\n", UNEXPECTED),
            ("", UNEXPECTED),
            ("a\nTASK WARNINGS: 3\n", "WARNINGS: 3"),
            ("TASK WARNINGS: x\n", UNEXPECTED),
            ("TASK ERROR: it broke\n", "it broke"),
        ] {
            assert_eq!(of_tail(log.as_bytes()), status, "{log:?}");
        }
        assert_eq!(of_log(Path::new("/nonexistent/log")), UNEXPECTED);
        assert_eq!(
            of_log(Path::new("/proc")),
            "unable to get last line from task log - Is a directory"
        );
    }

    /// Reference 03 §8.7, vector 72.
    #[test]
    fn statuses_have_classes() {
        for (status, class) in [
            ("OK", Class::Ok),
            ("WARNINGS: 2", Class::Warning),
            ("WARNINGS: x", Class::Error),
            ("boom", Class::Error),
            (UNEXPECTED, Class::Unknown),
            ("", Class::Unknown),
        ] {
            assert_eq!(Class::of(status), class, "{status}");
        }
        assert!(is_error("boom") && is_error("") && !is_error("WARNINGS: 1"));
    }

    proptest::proptest! {
        #[test]
        fn any_tail_has_a_status(tail in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = Class::of(&of_tail(&tail));
        }
    }
}
