//! Where log lines go: syslog for a system install, standard error for people.
//!
//! Everything in the suite logs through the `log` macros. A line about a request may carry its id:
//! `log::info!(request_id = id; "…")` – the id is put behind the text.

use std::io::Write as _;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};

/// The key under which a log line carries a request's id.
pub const REQUEST_ID: &str = "request_id";

/// Where the lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// syslog(3): the daemon's name, facility `daemon`, with the pid.
    Syslog,
    /// Standard error: `TIME ident[pid]: LEVEL text`.
    Stderr,
    /// Standard output, for `--debug`.
    Stdout,
}

/// The logger of one process.
#[derive(Debug)]
struct Logger {
    ident: &'static str,
    target: Target,
}

/// Starts logging; the first call of a process counts.
pub fn init(ident: &'static str, target: Target, level: LevelFilter) {
    static LOGGER: OnceLock<Logger> = OnceLock::new();
    let logger = LOGGER.get_or_init(|| {
        if target == Target::Syslog {
            syslog::open(ident);
        }
        Logger { ident, target }
    });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(level);
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        // Chatter of libraries below `info` would bury the suite's own debug lines.
        metadata.level() <= Level::Info || metadata.target().starts_with("pve") || metadata.target().starts_with("qm")
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = text_of(record);
        // A log that cannot be written has nowhere to say so.
        let _ = match self.target {
            Target::Syslog => {
                syslog::write(record.level(), &text);
                Ok(())
            }
            Target::Stderr => std::io::stderr()
                .lock()
                .write_all(self.line(record.level(), &text).as_bytes()),
            Target::Stdout => std::io::stdout()
                .lock()
                .write_all(self.line(record.level(), &text).as_bytes()),
        };
    }

    fn flush(&self) {}
}

impl Logger {
    /// One line for people, ended by its newline so that it goes out in one write.
    fn line(&self, level: Level, text: &str) -> String {
        let level = match level {
            Level::Error => "err",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug | Level::Trace => "debug",
        };
        format!(
            "{} {}[{}]: {level} {text}\n",
            local_time(),
            self.ident,
            std::process::id()
        )
    }
}

/// A record's text on one line, with the request's id behind it. Control characters are shown, not sent: what a client
/// wrote must not look like a line of its own.
fn text_of(record: &Record) -> String {
    let mut text = String::new();
    for character in record.args().to_string().trim_end().chars() {
        match character {
            '\n' => text.push_str("\\n"),
            other if other.is_control() && other != '\t' => text.extend(other.escape_default()),
            other => text.push(other),
        }
    }
    if let Some(id) = record.key_values().get(log::kv::Key::from_str(REQUEST_ID)) {
        text.push_str(&format!(" (request {id})"));
    }
    text
}

/// `YYYY-MM-DD HH:MM:SS.mmm` in the machine's time zone.
fn local_time() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = libc::time_t::try_from(now.as_secs()).unwrap_or_default();
    // SAFETY: both pointers are to live values of the right types; localtime_r fills the second and keeps neither.
    #[allow(unsafe_code)]
    let (found, time) = unsafe {
        let mut time: libc::tm = std::mem::zeroed();
        (!libc::localtime_r(&seconds, &mut time).is_null(), time)
    };
    if !found {
        return seconds.to_string();
    }
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:03}",
        time.tm_year + 1900,
        time.tm_mon + 1,
        time.tm_mday,
        time.tm_hour,
        time.tm_min,
        time.tm_sec,
        now.subsec_millis()
    )
}

/// syslog(3). The C library's own: it reconnects when the log daemon was restarted and asks for the pid each time.
mod syslog {
    #![allow(unsafe_code)]

    use std::ffi::CString;

    use log::Level;

    /// Sets ident and facility.
    pub(super) fn open(ident: &str) {
        let Ok(ident) = CString::new(ident) else { return };
        // SAFETY: openlog keeps the pointer for the life of the process, so the string is leaked; this runs once.
        unsafe { libc::openlog(ident.into_raw(), libc::LOG_PID, libc::LOG_DAEMON) };
    }

    /// Writes one line.
    pub(super) fn write(level: Level, text: &str) {
        let priority = match level {
            Level::Error => libc::LOG_ERR,
            Level::Warn => libc::LOG_WARNING,
            Level::Info => libc::LOG_INFO,
            Level::Debug | Level::Trace => libc::LOG_DEBUG,
        };
        let Ok(text) = CString::new(text) else { return };
        // SAFETY: both strings are NUL-terminated and live through the call; the format takes exactly one string.
        unsafe { libc::syslog(priority, c"%s".as_ptr(), text.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_people_is_one_line() {
        let logger = Logger {
            ident: "pvedaemon",
            target: Target::Stderr,
        };
        let record = Record::builder().args(format_args!("first\nsecond\x1b[0m\n")).build();
        assert_eq!(text_of(&record), "first\\nsecond\\u{1b}[0m");
        let line = logger.line(Level::Info, "text");
        assert!(
            line.ends_with(&format!(" pvedaemon[{}]: info text\n", std::process::id())),
            "{line}"
        );
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn a_line_carries_its_request() {
        let values = [(REQUEST_ID, "1a2b")];
        let record = Record::builder().args(format_args!("slow")).key_values(&values).build();
        assert_eq!(text_of(&record), "slow (request 1a2b)");
    }
}
