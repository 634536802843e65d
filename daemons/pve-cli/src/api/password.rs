//! Secrets that are typed without being seen, or come by a pipe. None of them stands in a command line, where every user of
//! the machine could read it, unless whoever calls put it there.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};

use super::CallError;
use super::verbs::Prompt;

/// Most bytes of a secret: more than any method takes.
const MAX_BYTES: usize = 8192;

/// Control-C, which is no signal while a secret is typed.
const INTERRUPT: u8 = 0x03;
/// Control-D.
const END: u8 = 0x04;
/// Control-U.
const KILL_LINE: u8 = 0x15;

/// Asks for a secret: on a terminal with a prompt, a new one twice; from anything else a line, and if a second line follows a
/// new one it must be the same.
///
/// # Errors
/// Two that differ, none at all, or the user ended it.
pub(super) fn ask(prompt: Prompt) -> Result<String, CallError> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return read_lines(prompt, &mut stdin.lock());
    }
    let (first, again) = match prompt {
        Prompt::New => ("Enter new password: ", Some("Retype new password: ")),
        Prompt::Known => ("Enter password: ", None),
    };
    let typed = type_in(first)?;
    if let Some(again) = again
        && type_in(again)? != typed
    {
        return Err(CallError::PasswordsDiffer);
    }
    Ok(typed)
}

fn read_lines(prompt: Prompt, from: &mut impl BufRead) -> Result<String, CallError> {
    let first = read_line(from)?.ok_or(CallError::NoPassword)?;
    let is_same = match prompt {
        Prompt::New => read_line(from)?.is_none_or(|again| again == first),
        Prompt::Known => true,
    };
    if is_same {
        Ok(first)
    } else {
        Err(CallError::PasswordsDiffer)
    }
}

/// A line without its end; `None` when there is none.
fn read_line(from: &mut impl BufRead) -> Result<Option<String>, CallError> {
    let mut line = String::new();
    from.take(MAX_BYTES as u64).read_line(&mut line)?;
    let text = line.trim_end_matches(['\n', '\r']);
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn type_in(prompt: &str) -> Result<String, CallError> {
    let silence = Silence::begin(io::stdin())?;
    let mut stderr = io::stderr();
    stderr.write_all(prompt.as_bytes())?;
    stderr.flush()?;
    let typed = read_keys(&mut io::stdin().lock());
    drop(silence);
    stderr.write_all(b"\n")?;
    typed
}

/// Reads keys to the end of the line.
fn read_keys(from: &mut impl Read) -> Result<String, CallError> {
    let mut bytes = Vec::new();
    let mut key = [0];
    loop {
        match from.read(&mut key) {
            Ok(1) => {}
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        }
        match key[0] {
            b'\n' | b'\r' => break,
            END if bytes.is_empty() => return Err(CallError::NoPassword),
            END => break,
            INTERRUPT => return Err(CallError::Interrupted),
            KILL_LINE => bytes.clear(),
            0x7f | 0x08 => remove_last(&mut bytes),
            other if bytes.len() < MAX_BYTES => bytes.push(other),
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Err(CallError::NoPassword);
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
        let keys = |bytes: &[u8]| read_keys(&mut &*bytes).map_err(|error| error.to_string());
        assert_eq!(keys(b"S3cret\nrest"), Ok("S3cret".to_owned()));
        assert_eq!(keys("pä\u{7f}\u{7f}q\r".as_bytes()), Ok("q".to_owned()));
        assert_eq!(keys(b"wrong\x15right\x04"), Ok("right".to_owned()));
        assert_eq!(keys(b"ab\x03"), Err("interrupted".to_owned()));
        assert_eq!(keys(b"\n"), Err("no password given".to_owned()));
        assert_eq!(keys(b"\x04"), Err("no password given".to_owned()));
    }

    #[test]
    fn a_pipe_gives_a_line_or_the_same_twice() {
        let lines = |prompt, text: &str| read_lines(prompt, &mut text.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(lines(Prompt::New, "one"), Ok("one".to_owned()));
        assert_eq!(lines(Prompt::New, "one\r\none\n"), Ok("one".to_owned()));
        assert_eq!(
            lines(Prompt::New, "one\ntwo\n"),
            Err("Passwords do not match!".to_owned())
        );
        assert_eq!(lines(Prompt::Known, "one\ntwo\n"), Ok("one".to_owned()));
        assert_eq!(lines(Prompt::New, ""), Err("no password given".to_owned()));
    }
}
