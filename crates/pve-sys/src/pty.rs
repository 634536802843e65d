//! A program on a pseudo terminal of its own.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::ptr;

/// How many characters a terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// In a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

impl Size {
    fn winsize(self) -> libc::winsize {
        libc::winsize {
            ws_row: self.rows,
            ws_col: self.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        }
    }
}

/// Starts a program in a session of its own, with a new pseudo terminal as its terminal. The file is our side of it: what
/// is written is typed, what is read was printed.
///
/// # Errors
/// What the system says.
pub fn spawn(mut command: Command, size: Size) -> io::Result<(File, Child)> {
    let (ours, theirs) = open(size)?;
    command
        .stdin(theirs.try_clone()?)
        .stdout(theirs.try_clone()?)
        .stderr(theirs);
    // SAFETY: between fork and exec the closure calls only setsid(2) and ioctl(2), both async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            if libc::setsid() < 0 {
                return Err(io::Error::last_os_error());
            }
            // The standard input is the terminal by now.
            if libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let child = command.spawn()?;
    Ok((File::from(ours), child))
}

/// Tells a terminal, and so the program on it, its size.
///
/// # Errors
/// What the system says: the file is no terminal, for one.
pub fn resize(terminal: &File, size: Size) -> io::Result<()> {
    let winsize = size.winsize();
    // SAFETY: the descriptor is open as long as the borrow, and TIOCSWINSZ only reads the structure that it is given.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, ptr::from_ref(&winsize)) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The size of a terminal; `None` for what is none, and for one that does not know.
pub fn size(terminal: impl AsFd) -> Option<Size> {
    let descriptor = terminal.as_fd();
    let mut winsize = Size { columns: 0, rows: 0 }.winsize();
    // SAFETY: the descriptor is open as long as the borrow, and TIOCGWINSZ fills the structure that it is given.
    let result = unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TIOCGWINSZ, &raw mut winsize) };
    (result == 0 && winsize.ws_col > 0).then_some(Size {
        columns: winsize.ws_col,
        rows: winsize.ws_row,
    })
}

/// A new pseudo terminal: our side and the program's. Neither is inherited by other programs.
fn open(size: Size) -> io::Result<(OwnedFd, OwnedFd)> {
    let (mut ours, mut theirs) = (-1, -1);
    let winsize = size.winsize();
    // SAFETY: the two integers are written, name and attributes may be null, and the size is only read.
    let result = unsafe {
        libc::openpty(
            &raw mut ours,
            &raw mut theirs,
            ptr::null_mut(),
            ptr::null(),
            &raw const winsize,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: openpty succeeded, so both are open descriptors that nobody else owns.
    let pair = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    for descriptor in [&pair.0, &pair.1] {
        // SAFETY: the descriptor is open as long as the borrow; F_SETFD takes an integer.
        let result = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::{Read, Write};

    /// All that a program prints; the end of a terminal is an error on Linux.
    fn printed(mut terminal: File) -> String {
        let mut bytes = Vec::new();
        let _ = terminal.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn a_program_has_a_terminal_of_its_own() {
        let mut command = Command::new("sh");
        command.args(["-c", "test -t 0 && tty && stty size && read line && echo got $line"]);
        let size = Size { columns: 81, rows: 21 };
        let (mut terminal, mut child) = spawn(command, size).unwrap();
        terminal.write_all(b"hello\n").unwrap();
        let text = printed(terminal);
        assert!(
            text.contains("/dev/pts/") && text.contains("21 81") && text.contains("got hello"),
            "{text}"
        );
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn a_terminal_can_be_resized() {
        let mut command = Command::new("sh");
        command.args(["-c", "read line; stty size"]);
        let (mut terminal, mut child) = spawn(command, Size { columns: 80, rows: 20 }).unwrap();
        resize(&terminal, Size { columns: 132, rows: 50 }).unwrap();
        terminal.write_all(b"\n").unwrap();
        let text = printed(terminal);
        assert!(text.contains("50 132"), "{text}");
        child.wait().unwrap();
        assert!(resize(&File::open("/dev/null").unwrap(), Size { columns: 1, rows: 1 }).is_err());
    }
}
