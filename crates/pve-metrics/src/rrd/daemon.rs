//! rrdcached: the daemon that gathers samples and writes each file seldom, where somebody runs it (reference 04 §13.1).
//!
//! A process keeps one connection per socket. What does not answer in time is left alone for a while, and files are
//! written directly, as they are where no such daemon runs. The protocol is described in `rrdcached(1)`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pve_schema::Site;
use pve_sys::rrd;

use super::{Rrd, RrdError, Sample, damage};

/// Where it listens.
const SOCKET: &str = "/var/run/rrdcached.sock";
/// How long one exchange may take. It only takes notes of samples; a flush writes one file.
const LIMIT: Duration = Duration::from_secs(1);
/// How long one that did not answer is left alone.
const REST: Duration = Duration::from_secs(60);
/// Longest line that it says.
const MAX_LINE: u64 = 4096;

/// What is known of the daemon at one socket.
#[derive(Default)]
struct Link {
    connection: Option<Connection>,
    /// Until when it is left alone.
    away_until: Option<Instant>,
    /// Files of which it was said that they were refused.
    refused: BTreeSet<PathBuf>,
}

static LINKS: Mutex<BTreeMap<PathBuf, Link>> = Mutex::new(BTreeMap::new());

/// Hands samples to the daemon: those whose result is not an error yet. Tells which have to be written directly.
pub(super) fn update(site: &Site, files: &Rrd, samples: &[Sample], results: &mut [Result<(), RrdError>]) -> Vec<usize> {
    let wanted: Vec<usize> = (0..samples.len())
        .filter(|at| results.get(*at).is_some_and(Result::is_ok))
        .collect();
    if wanted.is_empty() {
        return wanted;
    }
    let done = with_link(site, |told, connection| {
        let whole = connection.check(files, samples, &wanted, results);
        let taken: Vec<&Sample> = whole.iter().filter_map(|at| samples.get(*at)).collect();
        let refused = connection.batch(&taken)?;
        let mut direct = Vec::new();
        for (place, (at, sample)) in whole.iter().zip(&taken).enumerate() {
            let Some(text) = refused.get(&(place + 1)) else {
                told.remove(&sample.file);
                continue;
            };
            if told.insert(sample.file.clone()) {
                log::error!("RRDC update error {}: -1 ({text})", sample.file.display());
            }
            direct.push(*at);
        }
        Ok(direct)
    });
    // A file that could not be replaced has its error already.
    done.unwrap_or_else(|| {
        let is_open = |at: &usize| results.get(*at).is_some_and(Result::is_ok);
        wanted.into_iter().filter(is_open).collect()
    })
}

/// Has the daemon write what it gathered for a file, before that is read.
pub(super) fn flush(site: &Site, file: &Path) {
    let _ = with_link(site, |_, connection| connection.flush(file));
}

/// Runs something with the connection; `None` where no daemon runs, or not as it should.
fn with_link<T>(site: &Site, work: impl FnOnce(&mut BTreeSet<PathBuf>, &mut Connection) -> io::Result<T>) -> Option<T> {
    let socket = site.path(SOCKET);
    let mut links = LINKS.lock().unwrap_or_else(PoisonError::into_inner);
    let link = links.entry(socket.clone()).or_default();
    if link.away_until.is_some_and(|until| Instant::now() < until) {
        return None;
    }
    // One that was started anew meanwhile is not at the other end of what was opened before.
    let usable = link.connection.take().filter(Connection::is_open);
    let mut connection = match usable {
        Some(connection) => connection,
        // Nobody listens, as on most machines.
        None => Connection::open(&socket).ok()?,
    };
    match work(&mut link.refused, &mut connection) {
        Ok(done) => {
            if link.away_until.take().is_some() {
                log::info!("rrdcached answers again");
            }
            link.connection = Some(connection);
            Some(done)
        }
        Err(error) => {
            if link.away_until.replace(Instant::now() + REST).is_none() {
                log::error!(
                    "rrdcached at '{}' does not answer ({error}): writing files directly",
                    socket.display()
                );
            }
            None
        }
    }
}

/// A connection to the daemon.
struct Connection {
    stream: BufReader<UnixStream>,
    /// Files that librrd knows: the daemon takes samples for anything and only says in its own log, much later, that it
    /// could not write them.
    known: BTreeSet<PathBuf>,
}

