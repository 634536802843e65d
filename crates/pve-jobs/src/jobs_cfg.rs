//! `jobs.cfg`: the configured jobs (reference 05 §2.1).

use std::sync::LazyLock;

use pve_cfs::{Cfs, LockId};
use pve_contract::{Method, id, method};
use pve_schema::Param;
use pve_schema::Params;
use pve_schema::calendar::Event;
use pve_schema::section_config::{Section, SectionFile, SectionFormat, Use, Value};

use crate::error::JobsError;
use crate::state::Seen;

/// The file below `/etc/pve`.
pub const FILE: &str = "jobs.cfg";
const ENABLED: &str = "enabled";
const SCHEDULE: &str = "schedule";
const REPEAT_MISSED: &str = "repeat-missed";

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobKind {
    /// Backs guests up.
    Vzdump,
    /// Synchronises a realm's users and groups.
    RealmSync,
}

impl JobKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Vzdump, Self::RealmSync];

    /// The word in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vzdump => "vzdump",
            Self::RealmSync => "realm-sync",
        }
    }

    /// The kind of a section.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl std::fmt::Display for JobKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the file may hold. The options and their limits are those of the methods that create jobs.
pub fn format() -> &'static SectionFormat {
    static FORMAT: LazyLock<SectionFormat> = LazyLock::new(|| {
        let vzdump = method(id::POST_CLUSTER_BACKUP);
        // The name is the section's, and a start time is turned into a schedule before it is stored.
        let vzdump_options = options(vzdump, &["id", "starttime", "dow"], |key| match key {
            SCHEDULE => Use::REQUIRED,
            _ => Use::OPTIONAL,
        });
        let realm_sync = method(id::POST_CLUSTER_JOBS_REALM_SYNC_ID);
        let realm_sync_options = options(realm_sync, &["id"], |key| match key {
            "realm" => Use::REQUIRED_FIXED,
            SCHEDULE | "scope" => Use::REQUIRED,
            _ => Use::OPTIONAL,
        });
        let declared = vzdump.parameters.iter().chain(realm_sync.parameters);
        let format = SectionFormat::new(FILE).escaped_comment();
        declared
            .fold(format, |format, parameter| {
                format.option(parameter.name, parameter.schema)
            })
            .kind(JobKind::Vzdump.as_str(), &vzdump_options)
            .kind(JobKind::RealmSync.as_str(), &realm_sync_options)
    });
    &FORMAT
}

/// The options that a method declares, but for some.
fn options(method: &Method, but: &[&str], usage: impl Fn(&str) -> Use) -> Vec<(&'static str, Use)> {
    let names = method.parameters.iter().map(|parameter| parameter.name);
    let names = names.filter(|name| !but.contains(name));
    names.map(|name| (name, usage(name))).collect()
}

/// The lock of the file.
pub fn lock_id() -> LockId {
    LockId::file(FILE)
}

/// A job as the scheduler sees it. Its other options are in its section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its name.
    pub id: String,
    /// What it does.
    pub kind: JobKind,
    /// When.
    pub schedule: Event,
    /// Whether it runs at all.
    pub enabled: bool,
    /// The only node that runs it; by default each does.
    pub node: Option<String>,
    /// Whether it runs at once if it was due while the scheduler did not run.
    pub repeat_missed: bool,
    /// What tells a change of the job from none.
    pub seen: Seen,
}

impl Job {
    /// The job of a section; `None` if that is of another kind or its schedule is none.
    pub fn of(section: &Section) -> Option<Self> {
        let schedule = section.text(SCHEDULE)?;
        Some(Self {
            id: section.id.clone(),
            kind: JobKind::from_word(&section.kind)?,
            schedule: schedule.parse().ok()?,
            enabled: section.flag(ENABLED).unwrap_or(true),
            node: section.text("node").map(str::to_owned),
            repeat_missed: section.is_set(REPEAT_MISSED),
            seen: Seen {
                enabled: section.text(ENABLED).unwrap_or("1").to_owned(),
                schedule: schedule.to_owned(),
            },
        })
    }
}

/// The parameters with which a backup job calls the method that starts a backup (reference 05 §2.5).
pub fn vzdump_params(section: &Section) -> Params {
    let call = method(id::POST_NODES_NODE_VZDUMP);
    let known = section.iter().filter(|(key, _)| call.parameter(key).is_some());
    let mut params: Params = known.map(|(key, value)| (key.to_owned(), param(value))).collect();
    params.insert("job-id", Param::Text(section.id.clone()));
    params.insert("quiet", Param::Text("1".to_owned()));
    params
}

fn param(value: &Value) -> Param {
    match value {
        Value::Text(text) => Param::Text(text.clone()),
        Value::List(items) => Param::List(items.iter().cloned().map(Param::Text).collect()),
    }
}

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobsCfg {
    /// The sections, and whatever else stands there.
    pub file: SectionFile,
}

impl JobsCfg {
    /// Reads the file; a missing one is empty. Warnings go to the log.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(cfs: &Cfs) -> Result<Self, JobsError> {
        let text = cfs.read_text(FILE)?.unwrap_or_default();
        let jobs = Self::parse(&text);
        for warning in &jobs.file.warnings {
            log::warn!("{}", warning.to_string().trim_end());
        }
        Ok(jobs)
    }

    /// Reads the content of the file: every job gets to know whether it is enabled.
    pub fn parse(text: &str) -> Self {
        let mut file = SectionFile::parse(format(), text);
        for section in file.sections_mut().filter(|section| section.get(ENABLED).is_none()) {
            section.set(ENABLED, true);
        }
        Self { file }
    }

    /// Writes the file. The caller holds its lock since it read it.
    ///
    /// # Errors
    /// A job lacks what it needs, or the file cannot be written.
    pub fn write(&self, cfs: &Cfs) -> Result<(), JobsError> {
        cfs.write(FILE, self.file.write(format())?.as_bytes())?;
        Ok(())
    }

    /// A job's section; `None` if there is none of this name and kind.
    pub fn get(&self, kind: JobKind, id: &str) -> Option<&Section> {
        self.file.get(id).filter(|section| section.kind == kind.as_str())
    }

    /// The sections of a kind, in the order of the file.
    pub fn sections(&self, kind: JobKind) -> impl Iterator<Item = &Section> {
        self.file
            .sections()
            .filter(move |section| section.kind == kind.as_str())
    }

    /// The jobs, in the order in which a round looks at them: by name, byte by byte.
    pub fn jobs(&self) -> Vec<Job> {
        let mut jobs: Vec<Job> = self.file.sections().filter_map(Job::of).collect();
        jobs.sort_by(|a, b| a.id.cmp(&b.id));
        jobs
    }
}
