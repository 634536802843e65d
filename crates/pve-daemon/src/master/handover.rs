//! What one image of the master leaves to the next at a reload (reference 01 §1.5).
//!
//! The process stays the same: same pid, same children, same open sockets. The names of the variables are upstream's,
//! so a reload can even take over from its daemon.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use nix::unistd::Pid;
use pve_schema::errno_text;

use super::pidfile::PidLock;
use crate::process::{self, Image};
use crate::service::Listener;

/// Marks a reload.
const RESTART: &str = "RESTART_PVE_DAEMON";
/// The descriptor of the held lock.
const LOCK_FD: &str = "PVE_DAEMON_LOCK_FD";
/// Followed by a socket's name: its descriptor.
const SOCKET: &str = "PVE_DAEMON_SOCKET_";
/// The workers that still serve, with colons between.
const WORKER_PIDS: &str = "PVE_DAEMON_WORKER_PIDS";

/// What the image before left.
#[derive(Debug)]
pub(crate) struct Handover {
    pub(crate) lock: PidLock,
    pub(crate) sockets: BTreeMap<String, OwnedFd>,
    pub(crate) workers: Vec<Pid>,
}

/// What was left makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandoverError {
    /// The lock's descriptor is none.
    #[error("unable to parse lock fd '{0}'")]
    LockFd(String),
}

/// Takes what the image before left out of the environment; `None` at a fresh start.
pub(crate) fn take() -> Result<Option<Handover>, HandoverError> {
    let variables: Vec<(String, OsString)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name == RESTART || name == LOCK_FD || name == WORKER_PIDS || name.starts_with(SOCKET))
        .collect();
    process::remove_variables(variables.iter().map(|(name, _)| name.as_str()));
    let get = |wanted: &str| {
        variables
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.to_string_lossy())
    };
    if get(RESTART).is_none_or(|value| value.is_empty() || value == "0") {
        return Ok(None);
    }
    let lock_fd = get(LOCK_FD).unwrap_or_default();
    let lock = adopt(&lock_fd).ok_or_else(|| HandoverError::LockFd(lock_fd.into_owned()))?;
    let sockets = variables.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(SOCKET)?;
        Some((name.to_owned(), adopt(value.to_str()?)?))
    });
    let pids = get(WORKER_PIDS).unwrap_or_default();
    let workers = pids
        .split(':')
        .filter_map(|pid| pid.parse().ok())
        .filter(|pid| *pid > 1)
        .map(Pid::from_raw);
    Ok(Some(Handover {
        lock: PidLock(lock),
        sockets: sockets.collect(),
        workers: workers.collect(),
    }))
}

/// Takes a descriptor that another image left open, and sees to it that no program started from here inherits it.
fn adopt(text: &str) -> Option<OwnedFd> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: RawFd = text.parse().ok()?;
    // Standard descriptors have other owners.
    if number <= 2 {
        return None;
    }
    // SAFETY: fcntl only looks whether the number is an open descriptor.
    #[allow(unsafe_code)]
    let open = unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
    if !open {
        return None;
    }
    // SAFETY: the descriptor is open (checked above), and only the variable that was just removed named it: nothing
    // else in this fresh image can own it.
    #[allow(unsafe_code)]
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    process::set_close_on_exec(&fd, true).ok()?;
    Some(fd)
}

/// Replaces this image by the one that is now at the same path; where that cannot be executed – it is gone, or in a
/// directory that is closed to the web user – by the same one anew. Returns only when both failed, with the first reason.
pub(crate) fn execute(image: &Image, lock: &PidLock, listeners: &[Listener], workers: &[Pid]) -> io::Error {
    let keep_open = |open: bool| -> io::Result<()> {
        process::set_close_on_exec(&lock.0, !open)?;
        listeners
            .iter()
            .try_for_each(|listener| process::set_close_on_exec(listener.socket.as_fd(), !open))
    };
    let attempt = || -> io::Result<std::convert::Infallible> {
        let path = c_string(image.path.as_os_str().as_bytes().to_vec())?;
        let arguments: Vec<CString> = image
            .arguments
            .iter()
            .map(|argument| c_string(argument.as_bytes().to_vec()))
            .collect::<Result<_, _>>()?;
        let environment = environment(lock, listeners, workers)?;
        keep_open(true)?;
        nix::unistd::execve(&path, &arguments, &environment).or_else(|errno| {
            log::warn!(
                "unable to execute '{}' - {}, going on with the running version",
                image.path.display(),
                errno_text(&errno.into())
            );
            nix::unistd::execve(c"/proc/self/exe", &arguments, &environment).map_err(|_| errno.into())
        })
    };
    let error = match attempt() {
        Ok(never) => match never {},
        Err(error) => error,
    };
    match keep_open(false) {
        Ok(()) => error,
        Err(second) => second,
    }
}

/// This environment, and what the next image needs to know.
fn environment(lock: &PidLock, listeners: &[Listener], workers: &[Pid]) -> io::Result<Vec<CString>> {
    let mut all: Vec<CString> = Vec::new();
    for (name, value) in std::env::vars_os() {
        let mut entry = name.into_vec();
        entry.push(b'=');
        entry.extend(value.into_vec());
        all.push(c_string(entry)?);
    }
    let pids: Vec<String> = workers.iter().map(Pid::to_string).collect();
    let mut ours = vec![
        format!("{RESTART}=1"),
        format!("{LOCK_FD}={}", lock.0.as_raw_fd()),
        format!("{WORKER_PIDS}={}", pids.join(":")),
    ];
    ours.extend(
        listeners
            .iter()
            .map(|listener| format!("{SOCKET}{}={}", listener.name, listener.socket.as_fd().as_raw_fd())),
    );
    for entry in ours {
        all.push(c_string(entry.into_bytes())?);
    }
    Ok(all)
}

fn c_string(bytes: Vec<u8>) -> io::Result<CString> {
    CString::new(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}
