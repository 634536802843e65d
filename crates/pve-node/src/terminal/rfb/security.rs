//! How a session begins: versions, the password, the screen's size (RFC 6143 §7.1 to §7.3).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use des::Des;
use des::cipher::{BlockEncrypt as _, KeyInit as _};
use subtle::ConstantTimeEq as _;

use super::NoRfb;
use super::pixels::OFFERED;
use crate::terminal::TerminalError;

/// How long the client may take until its password is there.
const LOGIN: Duration = Duration::from_secs(10);
/// The only kind of authentication: never none.
const VNC: u8 = 2;

/// The versions of the protocol that differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V3,
    V7,
    V8,
}

/// A connection that must get on in time.
struct Timed<'a> {
    stream: &'a mut TcpStream,
    deadline: Instant,
}

impl Timed<'_> {
    fn read<const N: usize>(&mut self) -> Result<[u8; N], TerminalError> {
        let mut bytes = [0; N];
        let mut filled = 0;
        while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(TerminalError::Refused);
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(room).map_err(|_| TerminalError::Refused)? {
                0 => return Err(TerminalError::Refused),
                read => filled += read,
            }
        }
        Ok(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TerminalError> {
        // A few dozen bytes on a new connection: there is room for them.
        Ok(self.stream.write_all(bytes)?)
    }
}

/// Lets a client in that knows the password; `check` has the last word. Whether it is in is told to it.
///
/// # Errors
/// [`TerminalError::Refused`] for a wrong password or one that comes too late; [`NoRfb`].
pub(super) fn let_in(
    stream: &mut TcpStream,
    password: &str,
    check: impl FnOnce() -> Result<(), TerminalError>,
) -> Result<(), TerminalError> {
    let deadline = Instant::now() + LOGIN;
    let mut client = Timed { stream, deadline };
    client.write(b"RFB 003.008\n")?;
    let version = match &client.read::<12>()? {
        b"RFB 003.008\n" => Version::V8,
        b"RFB 003.007\n" => Version::V7,
        // 3.5 is said by some and means 3.3 (RFC 6143 §7.1.1).
        b"RFB 003.003\n" | b"RFB 003.005\n" => Version::V3,
        _ => return Err(NoRfb::Version.into()),
    };
    if version == Version::V3 {
        client.write(&[0, 0, 0, VNC])?;
    } else {
        client.write(&[1, VNC])?;
        if client.read()? != [VNC] {
            return Err(NoRfb::Security.into());
        }
    }
    let mut challenge = [0; 16];
    getrandom::fill(&mut challenge).map_err(|error| TerminalError::Io(std::io::Error::other(error.to_string())))?;
    client.write(&challenge)?;
    let answer: [u8; 16] = client.read()?;
    let is_right = bool::from(answer.ct_eq(&encrypted(password, challenge)));
    let verdict = if is_right { check() } else { Err(TerminalError::Refused) };
    match &verdict {
        Ok(()) => client.write(&[0, 0, 0, 0])?,
        Err(_) if version == Version::V8 => {
            let reason = b"authentication failed";
            let mut told = vec![0, 0, 0, 1, 0, 0, 0, reason.len() as u8];
            told.extend(reason);
            client.write(&told)?;
        }
        Err(_) => client.write(&[0, 0, 0, 1])?,
    }
    verdict
}

/// Hears whether the client would share the screen, which makes no difference, and tells about it.
///
/// # Errors
/// The client is silent, or gone.
pub(super) fn greet(stream: &mut TcpStream, size: (usize, usize), name: &str) -> Result<(), TerminalError> {
    let deadline = Instant::now() + LOGIN;
    let mut client = Timed { stream, deadline };
    let _shared: [u8; 1] = client.read()?;
    let mut told = Vec::new();
    for side in [size.0, size.1] {
        told.extend(u16::try_from(side).unwrap_or(u16::MAX).to_be_bytes());
    }
    told.extend(OFFERED.bytes());
    told.extend(u32::try_from(name.len()).unwrap_or(0).to_be_bytes());
    told.extend(name.bytes());
    client.write(&told)
}

/// A challenge as who knows the password answers it: DES with the password as key, each of its bytes back to front.
fn encrypted(password: &str, challenge: [u8; 16]) -> [u8; 16] {
    let mut key = [0; 8];
    for (to, from) in key.iter_mut().zip(password.bytes()) {
        *to = from.reverse_bits();
    }
    let cipher = Des::new(&key.into());
    let mut answer = challenge;
    for block in answer.chunks_exact_mut(8) {
        cipher.encrypt_block(block.into());
    }
    answer
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A client that says `said` and `login`; what it got, and what the server thinks of it.
    fn meet(password: &str, talk: impl FnOnce(&mut TcpStream)) -> (Vec<u8>, Result<(), TerminalError>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let password = password.to_owned();
        let thread = std::thread::spawn(move || let_in(&mut server, &password, || Ok(())));
        talk(&mut client);
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let verdict = thread.join().unwrap();
        let _ = client.read_to_end(&mut rest);
        (rest, verdict)
    }

    fn read<const N: usize>(client: &mut TcpStream) -> [u8; N] {
        let mut bytes = [0; N];
        client.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_challenge_is_answered_as_other_implementations_do() {
        // `openssl enc -des-ecb -nopad` with the key 86 46 c6 26 a6 66 e6 16 ("abcdefgh" with its bits reversed).
        let expected = "e6d91b75c941f823e6d91b75c941f823";
        assert_eq!(hex::encode(encrypted("abcdefgh", [0; 16])), expected);
        assert_eq!(encrypted("abcdefghi", [7; 16]), encrypted("abcdefgh", [7; 16]));
    }

    #[test]
    fn each_version_gets_in_with_the_password_alone() {
        for version in ["003.003", "003.005", "003.007", "003.008"] {
            for (password, is_in) in [("secret!1", true), ("secret!2", false), ("", false)] {
                let (rest, verdict) = meet("secret!1", |client| {
                    assert_eq!(&read::<12>(client), b"RFB 003.008\n");
                    client.write_all(format!("RFB {version}\n").as_bytes()).unwrap();
                    if version < "003.007" {
                        assert_eq!(read(client), [0, 0, 0, 2]);
                    } else {
                        assert_eq!(read(client), [1, 2]);
                        client.write_all(&[2]).unwrap();
                    }
                    let challenge = read(client);
                    client.write_all(&encrypted(password, challenge)).unwrap();
                });
                assert_eq!(rest.get(..4), Some(&[0, 0, 0, u8::from(!is_in)][..]), "{version}");
                assert_eq!(rest.len() > 4, version == "003.008" && !is_in);
                assert_eq!(verdict.is_ok(), is_in);
            }
        }
    }

    #[test]
    fn nobody_gets_in_without_authentication() {
        for (said, expected) in [
            (
                b"RFB 003.008\n\x01".as_slice(),
                "the client does not know VNC authentication",
            ),
            (b"GET / HTTP/1.1\r\n", "the client does not speak RFB"),
            (b"RFB 003.008\n", "authentication request failed"),
            (b"RFB 003.008\n\x02abc", "authentication request failed"),
        ] {
            let (_, verdict) = meet("secret!1", |client| client.write_all(said).unwrap());
            assert_eq!(verdict.unwrap_err().to_string(), expected);
        }
    }
}
