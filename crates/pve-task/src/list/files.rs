//! The files of the list: reading, replacing, appending.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{geteuid, gettid};
use pve_schema::ids::Upid;

use super::{Entry, TaskList};

/// Size from which the index is put away (reference 03 §5.2).
const MAX_INDEX: u64 = 50_000;
/// Most bytes of a file of the list that are read: far beyond what this code writes.
const MAX_READ: u64 = 16 * 1024 * 1024;

impl TaskList {
    pub(super) fn active_file(&self) -> PathBuf {
        self.dir().join("active")
    }

    /// The index (0) or the previous one (1).
    pub(super) fn index_file(&self, age: u8) -> PathBuf {
        self.dir().join(if age == 0 { "index" } else { "index.1" })
    }

    pub(super) fn lock_file(&self) -> PathBuf {
        self.dir().join(".active.lock")
    }

    /// The text of `active`.
    pub(super) fn read_active_text(&self) -> io::Result<String> {
        read_text(&self.active_file())
    }

    /// The entries of `active`, in order.
    pub(super) fn read_active(&self) -> io::Result<Vec<Entry>> {
        Ok(parse_active(&self.read_active_text()?))
    }

    /// The entries of an index, newest end first.
    pub(super) fn read_index(&self, age: u8) -> io::Result<Vec<Entry>> {
        let text = read_text(&self.index_file(age))?;
        Ok(text.lines().rev().filter_map(Entry::from_index).collect())
    }

    pub(super) fn ensure_dir(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o755).create(self.dir())
    }

    pub(super) fn write_active(&self, text: &str) -> io::Result<()> {
        let path = self.active_file();
        let temporary = self.dir().join(format!("active.tmp.{}", gettid()));
        let result = (|| {
            fail::fail_point!("task::active", |_| Err(io::Error::from(nix::errno::Errno::ENOSPC)));
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o644)
                .open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
            fs::rename(&temporary, &path)
        })();
        if result.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        result
    }

    /// Appends finished tasks to the index, and puts a grown index away.
    pub(super) fn append_index(&self, entries: &[&Entry]) -> io::Result<()> {
        fail::fail_point!("task::index", |_| Err(io::Error::from(nix::errno::Errno::ENOSPC)));
        let path = self.index_file(0);
        let mut file = OpenOptions::new().append(true).create(true).mode(0o644).open(&path)?;
        let before = file.metadata()?.len();
        let text: String = entries.iter().map(|entry| entry.index_line()).collect();
        if let Err(error) = file.write_all(text.as_bytes()) {
            // Half a line would hide the next one.
            let _ = file.set_len(before);
            return Err(error);
        }
        if file.metadata()?.len() > MAX_INDEX {
            fs::rename(&path, self.index_file(1))?;
        }
        Ok(())
    }

    /// Makes a task's log: a new file of the web user's, so that it can be read there (reference 03 §5.2).
    pub(crate) fn create_log(&self, upid: &Upid) -> io::Result<File> {
        let path = self.log_path(upid);
        if let Some(dir) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .mode(0o640)
            .open(&path)?;
        if geteuid().is_root() {
            chown(&path, Some(self.context.site.web_user.uid), None)?;
        }
        file.set_permissions(fs::Permissions::from_mode(0o640))?;
        Ok(file)
    }

    /// Removes logs that are older than the oldest task of `index.1`; how many. For the daily clean-up.
    ///
    /// # Errors
    /// Whatever keeps the index from being read.
    pub fn remove_old_logs(&self) -> io::Result<u64> {
        let oldest = read_text(&self.index_file(1))?;
        let Some(horizon) = oldest
            .lines()
            .next()
            .and_then(Entry::from_index)
            .and_then(|entry| entry.endtime)
        else {
            return Ok(0);
        };
        let mut removed = 0;
        for digit in 0..16 {
            removed += remove_older(&self.dir().join(format!("{digit:X}")), i64::from(horizon));
        }
        if removed > 0 {
            log::info!("cleanup removed {removed} task logs");
        }
        Ok(removed)
    }
}

/// The entries in the text of `active`; of several of one task the first. Lines that do not parse are dropped.
pub(super) fn parse_active(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in text.lines() {
        match Entry::from_active(line) {
            Some(entry) if entries.iter().any(|known| known.upid == entry.upid) => {}
            Some(entry) => entries.push(entry),
            None => log::warn!("unable to parse line: {line}"),
        }
    }
    entries
}

fn remove_older(dir: &Path, horizon: i64) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let old = entries.flatten().filter(|entry| {
        entry.file_name().to_string_lossy().starts_with("UPID:")
            && entry
                .metadata()
                .is_ok_and(|meta| meta.is_file() && meta.mtime() < horizon)
    });
    old.filter(|entry| fs::remove_file(entry.path()).is_ok()).count() as u64
}

/// A file's text, empty if there is none.
fn read_text(path: &Path) -> io::Result<String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_READ).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
