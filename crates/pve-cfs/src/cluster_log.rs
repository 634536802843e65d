//! The cluster log (reference 03 §6, 04 §2.4).
//!
//! One JSON line per entry in `/run/pve-cluster/clusterlog`, oldest first, guarded by a lock file and bounded: when the
//! file outgrows the ring's 128 KiB, its oldest entries go. Every message goes to the system log as well.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use nix::unistd::geteuid;
use pve_schema::{Context, errno_text};
use serde::{Deserialize, Serialize};

use crate::Cfs;

use crate::error::{CfsError, shown};
use crate::lock::{FileLock, Mode};
use crate::run_dir::make_run_dir;
use crate::status::replace;

/// Where it is.
const RUN_DIR: &str = "/run/pve-cluster";
/// Bytes of the ring.
const RING: usize = 128 * 1024;
/// What is left of the ring when it is cut, so that not every entry cuts it anew.
const KEEP: usize = RING / 4 * 3;
/// Most bytes of an entry.
const MAX_ENTRY: usize = 4096;
/// Longest wait for another writer; a log entry is not worth more.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Entries of a dump where no number is asked for.
pub const DEFAULT_MAX: usize = 50;

/// A level of the system log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// The system is unusable.
    Emergency,
    /// Somebody must act at once.
    Alert,
    /// Critical.
    Critical,
    /// An error.
    Error,
    /// A warning.
    Warning,
    /// Worth to be noticed.
    Notice,
    /// For information.
    Info,
    /// For those who look for a mistake.
    Debug,
}

/// A word that names no priority.
#[derive(Debug, thiserror::Error)]
#[error("unknown priority '{0}'")]
pub struct UnknownPriority(String);

impl Priority {
    /// The system log's number.
    pub fn number(self) -> u8 {
        self as u8
    }

    fn level(self) -> log::Level {
        match self {
            Self::Emergency | Self::Alert | Self::Critical | Self::Error => log::Level::Error,
            Self::Warning => log::Level::Warn,
            Self::Notice | Self::Info => log::Level::Info,
            Self::Debug => log::Level::Debug,
        }
    }
}

impl FromStr for Priority {
    type Err = UnknownPriority;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "emerg" => Self::Emergency,
            "alert" => Self::Alert,
            "crit" | "critical" => Self::Critical,
            "err" | "error" => Self::Error,
            "warn" | "warning" => Self::Warning,
            "notice" => Self::Notice,
            "info" => Self::Info,
            "debug" => Self::Debug,
            _ => return Err(UnknownPriority(text.to_owned())),
        })
    }
}

/// An entry of the cluster log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The node's own count of its entries.
    pub uid: u64,
    /// Unix seconds.
    pub time: i64,
    /// The system log's number of the priority.
    pub pri: u8,
    /// The service.
    pub tag: String,
    /// Its process.
    pub pid: u32,
    /// The node.
    pub node: String,
    /// Who did it; may be empty.
    pub user: String,
    /// What happened, without control characters.
    pub msg: String,
}

/// The cluster log of one site.
#[derive(Debug, Clone)]
pub struct ClusterLog {
    context: Context,
}

impl Cfs {
    /// The cluster log.
    pub fn cluster_log(&self) -> ClusterLog {
        ClusterLog {
            context: self.context.clone(),
        }
    }
}

impl ClusterLog {
    fn file(&self) -> PathBuf {
        self.context.site.path(RUN_DIR).join("clusterlog")
    }

    /// Logs a message, to the system log too, as `<USER> MESSAGE`. It cannot fail: what cannot be stored is in the
    /// system log at least. `ident` is the service's name: [`service_name`].
    pub fn log(&self, priority: Priority, ident: &str, user: &str, message: &str) {
        let message = if message.is_empty() { "empty message" } else { message };
        let text = ascii(message);
        if user.is_empty() {
            log::log!(priority.level(), "{text}");
        } else {
            log::log!(priority.level(), "<{user}> {text}");
        }
        if let Err(error) = self.append(priority, ident, user, message) {
            log::warn!("writing cluster log failed: {error}");
        }
    }

