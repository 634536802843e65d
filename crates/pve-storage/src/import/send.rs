//! Taking a user's file into a storage of another node (reference 01 §3.11, 08 §8.2).
//!
//! ```text
//! /var/tmp/pveupload-X ─ open, checksum, content check ─▶ ssh: DIR/.NAME.tmp.PID ─ whole? sync ─▶ DIR/NAME
//! ```
//!
//! The file is the input of the command that runs there, so no byte of it passes through this process. That command
//! takes away what it has if its input ends early: because the task was stopped, because a connection broke, or because
//! this node died.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pve_cfs::Peer;
use pve_schema::shell::quote;
use pve_task::worker::Progress;
use pve_task::{TaskError, Worker};

use super::{ImportError, Upload, check_sum, content, human};
use crate::error::StorageError;
use crate::kind::Content;

/// How often the task looks how far the file is, and whether it is to stop.
const POLL: Duration = Duration::from_millis(100);
/// Most of what the other node's command complains of that is kept.
const MAX_COMPLAINT: u64 = 16 << 10;
/// What runs there: the base directory, the mount point or nothing, the target, its size. What must be there
/// is looked at before a byte is written.
const SCRIPT: &str = r#"set -eu
umask 022
base=$1 mount=$2 target=$3 size=$4
if [ -n "$mount" ] && ! mountpoint -q -- "$mount"; then
    echo "directory is expected to be a mount point but is not mounted: '$mount'" >&2; exit 1
fi
if [ ! -d "$base" ]; then
    echo "directory '$base' does not exist or is unreachable" >&2; exit 1
fi
directory=${target%/*} name=${target##*/}
mkdir -p -- "$directory"
staged=$(mktemp -- "$directory/.$name.tmp.XXXXXX")
trap 'rm -f -- "$staged"' EXIT
trap 'exit 1' HUP INT TERM
# Where nobody hears the complaint, there is work left to do.
trap '' PIPE
cat > "$staged"
if [ "$(stat -c %s -- "$staged")" != "$size" ]; then
    echo "the file did not arrive whole" >&2; exit 1
fi
chmod 644 -- "$staged"
sync -- "$staged"
mv -fT -- "$staged" "$target"
sync -- "$directory"
"#;

/// Where a file goes.
#[derive(Debug)]
pub(crate) struct Destination {
    /// The node, as it is reached.
    pub(crate) peer: Peer,
    /// The base directory of the storage, which must be there.
    pub(crate) base: PathBuf,
    /// What must be mounted, if anything.
    pub(crate) mount_point: Option<PathBuf>,
    /// The file.
    pub(crate) target: PathBuf,
}

impl Destination {
    /// The command line that takes a file of `size` bytes from its input.
    fn command(&self, size: u64) -> Vec<String> {
        let mut words = self.peer.with_pipes(&[]);
        let mount = self.mount_point.as_deref().unwrap_or(Path::new(""));
        let mut there = vec!["sh".to_owned(), "-c".to_owned(), SCRIPT.to_owned(), "sh".to_owned()];
        there.extend([&self.base, mount, &self.target].map(|path| path.display().to_string()));
        there.push(size.to_string());
        // The other side's shell reads it again.
        words.push(there.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "));
        words
    }
}

/// Takes an upload to its place, with the log that users know.
pub(crate) fn send(
    worker: &mut Worker,
    upload: &mut Upload,
    kind: Content,
    checksum: Option<&super::Checksum>,
    destination: &Destination,
) -> Result<(), TaskError> {
    let source = upload.path.clone();
    worker.log(format!("starting file import from: {}", source.display()));
    check_sum(worker, upload, checksum)?;
    // The file that is sent, and no other that is put in its place.
    let own = format!("/proc/{}/fd/{}", std::process::id(), upload.file.as_raw_fd());
    content::check(Path::new(&own), &destination.target, kind)?;
    let size = upload.size()?;
    let (peer, target) = (&destination.peer, destination.target.display());
    worker.log(format!("target node: {}", peer.node));
    worker.log(format!("target file: {target}"));
    worker.log(format!("file size is: {}", human(size)));
    worker.log(format!(
        "command: ssh root@{} cp -- {} {target}",
        peer.address,
        source.display()
    ));
    transfer(worker, &mut upload.file, size, &destination.command(size))?;
    worker.log("finished file import successfully");
    Ok(())
}

/// Runs a command with the file as its input to its end.
fn transfer(worker: &mut Worker, file: &mut File, size: u64, command: &[String]) -> Result<(), TaskError> {
    let failed = |error: std::io::Error| StorageError::from(ImportError::Send(error.to_string()));
    file.rewind().map_err(failed)?;
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| StorageError::from(ImportError::Send("no command".to_owned())))?;
    let child = Command::new(program)
        .args(arguments)
        // The position in the file is shared: it tells how much was taken.
        .stdin(file.try_clone().map_err(failed)?)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut running = Running(child);
    let complaint = running.0.stderr.take().map(|pipe| {
        std::thread::spawn(move || {
            let lines = BufReader::new(pipe.take(MAX_COMPLAINT)).lines();
            lines.map_while(Result::ok).collect::<Vec<_>>().join("\n")
        })
    });
    let mut progress = Progress::new("transferred", size);
    let status = loop {
        if let Some(status) = running.0.try_wait().map_err(failed)? {
            break status;
        }
        worker.progress(&mut progress, file.stream_position().map_err(failed)?);
        worker.sleep(POLL)?;
    };
    if status.success() {
        worker.progress(&mut progress, size);
        return Ok(());
    }
    let complaint = complaint.and_then(|thread| thread.join().ok()).unwrap_or_default();
    let reason = match complaint.trim() {
        "" => status.to_string(),
        text => text.to_owned(),
    };
    Err(StorageError::from(ImportError::Send(reason)).into())
}

