//! Round robin files: the figures of a subject over the last minutes to years (reference 04 §13;
//! docs/decisions/0011-rrd.md).
//!
//! The layout of the files is upstream's 9.0, so that either suite goes on with the files of the other.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pve_schema::{Context, Failure, errno_text};
use pve_sys::rrd;
use serde_json::{Map, Value};

use crate::figure;
use crate::record::Record;
use crate::subject::Subject;
use crate::timeframe::{Consolidation, Timeframe};

/// Where the files are.
const DIRECTORY: &str = "/var/lib/rrdcached/db";
/// Seconds from sample to sample of the finest row.
const STEP: u32 = 60;
/// Seconds after which a value is not believed any more.
const HEARTBEAT: u32 = 120;
/// Sources that count up; the files remember their rates.
const COUNTERS: [&str; 4] = ["netin", "netout", "diskread", "diskwrite"];
/// The rows of values: how many steps each stands for, and how many there are. A day by the minute, 30 days by the half
/// hour, 360 days by six hours, eleven years by the week.
const ARCHIVES: [(u32, u32); 4] = [(1, 1440), (30, 1440), (360, 1440), (10080, 570)];

/// The files of a site.
#[derive(Debug, Clone)]
pub struct Rrd {
    context: Context,
}

/// What goes wrong with files of figures.
#[derive(Debug, thiserror::Error)]
pub enum RrdError {
    /// Nothing can be read.
    #[error("RRD error: {0}")]
    Read(rrd::RrdError),
    /// Nothing can be added.
    #[error("RRD update error {}: {error}", .file.display())]
    Update {
        /// To this file.
        file: PathBuf,
        /// Why.
        error: rrd::RrdError,
    },
    /// A file cannot be made.
    #[error("RRD create error {}: {error}", .file.display())]
    Create {
        /// This one.
        file: PathBuf,
        /// Why.
        error: rrd::RrdError,
    },
    /// A directory cannot be made.
    #[error("unable to create directory '{}' - {}", .directory.display(), errno_text(.error))]
    Directory {
        /// This one.
        directory: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl Failure for RrdError {}

impl Rrd {
    /// The files of a site.
    pub fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
        }
    }

    fn file(&self, subject: &Subject) -> PathBuf {
        self.context.site.path(DIRECTORY).join(subject.to_string())
    }

    /// Adds what a record says to its subject's file, which is made if there is none yet.
    ///
    /// # Errors
    /// The file cannot be made or written, or has a sample of this second already.
    pub fn update(&self, record: &Record) -> Result<(), RrdError> {
        let file = self.file(&record.subject);
        if !file.exists() {
            self.create(&record.subject, &file)?;
        }
        rrd::update(&file, &record.sample()).map_err(|error| RrdError::Update { file, error })
    }

    fn create(&self, subject: &Subject, file: &Path) -> Result<(), RrdError> {
        make_directory(file)?;
        let start = start_of_day(self.context.now());
        rrd::create(file, STEP, start, &definitions(subject)).map_err(|error| RrdError::Create {
            file: file.to_owned(),
            error,
        })
    }

    /// The points of a chart, oldest first. A value that is unknown is absent.
    ///
    /// # Errors
    /// `RRD error: opening '…': No such file or directory` for a subject that nobody told of yet.
    pub fn rows(
        &self,
        subject: &Subject,
        timeframe: Timeframe,
        how: Consolidation,
    ) -> Result<Vec<Map<String, Value>>, RrdError> {
        let step = i64::from(timeframe.step());
        let end = self.context.now().div_euclid(step) * step;
        let start = end - step * i64::from(timeframe.points());
        let found = rrd::fetch(&self.file(subject), how, start, end, timeframe.step()).map_err(RrdError::Read)?;
        let times = (1..=i64::from(timeframe.points())).map(|n| start + n * step);
        let mut rows: Vec<_> = times.map(|time| row(&found, time)).collect();
        // The newest interval may not be over yet.
        if rows.last().is_some_and(|row| row.len() == 1) {
            rows.pop();
        }
        Ok(rows)
    }
}

/// The point whose interval ends at a time.
fn row(found: &rrd::Fetched, time: i64) -> Map<String, Value> {
    let mut row = Map::from_iter([("time".to_owned(), time.into())]);
    let since = time - found.first;
    if since % found.step != 0 {
        return row;
    }
    let values = usize::try_from(since / found.step)
        .ok()
        .and_then(|index| found.values.chunks_exact(found.names.len().max(1)).nth(index));
    for (name, value) in found.names.iter().zip(values.unwrap_or_default()) {
        if let Some(value) = figure::json(*value) {
            row.insert(name.clone(), value);
        }
    }
    row
}

/// Makes the directories of a file. Upstream's are for root and its group only.
fn make_directory(file: &Path) -> Result<(), RrdError> {
    let Some(directory) = file.parent().filter(|directory| !directory.is_dir()) else {
        return Ok(());
    };
    let made = DirBuilder::new().recursive(true).mode(0o750).create(directory);
    made.map_err(|error| RrdError::Directory {
        directory: directory.to_owned(),
        error,
    })
}

/// What `rrdtool create` needs to know.
fn definitions(subject: &Subject) -> Vec<String> {
    let source = |name: &&str| {
        let kind = if COUNTERS.contains(name) { "DERIVE" } else { "GAUGE" };
        format!("DS:{name}:{kind}:{HEARTBEAT}:0:U")
    };
    let archives = ["AVERAGE", "MAX"]
        .into_iter()
        .flat_map(|how| ARCHIVES.map(|(steps, rows)| format!("RRA:{how}:0.5:{steps}:{rows}")));
    subject.sources().iter().map(source).chain(archives).collect()
}

/// The last midnight of local time, or the time itself where none can be told.
fn start_of_day(now: i64) -> i64 {
    let zoned = Timestamp::from_second(now).map(|now| now.to_zoned(TimeZone::system()));
    let midnight = zoned.and_then(|now| now.start_of_day());
    midnight.map_or(now, |midnight| midnight.timestamp().as_second())
}
