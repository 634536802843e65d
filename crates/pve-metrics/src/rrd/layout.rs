//! Where the files are, what is in them (reference 04 §13.1), and making them.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pve_sys::rrd;

use super::{Rrd, RrdError};
use crate::subject::Subject;

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
/// Tells the files that this process makes apart, until they have their names.
static MADE: AtomicU64 = AtomicU64::new(0);

impl Rrd {
    /// The file of a subject.
    pub(super) fn file(&self, subject: &Subject) -> PathBuf {
        self.context.site.path(DIRECTORY).join(subject.to_string())
    }

    /// The file that releases before 9.0 kept, if it is there: under its name, or put aside as `.old`.
    pub(super) fn file_before_9(&self, subject: &Subject) -> Option<PathBuf> {
        let name = subject.folder_before_9();
        let file = self.context.site.path(DIRECTORY).join(name);
        let mut old = OsString::from(&file);
        old.push(".old");
        [file, old.into()].into_iter().find(|file| file.is_file())
    }

    /// Makes a subject's file. It has its name when it is whole: a disk that is full leaves nothing half made.
    pub(super) fn create(&self, subject: &Subject, file: &Path) -> Result<(), RrdError> {
        make_directory(file)?;
        let mut name = OsString::from(".");
        name.push(file.file_name().unwrap_or_default());
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        name.push(format!(".tmp.{}.{number}", std::process::id()));
        let temporary = file.with_file_name(name);
        let start = start_of_day(self.context.now());
        let made = rrd::create(&temporary, STEP, start, &definitions(subject)).map_err(|error| RrdError::Create {
            file: file.to_owned(),
            error,
        });
        let made = made.and_then(|()| {
            fs::rename(&temporary, file).map_err(|error| RrdError::Rename {
                from: temporary.clone(),
                to: file.to_owned(),
                error,
            })
        });
        if made.is_err() {
            // Ours, and not whole.
            let _ = fs::remove_file(&temporary);
        }
        made
    }
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