/// A command that does not outlive the wait for it: its end is how the other node learns that no more comes.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    fn destination(base: &Path) -> Destination {
        Destination {
            peer: Peer {
                node: "n2".parse().unwrap(),
                address: [192, 0, 2, 2].into(),
                known_hosts: None,
            },
            base: base.to_owned(),
            mount_point: None,
            target: base.join("template/iso/it's a.iso"),
        }
    }

    /// Starts what would run on the other node, as the shell there is told.
    fn other_side(destination: &Destination, announced: u64) -> Child {
        let line = destination.command(announced).pop().unwrap();
        Command::new("sh")
            .args(["-c", &line])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs what would run on the other node, with `bytes` as all that arrives; what was said, and what is there then.
    fn arrive(destination: &Destination, announced: u64, bytes: &[u8]) -> (String, Vec<String>) {
        let mut child = other_side(destination, announced);
        // It need not take it.
        let _ = child.stdin.take().unwrap().write_all(bytes);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap().trim().to_owned();
        assert_eq!(said.is_empty(), output.status.success(), "{said}");
        let directory = destination.target.parent().unwrap();
        let entries = fs::read_dir(directory).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        (said, names.collect())
    }

    #[test]
    fn a_file_arrives_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let there = destination(directory.path());
        let (said, names) = arrive(&there, 6, b"hel");
        assert_eq!((said.as_str(), names.len()), ("the file did not arrive whole", 0));
        let (said, names) = arrive(&there, 6, b"hello\n");
        assert_eq!((said.as_str(), names), ("", vec!["it's a.iso".to_owned()]));
        assert_eq!(fs::read(&there.target).unwrap(), b"hello\n");
        // What is there stays until another is complete.
        arrive(&there, 7, b"hello2");
        assert_eq!(fs::read(&there.target).unwrap(), b"hello\n");
        arrive(&there, 7, b"hello2\n");
        assert_eq!(fs::read(&there.target).unwrap(), b"hello2\n");
    }

    #[test]
    fn a_connection_that_breaks_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let there = destination(directory.path());
        let mut child = other_side(&there, 6);
        // All pipes at once: what it says goes nowhere, too.
        drop(child.stderr.take());
        child.stdin.take().unwrap().write_all(b"hel").unwrap();
        assert!(!child.wait().unwrap().success());
        assert_eq!(fs::read_dir(there.target.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn a_storage_that_is_not_there_takes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut there = destination(&directory.path().join("gone"));
        let (said, names) = arrive(&there, 1, b"x");
        assert!(said.ends_with("does not exist or is unreachable"), "{said}");
        assert!(names.is_empty());
        there = destination(directory.path());
        there.mount_point = Some(directory.path().to_owned());
        let (said, names) = arrive(&there, 1, b"x");
        assert!(said.contains("is not mounted"), "{said}");
        assert!(names.is_empty());
    }
}
