//! What can go wrong, with the file it is about and what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use pve_backup::vma::VmaError;
use pve_schema::errno_text;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VmaCliError {
    /// The archive is none, or damaged.
    #[error("{}: {source}", name(archive))]
    Archive { archive: PathBuf, source: VmaError },
    /// A file.
    #[error("unable to {action} '{}' - {}", path.display(), errno_text(source))]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A file that is in the way.
    #[error("'{}' is there already - remove it, or choose another place", .0.display())]
    Exists(PathBuf),
    /// Standard output.
    #[error("unable to write standard output - {}", errno_text(.0))]
    Output(io::Error),
    /// The decompressor is missing.
    #[error(
        "{}: unable to run '{program}' - {} (install the package that has it)",
        name(archive),
        errno_text(source)
    )]
    Program {
        archive: PathBuf,
        program: String,
        source: io::Error,
    },
    /// The decompressor failed.
    #[error(
        "{}: '{program}' failed ({status}) - the archive is damaged or not complete",
        name(archive)
    )]
    Decompress {
        archive: PathBuf,
        program: String,
        status: ExitStatus,
    },
    /// No such configuration. The text is upstream's.
    #[error("unable to find configuration data '{0}'")]
    NoConfig(String),
    /// No such device.
    #[error("{}: no device '{device}' in the archive, which has: {known}", name(archive))]
    NoDevice {
        archive: PathBuf,
        device: String,
        known: String,
    },
    /// A name that is no file's.
    #[error(
        "{}: the archive has the name '{file}', which is no file name - not extracted",
        name(archive)
    )]
    FileName { archive: PathBuf, file: String },
    /// A configuration without a name.
    #[error("'{}' has no file name that an archive could keep", .0.display())]
    NoName(PathBuf),
    /// An image cannot be opened.
    #[error("unable to open image '{}' as {format} - {}", path.display(), errno_text(source))]
    Image {
        path: PathBuf,
        format: String,
        source: io::Error,
    },
    /// No random numbers.
    #[error("unable to get random numbers - {0}")]
    Random(String),
}

impl VmaCliError {
    /// Whether nobody reads standard output any more: nothing to tell anybody.
    pub(crate) fn is_closed_output(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// A failed call on a file.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::AlreadyExists => Self::Exists(path),
            _ => Self::File { action, path, source },
        }
    }
}

fn name(archive: &Path) -> String {
    match archive.to_str() {
        Some("-") => "standard input".to_owned(),
        _ => archive.display().to_string(),
    }
}
