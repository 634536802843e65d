//! Searching the list (reference 03 §5.6).

use std::io;

use pve_schema::ids::Upid;

use super::{Entry, TaskList};
use crate::status::Class;

/// Which tasks are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// Finished ones, newest end first.
    #[default]
    Archive,
    /// Those that are not in the index yet.
    Active,
    /// The second, then the first.
    All,
}

/// Which of them are wanted. All conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// A part of the user's name, in any case.
    pub user: Option<String>,
    /// The worker type.
    pub worker_type: Option<String>,
    /// The subject.
    pub id: Option<String>,
    /// Earliest start.
    pub since: Option<i64>,
    /// Latest start.
    pub until: Option<i64>,
    /// Kinds of end; `None` for all.
    pub classes: Option<Vec<Class>>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The rows asked for; one that is not in the index has no `saved`.
    pub entries: Vec<Entry>,
    /// All that match.
    pub total: u64,
}

impl Filter {
    fn matches(&self, entry: &Entry) -> bool {
        let upid = &entry.upid;
        let start = i64::from(upid.starttime);
        let class = Class::of(entry.status.as_deref().unwrap_or_default());
        self.worker_type
            .as_ref()
            .is_none_or(|wanted| upid.worker_type == *wanted)
            && self.id.as_ref().is_none_or(|wanted| upid.id == *wanted)
            && self.since.is_none_or(|since| start >= since)
            && self.until.is_none_or(|until| start <= until)
            && self.classes.as_ref().is_none_or(|wanted| wanted.contains(&class))
            && self
                .user
                .as_ref()
                .is_none_or(|part| upid.user.to_lowercase().contains(&part.to_lowercase()))
    }
}

impl TaskList {
    /// Searches the list: `limit` rows after the first `start` that match and that the caller may see.
    ///
    /// # Errors
    /// Whatever keeps a file from being read.
    pub fn query(
        &self,
        source: Source,
        filter: &Filter,
        start: u64,
        limit: u64,
        may_see: &dyn Fn(&Upid) -> bool,
    ) -> io::Result<Found> {
        let mut found = Found {
            entries: Vec::new(),
            total: 0,
        };
        for entry in self.candidates(source)? {
            if !may_see(&entry.upid) || !filter.matches(&entry) {
                continue;
            }
            if found.total >= start && found.total - start < limit {
                found.entries.push(entry);
            }
            found.total += 1;
        }
        Ok(found)
    }

    fn candidates(&self, source: Source) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        if source != Source::Archive {
            entries.extend(self.read_active()?.into_iter().filter(|entry| !entry.saved));
        }
        if source != Source::Active {
            entries.extend(self.read_index(0)?);
            entries.extend(self.read_index(1)?);
        }
        Ok(entries)
    }
}
