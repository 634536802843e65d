//! What a node remembers of a job (reference 05 §2.3, §2.4).
//!
//! ```text
//!            job is due            the job's task
//! created ──────────────▶ starting ─────────────▶ started ──▶ stopped ─┐
//!                            │  no task: done, or failed         ▲     │ job is due
//!                            └───────────────────────────────────┘     └──────────▶ starting
//! ```
//!
//! Each node has a file for every job of the cluster, `/var/lib/pve-manager/jobs/TYPE-ID.json`, and a lock for each.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::gettid;
use pve_cfs::FileLock;
use pve_cfs::lock::DEFAULT_TIMEOUT;
use pve_schema::ids::Upid;
use pve_schema::{Context, errno_text};
use serde_json::{Map, Value};

use crate::error::JobsError;
use crate::jobs_cfg::{Job, JobKind, JobsCfg};

/// Where the files are.
const STATES: &str = "/var/lib/pve-manager/jobs";
/// Where their locks are.
const LOCKS: &str = "/var/lock/pve-manager";
/// Most bytes of a file: a message is one line of a task's log.
const MAX_FILE: u64 = 1024 * 1024;

/// How far a job is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// It never ran on this node.
    #[default]
    Created,
    /// It is about to run.
    Starting,
    /// It runs.
    Started,
    /// It ran.
    Stopped,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Created, Self::Starting, Self::Started, Self::Stopped];

    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Started => "started",
            Self::Stopped => "stopped",
        }
    }
}

/// What a node last saw of a job's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether it is enabled, as in the file.
    pub enabled: String,
    /// Its schedule, as in the file.
    pub schedule: String,
}

/// What a node remembers of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobState {
    /// How far it is.
    pub phase: Phase,
    /// When it got there, if it has no task; Unix seconds.
    pub time: Option<i64>,
    /// Its task.
    pub upid: Option<String>,
    /// How it ended: a task's status, or the word of a job that needed no task.
    pub msg: Option<String>,
    /// The job counts as run at this time: it was changed, or the scheduler did not run before. Unix seconds.
    pub updated: Option<i64>,
    /// The configuration that this is about.
    pub seen: Option<Seen>,
}

/// What came of starting a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// There was nothing to do.
    Done,
    /// A task does it.
    Task(Upid),
    /// It failed.
    Failed(String),
}

impl JobState {
    /// The first state of a job.
    pub fn created(job: &Job, now: i64) -> Self {
        Self {
            time: Some(now),
            seen: Some(job.seen.clone()),
            ..Self::default()
        }
    }

    /// The time after which the next run counts.
    pub fn last(&self) -> i64 {
        let start = |upid: &String| Some(i64::from(upid.parse::<Upid>().ok()?.starttime));
        let of_task = || self.upid.as_ref().and_then(start);
        self.updated.or_else(of_task).or(self.time).unwrap_or(0)
    }

    /// The state once a job's configuration was looked at; `None` if it stays as it is.
    pub fn observed(&self, job: &Job, now: i64) -> Option<Self> {
        if self.seen.as_ref() == Some(&job.seen) {
            return None;
        }
        Some(Self {
            seen: Some(job.seen.clone()),
            updated: Some(now),
            ..self.clone()
        })
    }

    /// The state before a job runs.
    #[must_use]
    pub fn starting(&self, now: i64) -> Self {
        Self {
            phase: Phase::Starting,
            time: Some(now),
            seen: self.seen.clone(),
            ..Self::default()
        }
    }

    /// The state after a job was started.
    #[must_use]
    pub fn after(&self, started: Started, now: i64) -> Self {
        let kept = Self {
            updated: self.updated,
            seen: self.seen.clone(),
            ..Self::default()
        };
        let stopped = |msg: String| Self {
            phase: Phase::Stopped,
            time: Some(now),
            msg: Some(msg),
            ..kept.clone()
        };
        match started {
            Started::Done => stopped("OK".to_owned()),
            Started::Failed(error) => stopped(error),
            Started::Task(upid) => Self {
                phase: Phase::Started,
                upid: Some(upid.to_string()),
                ..kept
            },
        }
    }

