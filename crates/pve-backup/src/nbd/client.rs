//! The client's side of the NBD protocol, over a Unix socket: fixed newstyle handshake, one request at a time.
//!
//! Every answer has a deadline. A server that breaks the protocol is not talked to any further.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::wire::{self, command, export, handshake, info, option, reply};

/// How long a server may take for an answer: a write of some MiB to a slow disk, or a flush of all of them.
const ANSWER: Duration = Duration::from_secs(120);
/// Most bytes of a read or a write: what servers have to accept.
const MAX_DATA: usize = 32 << 20;
/// Most bytes that are zeroed at once: a disk that has to write them gets it done within [`ANSWER`].
const MAX_ZEROES: u32 = 64 << 20;
/// Most bytes of an answer to an option: a description, or a text.
const MAX_OPTION_REPLY: usize = 64 << 10;
/// Answers to an option before the last one.
const MAX_OPTION_REPLIES: usize = 32;

/// A connection to an export.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    size: u64,
    flags: u16,
    handle: u64,
}

impl Client {
    /// Opens an export; `""` is a server's only one.
    ///
    /// # Errors
    /// The system's, `WouldBlock` for a server that does not answer in time, or that it is none.
    pub fn connect(socket: &Path, name: &str) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let mut client = Self {
            stream,
            size: 0,
            flags: 0,
            handle: 0,
        };
        client.greet()?;
        client.go(name)?;
        Ok(client)
    }

    /// Bytes of the export.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn greet(&mut self) -> io::Result<()> {
        if self.read_u64()? != wire::GREETING || self.read_u64()? != wire::OPTION {
            return Err(broken("no NBD server of the new style"));
        }
        let offered = self.read_u16()?;
        if offered & handshake::FIXED_NEWSTYLE == 0 {
            return Err(broken("no NBD server of the fixed new style"));
        }
        let wanted = u32::from(handshake::FIXED_NEWSTYLE | (offered & handshake::NO_ZEROES));
        self.stream.write_all(&wanted.to_be_bytes())
    }

    /// Chooses the export and begins the transmission.
    fn go(&mut self, name: &str) -> io::Result<()> {
        let name_len = u32::try_from(name.len()).map_err(|_| broken("the name of the export is too long"))?;
        let mut option = Vec::new();
        option.extend(wire::OPTION.to_be_bytes());
        option.extend(option::GO.to_be_bytes());
        option.extend((name_len + 6).to_be_bytes());
        option.extend(name_len.to_be_bytes());
        option.extend(name.as_bytes());
        option.extend(0_u16.to_be_bytes());
        self.stream.write_all(&option)?;
        let mut described = false;
        for _ in 0..MAX_OPTION_REPLIES {
            if self.read_u64()? != wire::OPTION_REPLY || self.read_u32()? != option::GO {
                return Err(broken("unexpected answer of the NBD server"));
            }
            let kind = self.read_u32()?;
            let data = self.read_option_data()?;
            match kind {
                reply::ACK if described => return Ok(()),
                reply::INFO => described |= self.describe(&data),
                kind if kind & reply::ERROR != 0 => {
                    let text = String::from_utf8_lossy(&data).into_owned();
                    return Err(io::Error::other(format!("the NBD server refuses the export: {text}")));
                }
                _ => return Err(broken("unexpected answer of the NBD server")),
            }
        }
        Err(broken("the NBD server answers too much"))
    }

    fn read_option_data(&mut self) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.read_u32()?).unwrap_or(usize::MAX);
        if len > MAX_OPTION_REPLY {
            return Err(broken("the NBD server answers too much"));
        }
        let mut data = vec![0; len];
        self.stream.read_exact(&mut data)?;
        Ok(data)
    }

    /// Takes size and flags from a description of the export.
    fn describe(&mut self, data: &[u8]) -> bool {
        let Some((kind, rest)) = data.split_first_chunk::<2>() else {
            return false;
        };
        let Some((size, rest)) = rest.split_first_chunk::<8>() else {
            return false;
        };
        let Some(flags) = rest
            .first_chunk::<2>()
            .filter(|_| u16::from_be_bytes(*kind) == info::EXPORT)
        else {
            return false;
        };
        self.size = u64::from_be_bytes(*size);
        self.flags = u16::from_be_bytes(*flags);
        true
    }

    /// Fills a buffer from a place.
    ///
    /// # Errors
    /// The server's, as the system would put it, or that it does not answer.
    pub fn read(&mut self, mut offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        for part in buffer.chunks_mut(MAX_DATA) {
            self.request(command::READ, offset, length(part.len())?, &[])?;
            self.stream.read_exact(part)?;
            offset += part.len() as u64;
        }
        Ok(())
    }

    /// Writes bytes at a place.
    ///
    /// # Errors
    /// As [`Client::read`].
    pub fn write(&mut self, mut offset: u64, data: &[u8]) -> io::Result<()> {
        for part in data.chunks(MAX_DATA) {
            self.request(command::WRITE, offset, length(part.len())?, part)?;
            offset += part.len() as u64;
        }
        Ok(())
    }

    /// Makes bytes zero at a place; the server may make a hole of them.
    ///
    /// # Errors
    /// As [`Client::read`].
    pub fn write_zeroes(&mut self, mut offset: u64, mut len: u64) -> io::Result<()> {
        static ZEROES: [u8; 65536] = [0; 65536];
        let can = self.flags & export::SEND_WRITE_ZEROES != 0;
        while len > 0 {
            let limit = if can {
                u64::from(MAX_ZEROES)
            } else {
                ZEROES.len() as u64
            };
            let part = len.min(limit);
            if can {
                self.request(
                    command::WRITE_ZEROES,
                    offset,
                    u32::try_from(part).unwrap_or(MAX_ZEROES),
                    &[],
                )?;
            } else {
                let zeroes = usize::try_from(part).ok().and_then(|part| ZEROES.get(..part));
                self.write(offset, zeroes.unwrap_or(&ZEROES))?;
            }
            offset += part;
            len -= part;
        }
        Ok(())
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// As [`Client::read`].
    pub fn flush(&mut self) -> io::Result<()> {
        if self.flags & export::SEND_FLUSH == 0 {
            return Ok(());
        }
        self.request(command::FLUSH, 0, 0, &[])
    }

    /// Takes leave. The server gives no answer to that.
    ///
    /// # Errors
    /// The system's.
    pub fn disconnect(mut self) -> io::Result<()> {
        self.send(command::DISC, 0, 0, &[])
    }

    fn request(&mut self, kind: u16, offset: u64, len: u32, data: &[u8]) -> io::Result<()> {
        self.send(kind, offset, len, data)?;
        if self.read_u32()? != wire::SIMPLE_REPLY {
            return Err(broken("unexpected answer of the NBD server"));
        }
        let error = self.read_u32()?;
        if self.read_u64()? != self.handle {
            return Err(broken("the NBD server answers to something else"));
        }
        match i32::try_from(error) {
            Ok(0) => Ok(()),
            // The protocol's numbers are Linux'.
            Ok(number) => Err(io::Error::from_raw_os_error(number)),
            Err(_) => Err(broken("unexpected answer of the NBD server")),
        }
    }

    fn send(&mut self, kind: u16, offset: u64, len: u32, data: &[u8]) -> io::Result<()> {
        self.handle += 1;
        let mut head = Vec::with_capacity(wire::REQUEST_LEN);
        head.extend(wire::REQUEST.to_be_bytes());
        head.extend(0_u16.to_be_bytes());
        head.extend(kind.to_be_bytes());
        head.extend(self.handle.to_be_bytes());
        head.extend(offset.to_be_bytes());
        head.extend(len.to_be_bytes());
        self.stream.write_all(&head)?;
        self.stream.write_all(data)
    }

    fn read_bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn read_u16(&mut self) -> io::Result<u16> {
        Ok(u16::from_be_bytes(self.read_bytes()?))
    }

    fn read_u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_be_bytes(self.read_bytes()?))
    }

    fn read_u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_be_bytes(self.read_bytes()?))
    }
}

