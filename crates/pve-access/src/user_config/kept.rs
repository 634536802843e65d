//! Lines of `user.cfg` that nobody understands, and where they belong.
//!
//! A block of such lines that stands directly above a record of its section – or after an empty line, above any record –
//! belongs to that record; other blocks belong to the end of the section before them. When the record is gone, its lines
//! move to the end of the section.

use pve_schema::ids::UserId;

use crate::paths::AclPath;

/// The sections of the file, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    Users,
    Groups,
    Pools,
    Roles,
    Acls,
}

/// A record that lines may stand above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    User(UserId),
    Token(String),
    Group(String),
    Pool(String),
    Role(String),
    Acl(AclPath),
}

impl Record {
    pub(super) fn section(&self) -> Section {
        match self {
            Self::User(_) | Self::Token(_) => Section::Users,
            Self::Group(_) => Section::Groups,
            Self::Pool(_) => Section::Pools,
            Self::Role(_) => Section::Roles,
            Self::Acl(_) => Section::Acls,
        }
    }
}

/// A line that is kept as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeptLine {
    pub(super) text: String,
    pub(super) section: Section,
    /// The record below; `None` for the end of the section.
    pub(super) above: Option<Record>,
}

/// Finds out, line by line, where kept lines belong.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    kept: Vec<KeptLine>,
    /// Lines whose place is not known yet.
    pending: Vec<String>,
    /// Whether an empty line (or the start of the file) stands before the pending lines.
    detached: bool,
    last: Option<Section>,
}

impl Keeper {
    pub(super) fn new() -> Self {
        Self {
            detached: true,
            ..Self::default()
        }
    }

    /// A line that is to be kept.
    pub(super) fn keep(&mut self, line: &str) {
        self.pending.push(line.to_owned());
    }

    /// An empty line.
    pub(super) fn gap(&mut self) {
        self.settle(None);
        self.detached = true;
    }

    /// A record that was understood.
    pub(super) fn record(&mut self, record: Record) {
        let section = record.section();
        let belongs = self.detached || self.last == Some(section);
        self.settle(belongs.then_some(record));
        self.detached = false;
        self.last = Some(section);
    }

    /// The end of the file.
    pub(super) fn finish(mut self) -> Vec<KeptLine> {
        self.settle(None);
        self.kept
    }

    fn settle(&mut self, above: Option<Record>) {
        let section = above
            .as_ref()
            .map(Record::section)
            .or(self.last)
            .unwrap_or(Section::Users);
        let lines = self.pending.drain(..).map(|text| KeptLine {
            text,
            section,
            above: above.clone(),
        });
        self.kept.extend(lines);
    }
}