    /// The state after a job's task ended with a status.
    #[must_use]
    pub fn ended(&self, status: &str) -> Self {
        Self {
            phase: Phase::Stopped,
            time: None,
            upid: self.upid.clone(),
            msg: Some(status.to_owned()),
            updated: self.updated,
            seen: self.seen.clone(),
        }
    }

    /// Reads the content of a file; an empty one is the default. `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        if text.is_empty() {
            return Some(Self::default());
        }
        if text.contains('\n') {
            return None;
        }
        let map: Map<String, Value> = serde_json::from_str(text).ok()?;
        let phase = match map.get("state") {
            None | Some(Value::Null) => Phase::default(),
            Some(word) => Phase::ALL
                .into_iter()
                .find(|phase| word.as_str() == Some(phase.as_str()))?,
        };
        let seen = map.get("config").and_then(Value::as_object).map(|config| Seen {
            enabled: text_of(config, "enabled").unwrap_or_default(),
            schedule: text_of(config, "schedule").unwrap_or_default(),
        });
        let time = |key: &str| text_of(&map, key).and_then(|text| text.parse().ok());
        Some(Self {
            phase,
            time: time("time"),
            upid: text_of(&map, "upid"),
            msg: text_of(&map, "msg"),
            updated: time("updated"),
            seen,
        })
    }

    /// The content of a file: one line of JSON.
    pub fn to_json(&self) -> String {
        let mut map = Map::new();
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                map.insert(key.to_owned(), value);
            }
        };
        set("state", Some(self.phase.as_str().into()));
        set("time", self.time.map(Value::from));
        set("upid", self.upid.clone().map(Value::from));
        set("msg", self.msg.clone().map(Value::from));
        set("updated", self.updated.map(Value::from));
        set("config", self.seen.as_ref().map(Seen::to_json));
        Value::Object(map).to_string()
    }
}

impl Seen {
    fn to_json(&self) -> Value {
        // Upstream's own readers compare texts; a boolean is a number in what they write.
        let enabled = self
            .enabled
            .parse::<i64>()
            .map_or_else(|_| self.enabled.clone().into(), Value::from);
        serde_json::json!({ "enabled": enabled, "schedule": self.schedule })
    }
}