    fn append(&self, priority: Priority, ident: &str, user: &str, message: &str) -> Result<(), CfsError> {
        let path = self.file();
        let site = &self.context.site;
        make_run_dir(site, RUN_DIR)?;
        let _lock = FileLock::acquire(
            &site.path(RUN_DIR).join(".clusterlog.lock"),
            Mode::Exclusive,
            LOCK_TIMEOUT,
            &mut |_| {},
        )?;
        let failed = |error: std::io::Error| CfsError::Write {
            path: shown(&path),
            reason: errno_text(&error),
        };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&path)
            .map_err(failed)?;
        let mut last = last_uid(&mut file).map_err(failed)?;
        let mut lines = String::new();
        if last == 0 {
            if geteuid().is_root() {
                chown(&path, Some(site.root_user.uid), Some(site.web_user.gid)).map_err(failed)?;
            }
            last = 1;
            lines.push_str(&self.line(1, Priority::Info, "cluster", "root", "starting cluster log"));
        }
        lines.push_str(&self.line(last + 1, priority, ident, user, message));
        file.write_all(lines.as_bytes()).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        if usize::try_from(size).unwrap_or(usize::MAX) > RING {
            self.cut()?;
        }
        Ok(())
    }

    fn line(&self, uid: u64, priority: Priority, tag: &str, user: &str, message: &str) -> String {
        let mut entry = LogEntry {
            uid,
            time: self.context.now(),
            pri: priority.number(),
            tag: clean(tag),
            pid: std::process::id(),
            node: self.context.site.node.to_string(),
            user: clean(user),
            msg: clean(message),
        };
        loop {
            let mut line = ascii_json(&serde_json::to_string(&entry).unwrap_or_default());
            let excess = (line.len() + 1).saturating_sub(MAX_ENTRY);
            if excess == 0 || entry.msg.is_empty() {
                line.push('\n');
                return line;
            }
            // A byte of the message is one byte of the line at least and six at most, so this ends, and not too early; a
            // cut never splits a character.
            let mut end = entry.msg.len().saturating_sub(excess.div_ceil(6));
            while !entry.msg.is_char_boundary(end) {
                end -= 1;
            }
            entry.msg.truncate(end);
        }
    }

    /// Drops the oldest entries.
    fn cut(&self) -> Result<(), CfsError> {
        let path = self.file();
        let bytes = self.bytes()?;
        let start = bytes.len().saturating_sub(KEEP);
        let from = bytes
            .iter()
            .skip(start)
            .position(|byte| *byte == b'\n')
            .map_or(start, |at| start + at + 1);
        replace(&self.context.site, &path, bytes.get(from..).unwrap_or_default())
    }

    fn bytes(&self) -> Result<Vec<u8>, CfsError> {
        let path = self.file();
        match fs::read(&path) {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(CfsError::Read {
                path: shown(&path),
                reason: errno_text(&error),
            }),
        }
    }

    /// The newest entries, newest first; only those of exactly that user if one is named.
    ///
    /// # Errors
    /// [`CfsError::Read`].
    pub fn dump(&self, user: Option<&str>, max: usize) -> Result<Vec<LogEntry>, CfsError> {
        let bytes = self.bytes()?;
        Ok(bytes
            .split(|byte| *byte == b'\n')
            .rev()
            .filter_map(|line| serde_json::from_slice::<LogEntry>(line).ok())
            .filter(|entry| user.is_none_or(|user| entry.user == user))
            .take(max)
            .collect())
    }
}

/// The count of the last entry, 0 if there is none.
fn last_uid(file: &mut File) -> std::io::Result<u64> {
    let size = file.metadata()?.len();
    // Two of the longest entries: the last one is whole in there.
    file.seek(SeekFrom::Start(size.saturating_sub(2 * MAX_ENTRY as u64)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let last = tail
        .split(|byte| *byte == b'\n')
        .rev()
        .find_map(|line| serde_json::from_slice::<LogEntry>(line).ok());
    Ok(last.map_or(0, |entry| entry.uid))
}

/// What the program goes by, where its file does not say it.
static SERVICE_NAME: OnceLock<&str> = OnceLock::new();

/// Names the service, for a program that has several names; the first call of a process counts.
pub fn set_service_name(name: &'static str) {
    let _ = SERVICE_NAME.set(name);
}

/// The name of the running service: `pvedaemon`.
pub fn service_name() -> String {
    if let Some(name) = SERVICE_NAME.get() {
        return (*name).to_owned();
    }
    let exe = std::env::current_exe().ok();
    let name = exe
        .as_deref()
        .and_then(|path| path.file_name())
        .map(|name| name.to_string_lossy().into_owned());
    // What is running may have been replaced by an upgrade.
    name.map_or_else(
        || "pve".to_owned(),
        |name| name.trim_end_matches(" (deleted)").to_owned(),
    )
}

/// A text as the log keeps it: control characters as `#` and three digits, nothing beyond U+FFFF.
fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match u32::from(c) {
            code @ (0..=31 | 127) => out.push_str(&format!("#{code:03}")),
            0..=0xffff => out.push(c),
            _ => {}
        }
    }
    out
}

/// A text as the system log gets it: as [`clean`] has it, and `\uXXXX` for what is not ASCII.
pub fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in clean(text).chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        }
    }
    out
}

/// JSON with `\uXXXX` for what is not ASCII, as upstream's log has it; nothing in it is beyond U+FFFF.
fn ascii_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 04 §20, last line: as upstream's `.clusterlog` has it, and what a client makes of that.
    #[test]
    fn entries_are_ascii_and_nothing_is_lost_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let log = Cfs::new(&pve_testing::context(dir.path(), "pve1")).cluster_log();
        for (message, kept, read) in [
            ("say \"hi\"\n", r##"say \"hi\"#010"##, "say \"hi\"#010"),
            ("\t", "#009", "#009"),
            ("grün €", r"gr\u00fcn \u20ac", "grün €"),
            ("\u{7f}a\u{1f600}b", "#127ab", "#127ab"),
        ] {
            let line = log.line(7, Priority::Info, "pvedaemon", "root@pam", message);
            assert!(
                line.contains(&format!("\"msg\":\"{kept}\"")) && line.is_ascii(),
                "{line}"
            );
            assert_eq!(serde_json::from_str::<LogEntry>(&line).unwrap().msg, read);
        }
        let long = log.line(7, Priority::Info, "pvedaemon", "root@pam", &"ü".repeat(4000));
        assert!((MAX_ENTRY - 20..=MAX_ENTRY).contains(&long.len()), "{}", long.len());
    }

    /// Reference 04 §20, last line.
    #[test]
    fn texts_become_ascii() {
        assert_eq!(ascii("say \"hi\"\n"), "say \"hi\"#010");
        assert_eq!(ascii("\t"), "#009");
        assert_eq!(ascii("grün €"), "gr\\u00fcn \\u20ac");
        assert_eq!(ascii("\u{7f}"), "#127");
        assert_eq!(ascii("a😀b"), "ab");
    }

    #[test]
    fn priorities_have_many_names() {
        for (name, number) in [
            ("emerg", 0),
            ("crit", 2),
            ("critical", 2),
            ("err", 3),
            ("warn", 4),
            ("debug", 7),
        ] {
            assert_eq!(name.parse::<Priority>().unwrap().number(), number, "{name}");
        }
        assert!("loud".parse::<Priority>().is_err());
    }
}
