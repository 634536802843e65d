//! Replication jobs as they are configured, and what their runs left behind (reference 05 §17.1, §17.2).
//!
//! Not here: running them, and changing the configuration.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::sync::LazyLock;

use jiff::tz::TimeZone;
use pve_cfs::Cfs;
use pve_contract::{id, method};
use pve_schema::Context;
use pve_schema::errno_text;
use pve_schema::ids::VmId;
use pve_schema::section_config::{self, Section, SectionFile, SectionFormat, Use};
use serde_json::{Map, Value};

use crate::calendar::{Event, next_event};
use crate::error::JobsError;

/// The file below `/etc/pve`.
pub const FILE: &str = "replication.cfg";
/// What is remembered of runs.
const STATE: &str = "/var/lib/pve-manager/pve-replication-state.json";
/// Where the logs of jobs are.
const LOGS: &str = "/var/log/pve/replicate";
/// When jobs run that do not say it.
const DEFAULT_SCHEDULE: &str = "*/15";
/// Seconds from a failure to the next try: so many times the number of failures, and at most that.
const RETRY: (i64, i64) = (5 * 60, 30 * 60);
/// Failures after which the pause does not grow any more.
const GROWING: i64 = 3;
/// What a row shows of a run.
const SHOWN: [&str; 5] = ["last_sync", "last_try", "fail_count", "error", "duration"];

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicationJob {
    /// Its name: `100-0`.
    pub id: String,
    /// Whose disks it copies.
    pub guest: VmId,
    /// Its number among the guest's jobs.
    pub number: u32,
    section: Section,
}

/// What runs of jobs left behind: by guest, then by target.
#[derive(Debug, Clone, Default)]
pub struct ReplicationState(Map<String, Value>);

/// What the file may hold.
fn format() -> &'static SectionFormat {
    static FORMAT: LazyLock<SectionFormat> = LazyLock::new(|| {
        let declared = method(id::POST_CLUSTER_REPLICATION).parameters;
        let options: Vec<_> = declared
            .iter()
            .filter(|parameter| !["id", "type"].contains(&parameter.name))
            .collect();
        let usage = |name: &str| {
            if name == "target" {
                Use::REQUIRED_FIXED
            } else {
                Use::OPTIONAL
            }
        };
        let uses: Vec<_> = options
            .iter()
            .map(|parameter| (parameter.name, usage(parameter.name)))
            .collect();
        let format = SectionFormat::new(FILE).escaped_comment();
        options
            .iter()
            .fold(format, |format, parameter| {
                format.option(parameter.name, parameter.schema)
            })
            .kind("local", &uses)
    });
    &FORMAT
}

/// The configured jobs, by guest and number. Of several to one target the first counts.
///
/// # Errors
/// The file cannot be read.
pub fn jobs(cfs: &Cfs) -> Result<Vec<ReplicationJob>, JobsError> {
    Ok(parse(&cfs.read_text(FILE)?.unwrap_or_default()))
}

fn parse(text: &str) -> Vec<ReplicationJob> {
    let file = SectionFile::parse(format(), text);
    for warning in &file.warnings {
        log::warn!("{}", warning.to_string().trim_end());
    }
    let mut jobs: BTreeMap<(VmId, u32), ReplicationJob> = BTreeMap::new();
    for job in file.sections().filter_map(ReplicationJob::of) {
        let is_double = |other: &ReplicationJob| other.guest == job.guest && other.target() == job.target();
        if jobs.values().any(is_double) {
            log::warn!(
                "delete job {}: replication job for guest '{}' to target 'local/{}' already exists",
                job.id,
                job.guest,
                job.target()
            );
            continue;
        }
        jobs.entry((job.guest, job.number)).or_insert(job);
    }
    jobs.into_values().collect()
}

impl ReplicationJob {
    /// The job of a section; `None` if its name is none.
    fn of(section: &Section) -> Option<Self> {
        let (guest, number) = section.id.split_once('-')?;
        let (guest, number): (u32, u32) = (guest.parse().ok()?, number.parse().ok()?);
        Some(Self {
            id: format!("{guest}-{number}"),
            guest: guest.try_into().ok()?,
            number,
            section: section.clone(),
        })
    }

    /// The node that gets the copies.
    pub fn target(&self) -> &str {
        self.section.text("target").unwrap_or_default()
    }

    /// When it runs next, Unix seconds; 0 for never.
    fn next_sync(&self, state: &Map<String, Value>, is_online: impl Fn(&str) -> bool) -> i64 {
        let number = |key: &str| state.get(key).and_then(Value::as_i64).unwrap_or(0);
        if self.section.text("remove_job").is_some() {
            return 1;
        }
        let (failures, last) = (number("fail_count"), number("last_try"));
        if failures > 0 {
            let pause = if failures <= GROWING {
                RETRY.0 * failures
            } else {
                RETRY.1
            };
            return if is_online(self.target()) { last + pause } else { 0 };
        }
        let schedule = self.section.text("schedule").unwrap_or(DEFAULT_SCHEDULE);
        let event = schedule.parse::<Event>().ok();
        event
            .and_then(|event| next_event(&event, &TimeZone::system(), last))
            .unwrap_or(0)
    }