/// A scalar as text, however it is spelt.
pub(crate) fn text_of(map: &Map<String, Value>, key: &str) -> Option<String> {
    match map.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(u8::from(*flag).to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The state files of this node.
#[derive(Debug, Clone)]
pub struct StateStore {
    context: Context,
}

impl StateStore {
    /// The files of a context's site.
    pub fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
        }
    }

    /// The state of a job; `None` if there is no file.
    ///
    /// # Errors
    /// [`JobsError::InvalidId`], [`JobsError::InvalidState`], [`JobsError::Read`].
    pub fn load(&self, kind: JobKind, id: &str) -> Result<Option<JobState>, JobsError> {
        self.load_file(&self.path(kind, id)?)
    }

    /// Changes the state of a job under its lock: `change` is given the state and answers with the new one, if it is to
    /// be written, and with what the caller wants to know.
    ///
    /// # Errors
    /// As [`StateStore::load`]; [`JobsError::Write`], [`JobsError::Cfs`] if the lock cannot be had in 10 s.
    pub fn change<T>(
        &self,
        kind: JobKind,
        id: &str,
        change: impl FnOnce(Option<JobState>) -> (Option<JobState>, T),
    ) -> Result<T, JobsError> {
        let path = self.path(kind, id)?;
        let _lock = self.lock(kind, id)?;
        let (new, told) = change(self.load_file(&path)?);
        if let Some(state) = new {
            self.save(&path, &state)?;
        }
        Ok(told)
    }

    /// Removes the state of a job.
    ///
    /// # Errors
    /// As [`StateStore::change`].
    pub fn remove(&self, kind: JobKind, id: &str) -> Result<(), JobsError> {
        let path = self.path(kind, id)?;
        let _lock = self.lock(kind, id)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(write_error(&path, &error)),
            _ => Ok(()),
        }
    }

    /// Gives a new job its state, whatever an earlier one of its name left behind.
    ///
    /// # Errors
    /// As [`StateStore::change`].
    pub fn create(&self, job: &Job) -> Result<(), JobsError> {
        let path = self.path(job.kind, &job.id)?;
        let _lock = self.lock(job.kind, &job.id)?;
        self.save(&path, &JobState::created(job, self.context.now()))
    }

    /// Takes note of a job's configuration: a new job gets a state, a changed one counts as run now.
    ///
    /// # Errors
    /// As [`StateStore::change`].
    pub fn observe(&self, job: &Job) -> Result<(), JobsError> {
        let now = self.context.now();
        self.change(job.kind, &job.id, |state| match state {
            Some(state) => (state.observed(job, now), ()),
            None => (Some(JobState::created(job, now)), ()),
        })
    }

    /// Brings the files in line with the configuration: a new job gets one, a changed one counts as run now, one that
    /// is gone loses its file. The caller holds the lock of `jobs.cfg`.
    ///
    /// A file that cannot be read or written is told of in the log, and keeps no other job from its due.
    pub fn synchronise(&self, jobs: &JobsCfg) {
        for job in jobs.jobs() {
            if let Err(error) = self.observe(&job) {
                log::warn!("could not update state of job '{}' - {error}", job.id);
            }
        }
        let ids: BTreeSet<&str> = jobs.file.sections().map(|section| section.id.as_str()).collect();
        for (kind, id) in self.list() {
            if !ids.contains(id.as_str())
                && let Err(error) = self.remove(kind, &id)
            {
                log::warn!("could not remove state of job '{id}' - {error}");
            }
        }
    }

    /// The jobs that have a file.
    fn list(&self) -> Vec<(JobKind, String)> {
        let Ok(entries) = fs::read_dir(self.dir()) else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| job_of(&name)).collect()
    }

    fn dir(&self) -> PathBuf {
        self.context.site.path(STATES)
    }

    fn path(&self, kind: JobKind, id: &str) -> Result<PathBuf, JobsError> {
        if id.is_empty() || id.contains(['/', '\0']) {
            return Err(JobsError::InvalidId(id.to_owned()));
        }
        Ok(self.dir().join(format!("{kind}-{id}.json")))
    }

    fn lock(&self, kind: JobKind, id: &str) -> Result<FileLock, JobsError> {
        let path = self.context.site.path(LOCKS).join(format!("{kind}-{id}.lck"));
        Ok(FileLock::exclusive(&path, DEFAULT_TIMEOUT)?)
    }

    fn load_file(&self, path: &Path) -> Result<Option<JobState>, JobsError> {
        let shown = || path.display().to_string();
        let read = |error: io::Error| JobsError::Read {
            path: shown(),
            reason: errno_text(&error),
        };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(read(error)),
        };
        let mut text = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut text).map_err(read)?;
        let state = JobState::parse(&String::from_utf8_lossy(&text));
        state.map(Some).ok_or_else(|| JobsError::InvalidState(shown()))
    }

    /// Replaces a file durably.
    fn save(&self, path: &Path, state: &JobState) -> Result<(), JobsError> {
        let dir = self.dir();
        let temporary = PathBuf::from(format!("{}.tmp.{}", path.display(), gettid()));
        let result = (|| {
            DirBuilder::new().recursive(true).mode(0o755).create(&dir)?;
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o644)
                .open(&temporary)?;
            file.write_all(state.to_json().as_bytes())?;
            fail::fail_point!("jobs::state", |_| Err(io::Error::from(nix::errno::Errno::ENOSPC)));
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            File::open(&dir)?.sync_all()
        })();
        result.map_err(|error| {
            // The failure that counts is the one at hand.
            let _ = fs::remove_file(&temporary);
            write_error(path, &error)
        })
    }
}

fn write_error(path: &Path, error: &io::Error) -> JobsError {
    JobsError::Write {
        path: path.display().to_string(),
        reason: errno_text(error),
    }
}

/// The job of a state file, by its name.
fn job_of(name: &str) -> Option<(JobKind, String)> {
    let stem = name.strip_suffix(".json")?;
    JobKind::ALL.into_iter().find_map(|kind| {
        let id = stem.strip_prefix(kind.as_str())?.strip_prefix('-')?;
        (!id.is_empty()).then(|| (kind, id.to_owned()))
    })
}
