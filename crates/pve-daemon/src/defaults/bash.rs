//! Letting bash source a file and tell the values.
//!
//! The file is root's own (as upstream assumes): it is executed with the rights of the daemon that reads it.

use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{DefaultsError, Variables};

/// Sources `$1` with its output thrown away – a file that prints must not be able to print settings – and then prints
/// `NAME=VALUE` with NULs between, for the names that follow.
const SCRIPT: &str = r#"
exec 3>&1 1>/dev/null
_pve_names=("${@:2}")
. "$1"
for name in "${_pve_names[@]}"; do printf '%s=%s\0' "$name" "${!name}" >&3; done
"#;

/// The values of `names` after sourcing; unset ones are empty.
pub(super) fn source(path: &Path, names: &[&str], deadline: Duration) -> Result<Variables, DefaultsError> {
    let failed = |error| DefaultsError::Shell {
        path: path.to_owned(),
        error,
    };
    let mut command = Command::new("/bin/bash");
    command.arg("-c").arg(SCRIPT).arg("bash").arg(path).args(names);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    // SAFETY: between fork and exec only signal dispositions, the mask and the signal for the parent's death are changed,
    // which is async-signal-safe.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| {
            crate::process::reset_signals()?;
            // Nobody else would end a file that goes on for ever.
            Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)
        });
    }
    let mut child = command.spawn().map_err(failed)?;
    match read_all(&mut child, deadline) {
        Ok(Some(output)) => {
            child.wait().map_err(failed)?;
            Ok(split(&output))
        }
        Ok(None) => {
            end(&mut child);
            Err(DefaultsError::Deadline(path.to_owned()))
        }
        Err(error) => {
            end(&mut child);
            Err(failed(error))
        }
    }
}

/// All that the shell prints; `None` when it has not ended in time.
fn read_all(child: &mut Child, limit: Duration) -> io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + limit;
    let Some(mut stdout) = child.stdout.take() else {
        return Ok(Some(Vec::new()));
    };
    let mut output = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(
            &mut [PollFd::new(std::os::fd::AsFd::as_fd(&stdout), PollFlags::POLLIN)],
            timeout,
        ) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        match stdout.read(&mut buffer)? {
            0 => return Ok(Some(output)),
            length => output.extend(buffer.iter().take(length)),
        }
    }
}

/// Ends the shell and what it started, which form one process group.
fn end(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // It may have ended meanwhile.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = child.wait();
}

fn split(output: &[u8]) -> Variables {
    let text = String::from_utf8_lossy(output);
    let pairs = text.split_terminator('\0').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
