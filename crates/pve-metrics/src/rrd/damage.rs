//! Files that are none of figures any more: cut off by a loss of power or a full disk, or overwritten.
//!
//! Such a file can neither be read nor go on. It is kept beside the new one, `100.damaged`, since somebody may get
//! something out of it; a file of another version or of another machine is whole, and left alone.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use pve_cfs::rename_new;
use pve_sys::rrd;

use super::RrdError;

/// What librrd says of a file that is none.
const WORDS: [&str; 3] = [
    "is not an RRD file",
    "is too small (should be",
    "reached EOF while loading header",
];
/// How many damaged files of one subject are kept. Who has more has a disk that needs a look, not a new file.
const MOST_KEPT: u32 = 10;

/// Whether librrd's error says that the file is none any more.
pub(super) fn is_damage(file: &Path, error: &rrd::RrdError) -> bool {
    let rrd::RrdError::Refused(text) = error else {
        return false;
    };
    // An empty file cannot even be mapped.
    let is_empty = || fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() == 0);
    WORDS.iter().any(|words| text.contains(words)) || is_empty()
}

/// Gives a file another name, which is returned. None that is taken is used.
pub(super) fn move_aside(file: &Path) -> Result<PathBuf, RrdError> {
    let name = |number: u32| {
        let mut name = OsString::from(file);
        name.push(".damaged");
        if number > 0 {
            name.push(format!(".{number}"));
        }
        PathBuf::from(name)
    };
    let failed = |to: PathBuf, error| RrdError::Rename {
        from: file.to_owned(),
        to,
        error,
    };
    let aside = (0..MOST_KEPT)
        .map(name)
        .find(|aside| fs::symlink_metadata(aside).is_err_and(|error| error.kind() == ErrorKind::NotFound));
    let aside = aside.ok_or_else(|| failed(name(0), ErrorKind::AlreadyExists.into()))?;
    match rename_new(file, &aside) {
        Ok(()) => Ok(aside),
        Err(error) => Err(failed(aside, error)),
    }
}
