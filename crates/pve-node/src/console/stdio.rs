//! Carries bytes between this process's standard input and output and a socket, for the command lines that show a console
//! (`qm terminal`, and `qm vncproxy`, by which other nodes reach a display of this one).

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// How long what the other side still says is listened to when there is no more input.
const GOODBYE: Duration = Duration::from_secs(1);
/// Bytes that are passed on at once.
const BUFFER: usize = 64 << 10;

/// Carries bytes until the socket ends, the input does, or the byte `escape` is typed.
///
/// # Errors
/// What the system says of the descriptors; that the other side goes away is none.
pub fn run(mut socket: UnixStream, escape: Option<u8>) -> io::Result<()> {
    let mut input = Input {
        file: File::from(io::stdin().as_fd().try_clone_to_owned()?),
        escape,
        has_ended: false,
    };
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let _raw = Raw::set(&input.file)?;
    let mut to = socket.try_clone()?;
    // It ends with the process: nothing makes it stop waiting for a key.
    std::thread::spawn(move || {
        let _ = pass_on(&mut input, &mut to);
        let _ = to.shutdown(Shutdown::Write);
        if !input.has_ended {
            std::thread::sleep(GOODBYE);
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    match pass_on(&mut socket, &mut output) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => Err(error),
        _ => output.flush(),
    }
}

/// Passes on bytes to the end, by reading and writing. `io::copy` would have the kernel move them into a pipe, which it
/// locks for as long as it waits for the socket: whoever reads that pipe, as ssh's server does, would wait as long.
fn pass_on(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => to.write_all(buffer.get(..read).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Standard input up to the escape character.
struct Input<R> {
    file: R,
    escape: Option<u8>,
    /// By the escape character.
    has_ended: bool,
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.has_ended {
            return Ok(0);
        }
        let read = self.file.read(buffer)?;
        let typed = buffer.get(..read).unwrap_or_default();
        match typed.iter().position(|byte| Some(*byte) == self.escape) {
            Some(end) => {
                self.has_ended = true;
                Ok(end)
            }
            None => Ok(read),
        }
    }
}

/// A terminal that passes on every key; it is as it was when this is dropped.
struct Raw {
    terminal: File,
    before: Termios,
}

impl Raw {
    /// `None` if the input is no terminal.
    fn set(input: &File) -> io::Result<Option<Self>> {
        let Ok(before) = tcgetattr(input) else {
            return Ok(None);
        };
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(input, SetArg::TCSANOW, &raw)?;
        Ok(Some(Self {
            terminal: input.try_clone()?,
            before,
        }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_ends_at_the_escape_character() {
        for (escape, expected) in [(Some(0x0f), "ls\n"), (None, "ls\n\u{f}rest")] {
            let mut input = Input {
                file: &b"ls\n\x0frest"[..],
                escape,
                has_ended: false,
            };
            let mut text = String::new();
            input.read_to_string(&mut text).unwrap();
            assert_eq!(text, expected);
        }
    }
}
