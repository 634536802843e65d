//! A hold on one process: its number may be given to another one, a [`Handle`] never names another.

// Neither std nor nix has a wrapper of pidfd_open(2) and pidfd_send_signal(2) yet.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

/// A hold on a process, whether it lives or not.
#[derive(Debug)]
pub struct Handle(OwnedFd);

impl Handle {
    /// The process that has this number now. What is known of it by its number is true of the handle's process only if
    /// it is looked at again after this.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(pid: u32) -> io::Result<Self> {
        // SAFETY: the call takes two integers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows of it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended, or when it may not be sent signals.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let info = ptr::null::<libc::siginfo_t>();
        // SAFETY: the kernel takes no information on the signal from a null pointer; the rest are integers.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal as libc::c_int,
                info,
                0,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Waits until it has ended. It may be anybody's child.
    ///
    /// # Errors
    /// When the kernel cannot wait.
    pub fn wait(&self) -> io::Result<()> {
        loop {
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The descriptor, which becomes readable when the process ends.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_signal_reaches_the_process_and_nobody_once_it_has_gone() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let handle = Handle::of(child.id()).unwrap();
        handle.signal(Signal::SIGKILL).unwrap();
        handle.wait().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::SIGKILL as i32));
        let gone = handle.signal(Signal::SIGKILL).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ESRCH));
        assert!(Handle::of(child.id()).is_err());
    }
}
