//! Where the files are, what is in them (reference 04 §13.1), and making them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use pve_cfs::rename_new;
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
/// Between a file's name and its maker's number, until it is whole.
const TEMPORARY: &str = ".tmp.";
/// Directories in which this process looked for what others left.
static LOOKED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
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

    /// Makes a subject's file. It has its name when it is whole: a disk that is full leaves nothing half made. One that
    /// is there meanwhile stays.
    pub(super) fn create(&self, subject: &Subject, file: &Path) -> Result<(), RrdError> {
        make_directory(file)?;
        remove_leftovers(file);
        let mut name = OsString::from(".");
        name.push(file.file_name().unwrap_or_default());
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        name.push(format!("{TEMPORARY}{}.{number}", std::process::id()));
        let temporary = file.with_file_name(name);
        let start = start_of_day(self.context.now());
        let made = rrd::create(&temporary, STEP, start, &definitions(subject)).map_err(|error| RrdError::Create {
            file: file.to_owned(),
            error,
        });
        let named = made.and_then(|()| {
            rename_new(&temporary, file).map_err(|error| RrdError::Rename {
                from: temporary.clone(),
                to: file.to_owned(),
                error,
            })
        });
        if named.is_err() {
            // Ours, and not whole or not needed.
            let _ = fs::remove_file(&temporary);
        }
        match named {
            Err(RrdError::Rename { error, .. }) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            named => named,
        }
    }
}

/// Removes files that processes began beside this one and were killed before these had their names: once per process
/// and directory, since whoever was killed making a file is followed by one that makes it.
fn remove_leftovers(file: &Path) {
    let Some(directory) = file.parent() else { return };
    let mut looked = LOOKED.lock().unwrap_or_else(PoisonError::into_inner);
    if !looked.insert(directory.to_owned()) {
        return;
    }
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_str().is_some_and(is_leftover)) {
        match fs::remove_file(entry.path()) {
            Ok(()) => log::info!("removed '{}', which nobody finished", entry.path().display()),
            Err(error) => log::warn!("unable to remove '{}': {error}", entry.path().display()),
        }
    }
}

/// Whether a name is one of [`Rrd::create`], by a process that is not there any more. This one has made none yet where
/// it looks for the first time: its number may be that of another one before it.
fn is_leftover(name: &str) -> bool {
    let maker = name.strip_prefix('.').and_then(|name| name.rsplit_once(TEMPORARY));
    let maker = maker.and_then(|(_, maker)| maker.split_once('.'));
    let Some((Ok(process), Ok(_))) = maker.map(|(process, number)| (process.parse(), number.parse::<u64>())) else {
        return false;
    };
    let is_ours = u32::try_from(process).is_ok_and(|process| process == std::process::id());
    is_ours || process > 0 && kill(Pid::from_raw(process), None) == Err(Errno::ESRCH)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_file_that_is_there_meanwhile_stays() {
        let directory = tempfile::tempdir().unwrap();
        let rrd = Rrd::new(&pve_testing::context(directory.path(), "n1"));
        let subject = Subject::Guest(100.try_into().unwrap());
        let file = rrd.file(&subject);
        rrd.create(&subject, &file).unwrap();
        let first = fs::metadata(&file).unwrap().ino();
        rrd.create(&subject, &file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().ino(), first);
        let names = fs::read_dir(file.parent().unwrap()).unwrap();
        assert_eq!(names.count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_killed_processes_left_is_removed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let rrd = Rrd::new(&pve_testing::context(directory.path(), "n1"));
        let subject = Subject::Guest(100.try_into().unwrap());
        let file = rrd.file(&subject);
        let folder = file.parent().unwrap();
        fs::create_dir_all(folder).unwrap();
        let mut killed = std::process::Command::new("true").spawn().unwrap();
        killed.wait().unwrap();
        let left = format!(".100.tmp.{}.3", killed.id());
        let others = [".100.tmp.1.0", ".100.tmp.x.0", ".100.tmp.1", "100.tmp.1.0", ".hidden"];
        for name in others.into_iter().chain([left.as_str()]) {
            fs::write(folder.join(name), "x").unwrap();
        }
        rrd.create(&subject, &file).unwrap();
        assert!(!folder.join(left).exists());
        assert!(others.iter().all(|name| folder.join(name).exists()));
    }
}