fn length(len: usize) -> io::Result<u32> {
    u32::try_from(len).map_err(|_| broken("too much data for one request"))
}

fn broken(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What a client says of a server that says this and goes.
    fn told(greeting: &[u8]) -> io::Error {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let greeting = greeting.to_vec();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&greeting).unwrap();
            // Until the client has gone.
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let error = Client::connect(&socket, "").unwrap_err();
        server.join().unwrap();
        error
    }

    fn greeting(flags: u16) -> Vec<u8> {
        let mut bytes = wire::GREETING.to_be_bytes().to_vec();
        bytes.extend(wire::OPTION.to_be_bytes());
        bytes.extend(flags.to_be_bytes());
        bytes
    }

    fn answer(kind: u32, len: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = greeting(handshake::FIXED_NEWSTYLE);
        bytes.extend(wire::OPTION_REPLY.to_be_bytes());
        bytes.extend(option::GO.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend(len.to_be_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn servers_that_break_the_protocol_are_left() {
        let cases = [
            (
                b"SSH-2.0-Server-Of-Another-Kind".to_vec(),
                "no NBD server of the new style",
            ),
            (greeting(0), "no NBD server of the fixed new style"),
            (answer(reply::ACK, 0, b""), "unexpected answer of the NBD server"),
            (answer(reply::INFO, u32::MAX, b""), "the NBD server answers too much"),
            (answer(99, 0, b""), "unexpected answer of the NBD server"),
            (
                answer(reply::ERR_UNKNOWN, 4, b"none"),
                "the NBD server refuses the export: none",
            ),
        ];
        for (bytes, expected) in cases {
            assert_eq!(told(&bytes).to_string(), expected);
        }
        for short in [Vec::new(), greeting(1), answer(reply::INFO, 12, b"short")] {
            assert_eq!(told(&short).kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
