//! Bringing the list up to date, and telling the other nodes (reference 03 §5.2, §5.5).

use std::io;
use std::time::Duration;

use pve_cfs::{Cfs, CfsError, FileLock};
use pve_schema::ids::Upid;
use pve_schema::{Failure, errno_text};

use super::files::parse_active;
use super::{Entry, Published, TaskList};
use crate::counters;
use crate::process::is_running;
use crate::status;

/// How long another update is waited for.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Tasks that the list keeps, running ones included; more only if more run.
const KEEP: usize = 25;
/// First size that the status store refuses.
const MAX_PUBLISHED: usize = 32 * 1024;
/// The status key of the list.
const STATUS_KEY: &str = "tasklist";

/// Why the list could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// Another process is at it for too long, or the status store refused.
    #[error(transparent)]
    Cfs(#[from] CfsError),
    /// The files could not be read or written.
    #[error("unable to update task list - {0}")]
    Files(String),
}

impl From<io::Error> for ListError {
    fn from(error: io::Error) -> Self {
        Self::Files(errno_text(&error))
    }
}

impl Failure for ListError {}

impl TaskList {
    /// Brings the list up to date and tells the other nodes. To be called when a task starts (`new`) or ends, and every
    /// 10 s by the statistics daemon.
    ///
    /// # Errors
    /// [`ListError`].
    pub fn refresh(&self, new: Option<&Upid>) -> Result<Vec<Entry>, ListError> {
        let entries = self.update(new)?;
        self.publish(&entries)?;
        Ok(entries)
    }

    /// Brings the list up to date.
    ///
    /// # Errors
    /// [`ListError`].
    pub fn update(&self, new: Option<&Upid>) -> Result<Vec<Entry>, ListError> {
        self.ensure_dir()?;
        let _lock = FileLock::acquire(
            &self.lock_file(),
            pve_cfs::lock::Mode::Exclusive,
            LOCK_TIMEOUT,
            &mut |_| {},
        )?;
        let before = self.read_active_text()?;
        let mut entries = parse_active(&before);
        if let Some(upid) = new
            && !entries.iter().any(|entry| entry.upid == *upid)
        {
            entries.insert(0, Entry::running(upid.clone()));
        }
        let (running, mut finished): (Vec<Entry>, Vec<Entry>) =
            entries.into_iter().partition(|entry| is_running(&entry.upid));
        self.note_ends(&mut finished);
        finished.sort_by_key(|entry| std::cmp::Reverse(entry.upid.starttime));
        self.save_finished(&mut finished);
        let room = KEEP.saturating_sub(running.len());
        let after: Vec<Entry> = running.into_iter().chain(finished.into_iter().take(room)).collect();
        let text: String = after.iter().map(Entry::active_line).collect();
        if new.is_some() || text != before {
            self.write_active(&text)?;
        }
        Ok(after)
    }

    /// Sets when and how tasks ended of which that is not known yet.
    fn note_ends(&self, finished: &mut [Entry]) {
        let now = u32::try_from(self.context.now()).unwrap_or(u32::MAX);
        for entry in finished {
            entry.endtime.get_or_insert(now);
            entry
                .status
                .get_or_insert_with(|| status::of_log(&self.log_path(&entry.upid)));
        }
    }

    /// Puts finished tasks into the index that are not there yet. If that fails, the next update tries again.
    fn save_finished(&self, finished: &mut [Entry]) {
        let unsaved: Vec<&Entry> = finished.iter().filter(|entry| !entry.saved).collect();
        if unsaved.is_empty() {
            return;
        }
        match self.append_index(&unsaved) {
            Ok(()) => {
                for entry in finished.iter_mut().filter(|entry| !entry.saved) {
                    entry.saved = true;
                    counters::ended(entry.status.as_deref().unwrap_or_default());
                }
            }
            Err(error) => log::warn!("unable to write task index - {}", errno_text(&error)),
        }
    }

    /// Tells the other nodes, leaving out the oldest as far as need be.
    fn publish(&self, entries: &[Entry]) -> Result<(), CfsError> {
        let mut rows: Vec<Published> = entries.iter().map(Entry::publish).collect();
        loop {
            let text = serde_json::to_vec(&rows).unwrap_or_default();
            if text.len() < MAX_PUBLISHED || rows.pop().is_none() {
                return Cfs::new(&self.context).status().set(STATUS_KEY, &text);
            }
        }
    }

    /// What the nodes told of their tasks, node by node; this node's own where it has no cluster.
    ///
    /// # Errors
    /// [`CfsError::Read`].
    pub fn published(&self) -> Result<Vec<Published>, CfsError> {
        let told = Cfs::new(&self.context).status().get(STATUS_KEY)?;
        Ok(told
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default())
    }
}
