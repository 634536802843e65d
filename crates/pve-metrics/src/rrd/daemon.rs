//! rrdcached: the daemon that gathers samples and writes each file seldom, where somebody runs it (reference 04 §13.1).
//!
//! A process keeps one connection for samples, and readers have their own. What does not answer in time is left alone for
//! a while, and files are written directly, as they are where no such daemon runs; what the daemon had gathered until then
//! and not written is lost, since a file takes no sample older than its last. The protocol is described in `rrdcached(1)`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pve_schema::Context;
use pve_sys::rrd;
use pve_sys::socket::{self, Timed};

use super::{Rrd, RrdError, Sample, damage};

/// Where it listens.
const SOCKET: &str = "/var/run/rrdcached.sock";
/// How long a flush may take: it writes one file, and somebody waits for a chart.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);
/// How long a batch may take. Longer, since giving up costs what the daemon gathered; still less than a cycle has.
const BATCH_LIMIT: Duration = Duration::from_secs(4);
/// Seconds for which one that did not answer is left alone.
const REST: i64 = 60;
/// Longest line that it says.
const MAX_LINE: usize = 4096;

/// What is known of the daemon at one socket.
#[derive(Default)]
struct Link {
    /// Locked while samples are handed over, and for nothing else.
    samples: Mutex<Samples>,
    /// When it did not answer; Unix seconds.
    away_since: Mutex<Option<i64>>,
}

/// The way of samples.
#[derive(Default)]
struct Samples {
    connection: Option<Connection>,
    /// Files of which it was said that they were refused.
    refused: BTreeSet<PathBuf>,
}