impl Connection {
    fn open(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Self {
            stream: BufReader::new(stream),
            known: BTreeSet::new(),
        })
    }

    /// Whether the other end is there, as far as the kernel knows. Nothing unasked ever arrives.
    fn is_open(&self) -> bool {
        let stream = self.stream.get_ref();
        if stream.set_nonblocking(true).is_err() {
            return false;
        }
        let mut byte = [0];
        let peeked = io::Read::read(&mut &*stream, &mut byte);
        let waits = peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        waits && stream.set_nonblocking(false).is_ok()
    }

    /// Looks at files that this connection has not been told of before; those that are damaged are replaced. Returns
    /// the samples that can go on.
    fn check(
        &mut self,
        files: &Rrd,
        samples: &[Sample],
        wanted: &[usize],
        results: &mut [Result<(), RrdError>],
    ) -> Vec<usize> {
        let mut good = Vec::with_capacity(wanted.len());
        for at in wanted {
            let Some(sample) = samples.get(*at) else { continue };
            if !self.known.contains(&sample.file) {
                let replaced = match rrd::last(&sample.file) {
                    Err(error) if damage::is_damage(&sample.file, &error) => {
                        files.replace_damaged(&sample.subject, &sample.file, &error)
                    }
                    _ => Ok(()),
                };
                if let Err(error) = replaced {
                    if let Some(result) = results.get_mut(*at) {
                        *result = Err(error);
                    }
                    continue;
                }
                self.known.insert(sample.file.clone());
            }
            good.push(*at);
        }
        good
    }

    /// Hands over samples at once. Returns what was said of those that were refused, by their place from 1.
    fn batch(&mut self, samples: &[&Sample]) -> io::Result<BTreeMap<usize, String>> {
        let until = Instant::now() + LIMIT;
        let mut text = b"BATCH\n".to_vec();
        for sample in samples {
            text.extend_from_slice(b"UPDATE ");
            escape(&sample.file, &mut text)?;
            text.push(b' ');
            text.extend_from_slice(sample.text.as_bytes());
            text.push(b'\n');
        }
        text.extend_from_slice(b".\n");
        self.stream.get_mut().write_all(&text)?;
        accepted(&self.line(until)?)?;
        let (count, words) = split(&self.line(until)?)?;
        let count = usize::try_from(count).map_err(|_| io::Error::other(words))?;
        let mut refused = BTreeMap::new();
        for _ in 0..count {
            let (place, words) = split(&self.line(until)?)?;
            refused.insert(usize::try_from(place).unwrap_or(0), words);
        }
        Ok(refused)
    }

    /// Has a file written. What is refused - a file that the daemon does not know - needs no flush.
    fn flush(&mut self, file: &Path) -> io::Result<()> {
        let mut text = b"FLUSH ".to_vec();
        escape(file, &mut text)?;
        text.push(b'\n');
        self.stream.get_mut().write_all(&text)?;
        let until = Instant::now() + LIMIT;
        let (more, _) = split(&self.line(until)?)?;
        for _ in 0..more.max(0) {
            self.line(until)?;
        }
        Ok(())
    }

    /// A line of the answer.
    fn line(&mut self, until: Instant) -> io::Result<String> {
        let mut line = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.get_ref().set_read_timeout(Some(left))?;
            let bytes = self.stream.fill_buf()?;
            if bytes.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(bytes.len(), |end| end + 1);
            line.extend(bytes.iter().take(taken));
            self.stream.consume(taken);
            if end.is_some() {
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if line.len() as u64 > MAX_LINE {
                return Err(io::Error::other("the answer is too long"));
            }
        }
    }
}

/// An answer's number, and its words.
fn split(line: &str) -> io::Result<(i64, String)> {
    let (number, words) = line.split_once(' ').unwrap_or((line, ""));
    let number = number
        .parse()
        .map_err(|_| io::Error::other(format!("unexpected answer '{line}'")))?;
    Ok((number, words.to_owned()))
}

fn accepted(line: &str) -> io::Result<()> {
    match split(line)? {
        (0, _) => Ok(()),
        (_, words) => Err(io::Error::other(words)),
    }
}

/// A file's name as one word of a command.
fn escape(file: &Path, text: &mut Vec<u8>) -> io::Result<()> {
    for byte in file.as_os_str().as_bytes() {
        match byte {
            b'\n' | b'\r' | 0 => return Err(ErrorKind::InvalidInput.into()),
            b' ' | b'\t' | b'\\' => text.extend([b'\\', *byte]),
            byte => text.push(*byte),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_one_word_of_a_command() {
        let escaped = |file: &str| {
            let mut text = Vec::new();
            escape(Path::new(file), &mut text).map(|()| String::from_utf8(text).unwrap())
        };
        assert_eq!(escaped("/a b/c\\d").unwrap(), "/a\\ b/c\\\\d");
        assert!(escaped("/a\nFLUSHALL").is_err());
    }

    #[test]
    fn answers_begin_with_a_number() {
        assert_eq!(split("12 Errors").unwrap(), (12, "Errors".to_owned()));
        assert_eq!(split("-1 No such file").unwrap(), (-1, "No such file".to_owned()));
        assert_eq!(split("0").unwrap(), (0, String::new()));
        assert!(split("what").is_err() && accepted("-1 Permission denied.").is_err());
    }
}