    /// What is told of it: how it is configured, how its last run went, when it runs next.
    pub fn row(&self, cfs: &Cfs, state: &ReplicationState) -> Map<String, Value> {
        let kept = state.of(self);
        let mut row = Map::new();
        for (key, value) in self.section.iter() {
            if let section_config::Value::Text(value) = value {
                row.insert(key.to_owned(), option(key, value));
            }
        }
        row.insert("id".to_owned(), self.id.as_str().into());
        row.insert("type".to_owned(), self.section.kind.as_str().into());
        row.insert("guest".to_owned(), self.guest.get().into());
        row.insert("jobnum".to_owned(), self.number.into());
        for key in SHOWN {
            let unknown = if key == "error" { None } else { Some(Value::from(0)) };
            if let Some(value) = kept.get(key).cloned().or(unknown) {
                row.insert(key.to_owned(), value);
            }
        }
        if let Some(pid) = running(&kept) {
            row.insert("pid".to_owned(), pid.into());
        }
        let is_online = |node: &str| cfs.is_online(node).unwrap_or(false);
        row.insert("next_sync".to_owned(), self.next_sync(&kept, is_online).into());
        row
    }

    /// Where its log is, that of its last run.
    pub fn log_path(&self, context: &Context) -> std::path::PathBuf {
        context.site.path(LOGS).join(&self.id)
    }
}

/// An option as JSON: numbers and booleans are numbers.
fn option(key: &str, value: &str) -> Value {
    let number = match key {
        "rate" => value
            .parse()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map(Value::Number),
        "disable" => Some(Value::from(u8::from(pve_schema::text::truthy(value)))),
        _ => None,
    };
    number.unwrap_or_else(|| value.into())
}

impl ReplicationState {
    /// What is remembered; nothing where nothing ran.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn load(context: &Context) -> Result<Self, JobsError> {
        let path = context.site.path(STATE);
        match fs::read(&path) {
            Ok(bytes) => Ok(Self(serde_json::from_slice(&bytes).unwrap_or_default())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(JobsError::Read {
                path: path.display().to_string(),
                reason: errno_text(&error),
            }),
        }
    }

    fn of(&self, job: &ReplicationJob) -> Map<String, Value> {
        let guest = self.0.get(&job.guest.to_string());
        let kept = guest.and_then(|targets| targets.get(format!("local/{}", job.target())));
        kept.and_then(Value::as_object).cloned().unwrap_or_default()
    }
}

/// The process of a run that is under way: its number may have gone to another one since.
fn running(state: &Map<String, Value>) -> Option<u64> {
    let pid = state.get("pid")?.as_u64()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let is_alive = fields.next()? != "Z";
    // The first field after the name is the third of all; the start is the 22nd.
    let start: u64 = fields.nth(18)?.parse().ok()?;
    let begun = state.get("ptime").and_then(Value::as_u64);
    (is_alive && begun.is_none_or(|begun| begun == start)).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FILE_TEXT: &str = "local: 100-0\n\tcomment every%3A 5 min\n\ttarget lab2\n\trate 10\n\tschedule */5\n\tsource lab1\n\n\
        local: 100-1\n\ttarget lab2\n\nlocal: 100-2\n\ttarget lab3\n\tdisable\n\nlocal: 99-0\n\ttarget lab2\n\n\
        local: x\n\ttarget lab2\n\nlocal: 0101-00\n\ttarget lab2\n\tremove_job full\n";

    fn cfs(dir: &tempfile::TempDir) -> Cfs {
        let cfs = Cfs::new(&pve_testing::context(dir.path(), "lab1"));
        cfs.ensure_tree().unwrap();
        cfs.write(FILE, FILE_TEXT.as_bytes()).unwrap();
        cfs
    }

    #[test]
    fn jobs_have_a_guest_and_a_target_each() {
        let dir = tempfile::tempdir().unwrap();
        let ids: Vec<_> = jobs(&cfs(&dir)).unwrap().into_iter().map(|job| job.id).collect();
        assert_eq!(ids, ["100-0", "100-2", "101-0"]);
    }

    #[test]
    fn a_row_shows_configuration_and_last_run() {
        let dir = tempfile::tempdir().unwrap();
        let cfs = cfs(&dir);
        let own = json!(std::process::id());
        let state = json!({"100": {"local/lab2": {"duration": 3.25, "fail_count": 0, "last_sync": 1_787_193_000,
            "last_try": 1_787_193_000, "pid": own}, "local/lab3": {"pid": own, "ptime": 1, "fail_count": 2,
            "last_try": 600, "error": "no"}}});
        let state = ReplicationState(state.as_object().unwrap().clone());
        let rows: Vec<_> = jobs(&cfs)
            .unwrap()
            .iter()
            .map(|job| Value::from(job.row(&cfs, &state)))
            .collect();
        assert_eq!(
            rows[0],
            json!({"id": "100-0", "type": "local", "guest": 100, "jobnum": 0, "comment": "every: 5 min",
                "target": "lab2", "rate": 10.0, "schedule": "*/5", "source": "lab1", "last_sync": 1_787_193_000,
                "last_try": 1_787_193_000, "fail_count": 0, "duration": 3.25, "pid": own,
                "next_sync": 1_787_193_300})
        );
        // Its process number is another one's now, and the target is away.
        assert_eq!(
            rows[1],
            json!({"id": "100-2", "type": "local", "guest": 100, "jobnum": 2, "target": "lab3", "disable": 1,
                "last_sync": 0, "last_try": 600, "fail_count": 2, "error": "no", "duration": 0, "next_sync": 0})
        );
        assert_eq!(rows[2]["next_sync"], 1, "what is to be removed is due");
    }

    #[test]
    fn pauses_grow_with_failures() {
        let job = &parse("local: 100-0\n\ttarget lab2\n")[0];
        let next = |failures: i64| {
            let state = json!({"fail_count": failures, "last_try": 1000});
            job.next_sync(state.as_object().unwrap(), |node| node == "lab2") - 1000
        };
        assert_eq!([1, 2, 3, 4, 50].map(next), [300, 600, 900, 1800, 1800]);
    }
}