static LINKS: Mutex<BTreeMap<PathBuf, Arc<Link>>> = Mutex::new(BTreeMap::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands samples to the daemon: those whose result is not an error yet. Tells which have to be written directly.
pub(super) fn update(files: &Rrd, samples: &[Sample], results: &mut [Result<(), RrdError>]) -> Vec<usize> {
    let wanted: Vec<usize> = (0..samples.len())
        .filter(|at| results.get(*at).is_some_and(Result::is_ok))
        .collect();
    if wanted.is_empty() {
        return wanted;
    }
    let (link, path) = link(&files.context);
    let mut way = lock(&link.samples);
    let done = link.work(&files.context, &path, || {
        // One that was started anew meanwhile is not at the other end of what was opened before.
        let usable = way.connection.take().filter(Connection::is_open);
        let mut connection = usable.map_or_else(|| Connection::open(&path), Ok)?;
        let whole = connection.check(files, samples, &wanted, results);
        let taken: Vec<&Sample> = whole.iter().filter_map(|at| samples.get(*at)).collect();
        let refused = connection.batch(&taken)?;
        way.connection = Some(connection);
        let mut direct = Vec::new();
        for (place, (at, sample)) in whole.iter().zip(&taken).enumerate() {
            let Some(text) = refused.get(&place) else {
                way.refused.remove(&sample.file);
                continue;
            };
            if way.refused.insert(sample.file.clone()) {
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

/// Has the daemon write what it gathered for a file, before that is read: over a connection of its own, so that no
/// reader waits for another, nor for samples.
pub(super) fn flush(context: &Context, file: &Path) {
    let (link, path) = link(context);
    let _ = link.work(context, &path, || Connection::open(&path)?.flush(file));
}

fn link(context: &Context) -> (Arc<Link>, PathBuf) {
    let path = context.site.path(SOCKET);
    let link = lock(&LINKS).entry(path.clone()).or_default().clone();
    (link, path)
}

impl Link {
    /// Does something with the daemon; `None` where none runs, or not as it should.
    fn work<T>(&self, context: &Context, path: &Path, work: impl FnOnce() -> io::Result<T>) -> Option<T> {
        let now = context.now();
        if lock(&self.away_since).is_some_and(|since| (since..since + REST).contains(&now)) {
            return None;
        }
        match work() {
            Ok(done) => {
                if lock(&self.away_since).take().is_some() {
                    log::info!("rrdcached answers again");
                }
                Some(done)
            }
            // Nobody listens, as on most machines.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => None,
            Err(error) => {
                if lock(&self.away_since).replace(now).is_none() {
                    log::error!(
                        "rrdcached at '{}' does not answer ({error}): writing files directly",
                        path.display()
                    );
                }
                None
            }
        }
    }
}

/// A connection to the daemon.
struct Connection {
    stream: BufReader<UnixStream>,
    /// Files that librrd knows: the daemon takes samples for anything and only says in its own log, much later, that it
    /// could not write them.
    known: BTreeSet<PathBuf>,
    /// Files of which the daemon may still have samples from before this connection.
    unflushed: BTreeSet<PathBuf>,
}

impl Connection {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::over(socket::connect(path)?))
    }

    fn over(stream: UnixStream) -> Self {
        Self {
            stream: BufReader::new(stream),
            known: BTreeSet::new(),
            unflushed: BTreeSet::new(),
        }
    }

    /// Whether the other end is there, as far as the kernel knows, and said nothing unasked: that would be taken for
    /// the answer to what is asked next.
    fn is_open(&self) -> bool {
        let stream = self.stream.get_ref();
        if !self.stream.buffer().is_empty() || stream.set_nonblocking(true).is_err() {
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
                self.unflushed.insert(sample.file.clone());
            }
            good.push(*at);
        }
        good
    }

    /// Hands over samples at once. Returns what was said of those that were refused, by their place from 0.
    ///
    /// What the daemon has of a file from before this connection is written first. Some of it may be older than what
    /// was written directly meanwhile; it is refused then, with all that was gathered behind it.
    fn batch(&mut self, samples: &[&Sample]) -> io::Result<BTreeMap<usize, String>> {
        let until = Instant::now() + BATCH_LIMIT;
        let mut text = b"BATCH\n".to_vec();
        // Which sample each command is about.
        let mut places = Vec::with_capacity(samples.len());
        for (place, sample) in samples.iter().enumerate() {
            if self.unflushed.remove(&sample.file) {
                command("FLUSH", &sample.file, "", &mut text)?;
                places.push(None);
            }
            command("UPDATE", &sample.file, &sample.text, &mut text)?;
            places.push(Some(place));
        }
        text.extend_from_slice(b".\n");
        self.say(&text, until)?;
        accepted(&self.line(until)?)?;
        let (count, words) = split(&self.line(until)?)?;
        let count = usize::try_from(count).map_err(|_| io::Error::other(words))?;
        let mut refused = BTreeMap::new();
        for _ in 0..count {
            let (number, words) = split(&self.line(until)?)?;
            let number = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
            if let Some(Some(place)) = number.and_then(|number| places.get(number)) {
                refused.insert(*place, words);
            }
        }
        Ok(refused)
    }

    /// Has a file written. What is refused - a file that the daemon does not know - needs no flush.
    fn flush(&mut self, file: &Path) -> io::Result<()> {
        let until = Instant::now() + FLUSH_LIMIT;
        let mut text = Vec::new();
        command("FLUSH", file, "", &mut text)?;
        self.say(&text, until)?;
        let (more, _) = split(&self.line(until)?)?;
        for _ in 0..more.max(0) {
            self.line(until)?;
        }
        Ok(())
    }

    fn say(&self, text: &[u8], until: Instant) -> io::Result<()> {
        Timed::new(self.stream.get_ref(), until).write_all(text)
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
            if line.len() > MAX_LINE {
                return Err(io::Error::other("the answer is too long"));
            }
        }
    }
}

/// Adds a command about a file.
fn command(verb: &str, file: &Path, rest: &str, text: &mut Vec<u8>) -> io::Result<()> {
    text.extend_from_slice(verb.as_bytes());
    text.push(b' ');
    escape(file, text)?;
    if !rest.is_empty() {
        text.push(b' ');
        text.extend_from_slice(rest.as_bytes());
    }
    text.push(b'\n');
    Ok(())
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
    fn a_connection_on_which_something_was_said_unasked_is_not_used_again() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection::over(ours);
        assert!(connection.is_open());
        (&theirs).write_all(b"0 asked\n-1 unasked\n").unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        assert_eq!(connection.line(until).unwrap(), "0 asked");
        assert!(!connection.is_open());
    }

    #[test]
    fn answers_begin_with_a_number() {
        assert_eq!(split("12 Errors").unwrap(), (12, "Errors".to_owned()));
        assert_eq!(split("-1 No such file").unwrap(), (-1, "No such file".to_owned()));
        assert_eq!(split("0").unwrap(), (0, String::new()));
        assert!(split("what").is_err() && accepted("-1 Permission denied.").is_err());
    }
}
