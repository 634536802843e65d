//! Round robin files: the figures of a subject over the last minutes to years (reference 04 §13;
//! docs/decisions/0011-rrd.md).
//!
//! ```text
//! a record ──▶ file there and whole? ──▶ rrdcached runs? ──yes──▶ all records in one batch over one connection
//!              no: made, or moved aside       │ no, or it refuses
//!              and made anew                  └──────────────────▶ librrd writes the file
//! ```
//!
//! | module | holds |
//! |---|---|
//! | here | adding samples |
//! | `layout` | where the files are and what is in them; making them |
//! | `damage` | files that are none any more |
//! | `daemon` | the way through rrdcached, where it runs |
//! | `rows` | the points of charts, from files before 9.0 too |
//! | `picture` | charts as pictures |
//!
//! The layout of the files is upstream's 9.0, so that either suite goes on with the files of the other.

mod daemon;
mod damage;
mod layout;
mod picture;
mod rows;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use pve_schema::{Context, Failure, errno_text};
use pve_sys::rrd;

use crate::foreign::{self, UnknownKey};
use crate::record::Record;
use crate::subject::Subject;

pub use picture::Picture;

/// The files of a site. Cheap to make: what is kept of rrdcached is the process's.
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
    /// A chart of more sources than there are colours for.
    #[error("fixme: no color definition")]
    Colors,
    /// Nothing can be added.
    #[error("RRD update error {}: {error}", .file.display())]
    Update {
        /// To this file.
        file: PathBuf,
        /// Why.
        error: rrd::RrdError,
    },
    /// The file has a sample of this second or of a later one. The library names both times; without them a clock that
    /// was set back is one error that lasts, and not another one every ten seconds.
    #[error("RRD update error {}: illegal attempt to update, not newer than the last (minimum one second step)",
        .file.display())]
    NotNewer {
        /// The file.
        file: PathBuf,
    },
    /// A file cannot be made.
    #[error("RRD create error {}: {error}", .file.display())]
    Create {
        /// This one.
        file: PathBuf,
        /// Why.
        error: rrd::RrdError,
    },
    /// A file cannot be moved.
    #[error("unable to rename '{}' to '{}' - {}", .from.display(), .to.display(), errno_text(.error))]
    Rename {
        /// The old name.
        from: PathBuf,
        /// The new name.
        to: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A directory cannot be made.
    #[error("unable to create directory '{}' - {}", .directory.display(), errno_text(.error))]
    Directory {
        /// This one.
        directory: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A record of another node is about nothing that has a file.
    #[error(transparent)]
    UnknownKey(#[from] UnknownKey),
}

impl Failure for RrdError {}

/// A sample, and the file that it belongs to.
struct Sample {
    subject: Subject,
    file: PathBuf,
    text: String,
}

impl Rrd {
    /// The files of a site.
    pub fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
        }
    }

    /// Adds what a record says to its subject's file, which is made if there is none yet.
    ///
    /// # Errors
    /// The file cannot be made or written, or has a sample of this second already.
    pub fn update(&self, record: &Record) -> Result<(), RrdError> {
        self.add(vec![self.sample_of(record)])
            .into_iter()
            .next()
            .unwrap_or(Ok(()))
    }

    /// Adds what many records say, as [`Rrd::update`] does, and much cheaper where an rrdcached runs. One result for
    /// each record, in their order.
    pub fn update_all(&self, records: &[Record]) -> Vec<Result<(), RrdError>> {
        self.add(records.iter().map(|record| self.sample_of(record)).collect())
    }

    /// Adds what a node of another version tells: its record's key without the `rrd/` before it, and its value.
    ///
    /// # Errors
    /// [`RrdError::UnknownKey`]; else as [`Rrd::update`].
    pub fn update_told(&self, key: &str, value: &str) -> Result<(), RrdError> {
        let (subject, text) = foreign::sample(key, value)?;
        let file = self.file(&subject);
        let added = self.add(vec![Sample { subject, file, text }]);
        added.into_iter().next().unwrap_or(Ok(()))
    }

    fn sample_of(&self, record: &Record) -> Sample {
        Sample {
            subject: record.subject.clone(),
            file: self.file(&record.subject),
            text: record.sample(),
        }
    }

    fn add(&self, samples: Vec<Sample>) -> Vec<Result<(), RrdError>> {
        let mut results: Vec<Result<(), RrdError>> = samples.iter().map(|sample| self.ensure(sample)).collect();
        let direct = daemon::update(self, &samples, &mut results);
        for at in direct {
            if let (Some(sample), Some(result)) = (samples.get(at), results.get_mut(at)) {
                *result = self.write(sample);
            }
        }
        results
    }

    fn ensure(&self, sample: &Sample) -> Result<(), RrdError> {
        // What cannot be looked at, or is a link to a disk that is away, is there: librrd says what is wrong with it.
        match fs::symlink_metadata(&sample.file) {
            Err(error) if error.kind() == ErrorKind::NotFound => self.create(&sample.subject, &sample.file),
            _ => Ok(()),
        }
    }

    /// Writes the file; one that turns out to be none any more makes room for a new one.
    fn write(&self, sample: &Sample) -> Result<(), RrdError> {
        let Err(error) = rrd::update(&sample.file, &sample.text) else {
            return Ok(());
        };
        if !damage::is_damage(&sample.file, &error) {
            return Err(update_error(&sample.file, error));
        }
        self.replace_damaged(&sample.subject, &sample.file, &error)?;
        rrd::update(&sample.file, &sample.text).map_err(|error| update_error(&sample.file, error))
    }

    /// Moves what is no file of figures any more aside, says so, and begins a new one.
    fn replace_damaged(&self, subject: &Subject, file: &Path, error: &rrd::RrdError) -> Result<(), RrdError> {
        let aside = damage::move_aside(file)?;
        log::error!(
            "RRD update error {}: {error} - moved to '{}', starting a new one",
            file.display(),
            aside.display()
        );
        self.create(subject, file)
    }
}

fn update_error(file: &Path, error: rrd::RrdError) -> RrdError {
    let file = file.to_owned();
    match error {
        rrd::RrdError::Refused(text) if text.contains("illegal attempt to update") => RrdError::NotNewer { file },
        error => RrdError::Update { file, error },
    }
}
