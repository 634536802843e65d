//! The node's journal as a client reads it: a window of lines between two cursors, made while it is sent (reference 09
//! §7.2).
//!
//! | module | holds |
//! |---|---|
//! | here | which entries a client wants, and the bytes of the answer |
//! | `entry` | one entry: its cursor, and its line |
//! | `source` | `journalctl`, read entry by entry |
//!
//! Whatever a journal holds, no more than one entry of it is in memory. Not here: who may read it, and the compression of
//! what is sent.

mod entry;
mod source;

use std::io::{self, Read};
use std::path::PathBuf;

use pve_schema::{Failure, ParamErrors, Site};

use entry::{Entry, Zone};
use source::Source;

/// Which entries a client wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window {
    /// Not before this, in seconds since the Unix epoch.
    pub since: Option<i64>,
    /// Not after this.
    pub until: Option<i64>,
    /// Only the last so many.
    pub last: Option<u64>,
    /// Those after this cursor.
    pub after: Option<String>,
    /// Those before this cursor.
    pub before: Option<String>,
}

/// Why there are no entries.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Two parameters ask for different things, or one asks for nothing that there can be.
    #[error("Parameter verification failed.\n")]
    Window(ParamErrors),
    /// The journal cannot be read.
    #[error("unable to read the journal - {0}")]
    Read(#[from] io::Error),
    /// `journalctl` says no.
    #[error("command '{0}' failed: {1}")]
    Command(String, String),
}

impl Failure for JournalError {
    fn status(&self) -> u16 {
        match self {
            Self::Window(_) => 400,
            Self::Read(_) | Self::Command(..) => 500,
        }
    }

    fn param_errors(&self) -> Option<&ParamErrors> {
        match self {
            Self::Window(errors) => Some(errors),
            Self::Read(_) | Self::Command(..) => None,
        }
    }
}

