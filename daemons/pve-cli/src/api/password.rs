//! Secrets that are typed without being seen, or come by a pipe. None of them stands in a command line, where every user of
//! the host could read it, unless whoever calls put it there.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};

use super::CallError;
use super::signals::{self, Held};
use super::verbs::{Prompt, Secret};

/// Most bytes of a secret: more than any method takes.
const MAX_BYTES: usize = 8192;

/// Control-C, which is no signal while a secret is typed.
const INTERRUPT: u8 = 0x03;
/// Control-D.
const END: u8 = 0x04;
/// Control-U.
const KILL_LINE: u8 = 0x15;
/// Milliseconds until a signal is seen that came just before a key was waited for.
const LOOK_EVERY: u16 = 100;

/// Asks for secrets, one after the other: on a terminal with prompts, for a new one twice. From anything else one secret is
/// the first line, and if a second line follows a new one it must be the same; of several each is one line, and no more
/// lines follow.
///
/// # Errors
/// Two that differ, one that is missing, or the user ended it.
pub(super) fn ask(secrets: &[&Secret]) -> Result<Vec<String>, CallError> {
    if secrets.is_empty() {
        return Ok(Vec::new());
    }
    let stdin = io::stdin();
    if stdin.is_terminal() {
        secrets.iter().map(|secret| ask_for(secret)).collect()
    } else {
        read_lines(secrets, &mut stdin.lock())
    }
}

fn ask_for(secret: &Secret) -> Result<String, CallError> {
    let label = secret.label;
    let (first, again) = match secret.prompt {
        Prompt::New => (format!("Enter new {label}: "), Some(format!("Retype new {label}: "))),
        Prompt::Known => (format!("Enter {label}: "), None),
    };
    let typed = type_in(&first, label)?;
    if let Some(again) = again
        && type_in(&again, label)? != typed
    {
        return Err(CallError::PasswordsDiffer);
    }
    Ok(typed)
}

fn read_lines(secrets: &[&Secret], from: &mut impl BufRead) -> Result<Vec<String>, CallError> {
    let mut values = Vec::new();
    for secret in secrets {
        values.push(read_line(from)?.ok_or(CallError::NoSecret(secret.label))?);
    }
    match (secrets, &values[..]) {
        ([secret], [value]) => {
            let is_new = secret.prompt == Prompt::New;
            if is_new && read_line(from)?.is_some_and(|again| again != *value) {
                return Err(CallError::PasswordsDiffer);
            }
        }
        _ if read_line(from)?.is_some() => return Err(CallError::SecretLines),
        _ => {}
    }
    Ok(values)
}

/// A line without its end; `None` when there is none.
fn read_line(from: &mut impl BufRead) -> Result<Option<String>, CallError> {
    let mut line = String::new();
    from.take(MAX_BYTES as u64).read_line(&mut line)?;
    let text = line.trim_end_matches(['\n', '\r']);
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn type_in(prompt: &str, label: &'static str) -> Result<String, CallError> {
    // A signal ends the program when the terminal is as it was before.
    let held = signals::hold();
    let silence = Silence::begin(io::stdin())?;
    let mut stderr = io::stderr();
    stderr.write_all(prompt.as_bytes())?;
    stderr.flush()?;
    let mut keys = Keys {
        terminal: File::from(io::stdin().as_fd().try_clone_to_owned()?),
        held: &held,
    };
    let typed = read_keys(&mut keys, label);
    drop(silence);
    stderr.write_all(b"\n")?;
    typed
}

/// The keys of a terminal, until a signal comes.
struct Keys<'a> {
    /// Not through a buffer: what is in one cannot be waited for.
    terminal: File,
    held: &'a Held,
}

impl Read for Keys<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.held.is_waiting() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            let mut fds = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(LOOK_EVERY)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return self.terminal.read(buffer),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Reads keys to the end of the line.
fn read_keys(from: &mut impl Read, label: &'static str) -> Result<String, CallError> {
    let mut bytes = Vec::new();
    let mut key = [0];
    loop {
        match from.read(&mut key) {
            Ok(1) => {}
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return Err(CallError::Interrupted),
            Err(error) => return Err(error.into()),
        }
        match key[0] {
            b'\n' | b'\r' => break,
            END if bytes.is_empty() => return Err(CallError::NoSecret(label)),
            END => break,
            INTERRUPT => return Err(CallError::Interrupted),
            KILL_LINE => bytes.clear(),
            0x7f | 0x08 => remove_last(&mut bytes),
            other if bytes.len() < MAX_BYTES => bytes.push(other),
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Err(CallError::NoSecret(label));
    }
    String::from_utf8(bytes).map_err(|_| CallError::Encoding)
}

/// Takes away the last character, of which there may be several bytes.
fn remove_last(bytes: &mut Vec<u8>) {
    while let Some(byte) = bytes.pop() {
        if byte & 0xc0 != 0x80 {
            break;
        }
    }
}

/// A terminal that shows nothing of what is typed, key by key and without signals, so that it is put back in any case.
struct Silence<T: AsFd> {
    terminal: T,
    before: Termios,
}

impl<T: AsFd> Silence<T> {
    fn begin(terminal: T) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent.local_flags &= !(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
        silent.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        silent.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        // What was typed before the prompt was seen, and so shown, is no secret.
        tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl<T: AsFd> Drop for Silence<T> {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_make_a_line() {
        let keys = |bytes: &[u8]| read_keys(&mut &*bytes, "password").map_err(|error| error.to_string());
        assert_eq!(keys(b"S3cret\nrest"), Ok("S3cret".to_owned()));
        assert_eq!(keys("pä\u{7f}\u{7f}q\r".as_bytes()), Ok("q".to_owned()));
        assert_eq!(keys(b"wrong\x15right\x04"), Ok("right".to_owned()));
        assert_eq!(keys(b"ab\x03"), Err("interrupted".to_owned()));
        assert_eq!(keys(b"\n"), Err("no password given".to_owned()));
        assert_eq!(keys(b"\x04"), Err("no password given".to_owned()));
    }

    fn secret(label: &'static str, prompt: Prompt) -> Secret {
        Secret {
            parameter: label,
            label,
            prompt,
            always: false,
        }
    }

    #[test]
    fn a_pipe_gives_a_line_or_the_same_twice() {
        let lines = |prompt, text: &str| {
            let read = read_lines(&[&secret("password", prompt)], &mut text.as_bytes());
            read.map_err(|error| error.to_string())
        };
        let one = || Ok(vec!["one".to_owned()]);
        assert_eq!(lines(Prompt::New, "one"), one());
        assert_eq!(lines(Prompt::New, "one\r\none\n"), one());
        assert_eq!(
            lines(Prompt::New, "one\ntwo\n"),
            Err("Passwords do not match!".to_owned())
        );
        assert_eq!(lines(Prompt::Known, "one\ntwo\n"), one());
        assert_eq!(lines(Prompt::New, ""), Err("no password given".to_owned()));
    }

    #[test]
    fn several_secrets_are_a_line_each_and_no_more() {
        let (password, key) = (secret("password", Prompt::New), secret("client key", Prompt::Known));
        let lines =
            |text: &str| read_lines(&[&password, &key], &mut text.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(lines("one\ntwo\n"), Ok(vec!["one".to_owned(), "two".to_owned()]));
        assert_eq!(lines("one\none"), Ok(vec!["one".to_owned(), "one".to_owned()]));
        assert_eq!(lines("one\n"), Err("no client key given".to_owned()));
        let several = "several secrets are asked for: there must be one line for each";
        assert_eq!(lines("one\none\ntwo\n"), Err(several.to_owned()));
    }
}
