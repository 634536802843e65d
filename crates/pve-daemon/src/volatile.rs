//! Small files that count until the node restarts, or are made again.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Replaces a small file in one step, so that a reader sees the old content or the new one. Not synced.
///
/// # Errors
/// What the file system says.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    // A thread's number is unique on the machine as a process's is: two writers do not meet in one file.
    temporary.push(format!(".tmp.{}", nix::unistd::gettid()));
    let temporary = PathBuf::from(temporary);
    let replaced = fs::write(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if replaced.is_err() {
        // The failure that counts is the one at hand.
        let _ = fs::remove_file(&temporary);
    }
    replaced
}