impl Window {
    /// Refuses what contradicts itself.
    fn check(&self) -> Result<(), JournalError> {
        let mut errors = ParamErrors::default();
        let pairs = [
            (self.since.is_some() && self.after.is_some(), "startcursor", "since"),
            (self.until.is_some() && self.before.is_some(), "endcursor", "until"),
            (self.last.is_some() && self.since.is_some(), "lastentries", "since"),
            (self.last.is_some() && self.until.is_some(), "lastentries", "until"),
        ];
        for (_, name, other) in pairs.iter().filter(|(is_wrong, _, _)| *is_wrong) {
            errors.insert((*name).to_owned(), format!("conflicts with '{other}'"));
        }
        for (name, cursor) in [("startcursor", &self.after), ("endcursor", &self.before)] {
            if cursor.as_deref().is_some_and(|cursor| !is_cursor(cursor)) {
                errors.insert(name.to_owned(), "not a cursor of the journal".to_owned());
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(JournalError::Window(errors))
        }
    }
}

/// `s=…;i=…;b=…;m=…;t=…;x=…`, each of hexadecimal digits.
fn is_cursor(text: &str) -> bool {
    let is_field = |field: &str| {
        let digits = field
            .split_once('=')
            .filter(|(key, _)| key.len() == 1)
            .map(|(_, value)| value);
        digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    text.len() <= 512 && text.contains(';') && text.split(';').all(is_field)
}

/// Opens the journal of a site. What is read is the answer: `{"data":[…],"success":1}`, the first and the last text of
/// `data` being the cursors of the oldest and the newest entry. Where the site has no journal of its own, as a lab, it is
/// the machine's.
///
/// # Errors
/// [`JournalError`]; what goes wrong once there is something to read ends the reading.
pub fn open(site: &Site, window: &Window) -> Result<Journal, JournalError> {
    window.check()?;
    let directory = directory(site);
    let open = |arguments: Vec<String>| Source::open(directory.as_deref(), arguments);
    let backwards = |count: u64, from: Option<&str>| {
        let mut arguments = vec!["--reverse".to_owned(), format!("--lines={count}")];
        arguments.extend(from.map(|cursor| format!("--after-cursor={cursor}")));
        open(arguments)
    };
    let mut arguments = Vec::new();
    arguments.extend(window.since.map(|time| format!("--since=@{time}")));
    arguments.extend(window.until.map(|time| format!("--until=@{time}")));
    let (mut until, mut most) = (None, u64::MAX);
    if let Some(count) = window.last {
        // Backwards from the end, no further than to where the window begins.
        let mut source = backwards(count, window.before.as_deref())?;
        let (mut first, mut found) = (None, 0);
        while let Some(entry) = source
            .next()?
            .filter(|entry| Some(&entry.cursor) != window.after.as_ref())
        {
            first = Some(entry.cursor);
            found += 1;
        }
        let Some(first) = first else {
            return Ok(Journal::empty());
        };
        arguments.push(format!("--cursor={first}"));
        most = found;
    } else {
        if let Some(cursor) = &window.before {
            let Some(entry) = backwards(1, Some(cursor))?.next()? else {
                return Ok(Journal::empty());
            };
            until = Some(entry.cursor);
        }
        arguments.extend(window.after.as_ref().map(|cursor| format!("--after-cursor={cursor}")));
    }
    let mut journal = Journal::new(Some(open(arguments)?), until, most);
    // What goes wrong at once can be said.
    journal.fill()?;
    Ok(journal)
}

/// The directory of the site's own journal, if it has one.
fn directory(site: &Site) -> Option<PathBuf> {
    if site.is_system() {
        return None;
    }
    let places = ["/var/log/journal", "/run/log/journal"].map(|place| site.path(place));
    places.into_iter().find(|place| place.is_dir())
}

/// The answer, as it is read.
#[derive(Debug)]
pub struct Journal {
    source: Option<Source>,
    /// The cursor of the last entry that is wanted.
    until: Option<String>,
    /// How many more are.
    most: u64,
    zone: Zone,
    last: Option<Entry>,
    pending: Vec<u8>,
    /// How much of `pending` was read.
    taken: usize,
}

impl Journal {
    fn new(source: Option<Source>, until: Option<String>, most: u64) -> Self {
        Self {
            source,
            until,
            most,
            zone: Zone::system(),
            last: None,
            pending: br#"{"data":["#.to_vec(),
            taken: 0,
        }
    }

    fn empty() -> Self {
        let mut journal = Self::new(None, None, 0);
        journal.pending.extend_from_slice(END);
        journal
    }

    /// Makes the next piece of the answer.
    fn fill(&mut self) -> Result<(), JournalError> {
        let Some(source) = &mut self.source else { return Ok(()) };
        let is_last = self.most == 0
            || self
                .last
                .as_ref()
                .is_some_and(|last| Some(&last.cursor) == self.until.as_ref());
        let next = if is_last { None } else { source.next()? };
        let Some(entry) = next else {
            self.source = None;
            if let Some(last) = self.last.take() {
                self.put(",", &last.cursor);
            }
            self.pending.extend_from_slice(END);
            return Ok(());
        };
        match self.last.take() {
            None => self.put("", &entry.cursor),
            Some(last) if last.boot != entry.boot => self.put(",", "-- Reboot --"),
            Some(_) => {}
        }
        let line = entry.line(&self.zone);
        self.put(",", &line);
        self.most -= 1;
        self.last = Some(entry);
        Ok(())
    }

    /// Adds a text to the array.
    fn put(&mut self, separator: &str, text: &str) {
        self.pending.extend_from_slice(separator.as_bytes());
        // A text can always be written, to memory.
        let _ = serde_json::to_writer(&mut self.pending, text);
    }
}

/// What ends the answer.
const END: &[u8] = br#"],"success":1}"#;

impl Read for Journal {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        loop {
            let waiting = self.pending.get(self.taken..).unwrap_or_default();
            let part = waiting.len().min(buffer.len() - read);
            if let (Some(to), Some(from)) = (buffer.get_mut(read..read + part), waiting.get(..part)) {
                to.copy_from_slice(from);
            }
            read += part;
            self.taken += part;
            if read == buffer.len() || self.source.is_none() {
                return Ok(read);
            }
            self.pending.clear();
            self.taken = 0;
            self.fill().map_err(io::Error::other)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURSOR: &str = "s=c402e6;i=9;b=bbbb;m=7a1200;t=60a2418985200;x=ee30166af6b5a4c3";

    #[test]
    fn what_contradicts_itself_is_refused() {
        let cursor = || Some(CURSOR.to_owned());
        let window = Window::default;
        for (window, expected) in [
            (
                Window {
                    since: Some(1),
                    after: cursor(),
                    ..window()
                },
                "startcursor",
            ),
            (
                Window {
                    until: Some(1),
                    before: cursor(),
                    ..window()
                },
                "endcursor",
            ),
            (
                Window {
                    last: Some(1),
                    since: Some(1),
                    ..window()
                },
                "lastentries",
            ),
            (
                Window {
                    last: Some(1),
                    until: Some(1),
                    ..window()
                },
                "lastentries",
            ),
            (
                Window {
                    after: Some("--help".to_owned()),
                    ..window()
                },
                "startcursor",
            ),
            (
                Window {
                    before: Some("s=x y".to_owned()),
                    ..window()
                },
                "endcursor",
            ),
        ] {
            let error = window.check().unwrap_err();
            assert_eq!(error.status(), 400);
            let names: Vec<_> = error.param_errors().unwrap().keys().collect();
            assert_eq!(names, [expected], "{window:?}");
        }
        for window in [
            window(),
            Window {
                since: Some(1),
                until: Some(2),
                ..window()
            },
            Window {
                since: Some(1),
                before: cursor(),
                ..window()
            },
            Window {
                last: Some(5),
                after: cursor(),
                before: cursor(),
                ..window()
            },
        ] {
            assert!(window.check().is_ok(), "{window:?}");
        }
    }

    #[test]
    fn nothing_is_an_empty_list() {
        let mut text = String::new();
        Journal::empty().read_to_string(&mut text).unwrap();
        assert_eq!(text, r#"{"data":[],"success":1}"#);
    }
}
