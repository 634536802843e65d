//! The file of counters: 64 bytes of header, a table of names, and the cells.
//!
//! ```text
//! 0  "pvecnt1\n"   8 length of the table   16 master's pid   24 its start time   32 its version, NUL-padded
//! 64 table         NAME TAB KIND TAB LABELS, a line for each series; # NAME TAB HELP for each family
//!    cells         8 bytes each, in the order of the table, at the next multiple of 8
//! ```
//!
//! The table says all there is to know, so a reader of another version reads it as well. A master whose table is another
//! one – after an upgrade – makes a new file and takes over the values of what is still counted.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use pve_schema::Site;

use super::{Family, Kind, named, slots};
use crate::process;
use crate::service::RunAs;

const MAGIC: &[u8; 8] = b"pvecnt1\n";
const HEADER: usize = 64;
const CELL: usize = size_of::<u64>();
/// Longest version that is kept.
const VERSION: usize = 32;
/// No file of ours is near this size; one that is larger is none of ours.
const MAX_FILE: usize = 4 << 20;
/// Owner writes, group reads: the web side shows root's counters.
const MODE: u32 = 0o640;

/// Where a daemon's counters are: beside its pid file.
pub(crate) fn path(site: &Site, pid_file: &str) -> PathBuf {
    site.path(pid_file).with_extension("metrics")
}

/// What a daemon counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Whether the daemon runs. If not, what it has for the moment is nothing.
    pub is_running: bool,
    /// Its version.
    pub version: String,
    /// What a family means, by its name.
    pub help: BTreeMap<String, String>,
    /// The figures, those of one family together.
    pub series: Vec<Series>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The family.
    pub name: String,
    /// Labels, `a="b",c="d"`; may be empty.
    pub labels: String,
    /// The value.
    pub value: Value,
}

/// A value and what it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Events.
    Counter(u64),
    /// Time in microseconds.
    Micros(u64),
    /// What holds at the moment.
    Gauge(u64),
    /// Durations by size.
    Histogram(Histogram),
}

/// Durations by size.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Upper bounds in microseconds, ascending, and how many are within each and above the one before.
    pub buckets: Vec<(u64, u64)>,
    /// How many are above the last bound.
    pub above: u64,
    /// The sum, in microseconds.
    pub sum: u64,
}

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    name: String,
    kind: Shape,
    labels: String,
    /// Its first cell.
    cell: usize,
}

/// A kind, as the table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Counter,
    Micros,
    Gauge,
    PerProcess(usize),
    Histogram(Vec<u64>),
    /// How many cells.
    Named(usize),
}

impl Shape {
    fn parse(text: &str) -> Option<Self> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "counter" => Some(Self::Counter),
            "micros" => Some(Self::Micros),
            "gauge" => Some(Self::Gauge),
            "process" => rest
                .parse()
                .ok()
                .filter(|count| *count <= MAX_FILE / CELL)
                .map(Self::PerProcess),
            "named" => rest
                .parse()
                .ok()
                .filter(|cells| *cells <= MAX_FILE / CELL)
                .map(Self::Named),
            "histogram" => rest
                .split(' ')
                .map(|bound| bound.parse().ok())
                .collect::<Option<_>>()
                .map(Self::Histogram),
            _ => None,
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::Counter | Self::Micros | Self::Gauge => 1,
            Self::PerProcess(cells) | Self::Named(cells) => *cells,
            Self::Histogram(bounds) => bounds.len() + 2,
        }
    }
}

fn kind_text(kind: Kind) -> String {
    match kind {
        Kind::Counter => "counter".to_owned(),
        Kind::Seconds => "micros".to_owned(),
        Kind::Gauge => "gauge".to_owned(),
        Kind::PerProcess => format!("process {}", slots::COUNT),
        Kind::Histogram(bounds) => {
            let bounds: Vec<String> = bounds.iter().map(u64::to_string).collect();
            format!("histogram {}", bounds.join(" "))
        }
        Kind::Named => format!("named {}", named::WIDTH),
    }
}

/// The table of these families.
fn table(families: &[&'static Family]) -> String {
    let mut text = String::new();
    for family in families {
        text.push_str(&format!("#{}\t{}\n", family.name, family.help));
        for labels in family.series {
            text.push_str(&format!("{}\t{}\t{labels}\n", family.name, kind_text(family.kind)));
        }
    }
    // Of a length that leaves the cells aligned.
    while !text.len().is_multiple_of(CELL) {
        text.push('\n');
    }
    text
}

/// The rows of a table, and how many cells they have together. `None` if it is none of ours.
fn rows(table: &str) -> Option<(Vec<Row>, usize)> {
    let mut cell = 0_usize;
    let mut rows = Vec::new();
    for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut parts = line.split('\t');
        let (name, kind, labels) = (parts.next()?, Shape::parse(parts.next()?)?, parts.next()?);
        let width = kind.width();
        rows.push(Row {
            name: name.to_owned(),
            kind,
            labels: labels.to_owned(),
            cell,
        });
        cell = cell.checked_add(width).filter(|cells| *cells <= MAX_FILE / CELL)?;
    }
    Some((rows, cell))
}

/// A file's content, taken apart.
struct Content<'a> {
    bytes: &'a [u8],
    table: &'a str,
    rows: Vec<Row>,
}

impl<'a> Content<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.get(..MAGIC.len())? != MAGIC {
            return None;
        }
        let length = usize::try_from(number(bytes, 8)?).ok()?;
        let table = std::str::from_utf8(bytes.get(HEADER..HEADER.checked_add(length)?)?).ok()?;
        let (rows, cells) = rows(table)?;
        let content = Self { bytes, table, rows };
        (length.is_multiple_of(CELL) && bytes.len() >= HEADER + length + cells * CELL).then_some(content)
    }

    fn cell(&self, index: usize) -> u64 {
        number(self.bytes, HEADER + self.table.len() + index * CELL).unwrap_or_default()
    }

    fn values(&self, row: &Row) -> impl Iterator<Item = u64> {
        (row.cell..row.cell + row.kind.width()).map(|index| self.cell(index))
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    let part = bytes.get(at..at.checked_add(CELL)?)?;
    Some(u64::from_ne_bytes(part.try_into().ok()?))
}

/// Reads a file; `None` if it is not there, not readable, or none.
pub(super) fn read(path: &Path) -> Option<Reading> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE).ok()?;
    File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    let content = Content::parse(&bytes)?;
    let pid = u32::try_from(number(&bytes, 16)?).ok()?;
    let is_running = process::is_alive(pid) && process::start_time(pid) == number(&bytes, 24);
    let version = bytes.get(32..HEADER)?.split(|byte| *byte == 0).next()?;
    let help = content
        .table
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once('\t'));
    let shown = content.rows.iter().filter(|row| !row.name.starts_with('_'));
    Some(Reading {
        is_running,
        version: String::from_utf8_lossy(version).into_owned(),
        help: help.map(|(name, text)| (name.to_owned(), text.to_owned())).collect(),
        series: shown.flat_map(|row| series(&content, row, is_running)).collect(),
    })
}

/// The figures of a row: one, or one for each name.
fn series(content: &Content<'_>, row: &Row, is_running: bool) -> Vec<Series> {
    let one = |labels: String, value| Series {
        name: row.name.clone(),
        labels,
        value,
    };
    if !matches!(row.kind, Shape::Named(_)) {
        return vec![one(row.labels.clone(), value(content, row, is_running))];
    }
    let cells: Vec<u64> = content.values(row).collect();
    let counted = named::read(&cells).into_iter();
    counted
        .map(|(name, count)| one(named::labels(&name, &row.labels), Value::Counter(count)))
        .collect()
}

fn value(content: &Content<'_>, row: &Row, is_running: bool) -> Value {
    let mut values = content.values(row);
    match &row.kind {
        Shape::Counter | Shape::Named(_) => Value::Counter(values.next().unwrap_or_default()),
        Shape::Micros => Value::Micros(values.next().unwrap_or_default()),
        Shape::Gauge => Value::Gauge(values.next().unwrap_or_default()),
        Shape::PerProcess(_) if !is_running => Value::Gauge(0),
        Shape::PerProcess(_) => Value::Gauge(values.fold(0, u64::saturating_add)),
        Shape::Histogram(bounds) => Value::Histogram(Histogram {
            buckets: bounds.iter().copied().zip(values.by_ref()).collect(),
            above: values.next().unwrap_or_default(),
            sum: values.next().unwrap_or_default(),
        }),
    }
}

/// Maps the file of a daemon for its master, and for all that it forks. Where there can be no file the counters live in
/// memory that nobody else sees, and the error says why.
///
/// `fresh`: no process of this daemon is left from before.
///
/// # Errors
/// The file could not be made; the counters work all the same.
pub(crate) fn master_opens(
    path: &Path,
    site: &Site,
    program: (&str, RunAs),
    families: &[&'static Family],
    fresh: bool,
) -> io::Result<()> {
    let table = table(families);
    let Some((rows, cells)) = rows(&table) else {
        return Err(io::Error::other("the table of counters is wrong"));
    };
    let size = HEADER + table.len() + cells * CELL;
    let prepared = prepare(path, site, program.1, &table, &rows, size);
    let (file, outcome) = match prepared {
        Ok(file) => (Some(file), Ok(())),
        Err(error) => (None, Err(error)),
    };
    let outcome = outcome.and_then(|()| file.as_ref().map_or(Ok(()), |file| sign(file, program.0)));
    let bytes = match map(outcome.is_ok().then_some(file.as_ref()).flatten(), size) {
        Ok(bytes) => bytes,
        Err(error) => return outcome.and(Err(error)),
    };
    attach(bytes, table.len(), &rows, families);
    if fresh {
        slots::keep_only(&[], families);
    }
    outcome
}

/// Lets a process that is not the daemon's own count in the file there is.
pub(super) fn join(path: &Path, families: &[&'static Family]) {
    let Ok(file) = open(path) else { return };
    let mut bytes = Vec::new();
    if (&file).read_to_end(&mut bytes).is_err() {
        return;
    }
    let Some(content) = Content::parse(&bytes) else { return };
    if let Ok(mapped) = map(Some(&file), bytes.len()) {
        attach(mapped, content.table.len(), &content.rows, families);
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

/// The file with this table: the one that is there, else a new one with the values of the one that was.
fn prepare(path: &Path, site: &Site, user: RunAs, table: &str, rows: &[Row], size: usize) -> io::Result<File> {
    let mut before = Vec::new();
    if let Ok(file) = open(path) {
        let limit = u64::try_from(MAX_FILE).unwrap_or(u64::MAX);
        (&file).take(limit).read_to_end(&mut before)?;
        if Content::parse(&before).is_some_and(|content| content.table == table) && before.len() == size {
            return Ok(file);
        }
    }
    let temporary = path.with_extension("metrics.new");
    let _ = std::fs::remove_file(&temporary);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&temporary)?;
    let made = fill(&file, table, rows, &before, size)
        .and_then(|()| match user {
            // The web side reads what root's daemons count.
            RunAs::Root => fchown(&file, None, Some(site.web_user.gid)),
            RunAs::WebUser => Ok(()),
        })
        .and_then(|()| std::fs::rename(&temporary, path));
    if made.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    made.map(|()| file)
}

fn fill(file: &File, table: &str, rows: &[Row], before: &[u8], size: usize) -> io::Result<()> {
    let length = libc::off_t::try_from(size).map_err(io::Error::other)?;
    // Memory that turns out not to be there when it is written to would kill the daemon.
    // SAFETY: the descriptor is open for as long as `file` lives.
    let failed = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) };
    if failed != 0 {
        return Err(io::Error::from_raw_os_error(failed));
    }
    file.write_all_at(MAGIC, 0)?;
    file.write_all_at(&(table.len() as u64).to_ne_bytes(), 8)?;
    file.write_all_at(table.as_bytes(), HEADER as u64)?;
    let Some(old) = Content::parse(before) else {
        return Ok(());
    };
    for row in rows.iter().filter(|row| !matches!(row.kind, Shape::PerProcess(_))) {
        let same = |other: &&Row| (&other.name, &other.kind, &other.labels) == (&row.name, &row.kind, &row.labels);
        let Some(from) = old.rows.iter().find(same) else {
            continue;
        };
        for (index, value) in old.values(from).enumerate() {
            let at = HEADER + table.len() + (row.cell + index) * CELL;
            file.write_all_at(&value.to_ne_bytes(), at as u64)?;
        }
    }
    Ok(())
}

/// Says which process and which version it is that counts here.
fn sign(file: &File, version: &str) -> io::Result<()> {
    let pid = std::process::id();
    let started = process::start_time(pid).unwrap_or_default();
    let mut name = [0; VERSION];
    for (to, from) in name.iter_mut().zip(version.bytes().take(VERSION - 1)) {
        *to = from;
    }
    file.write_all_at(&u64::from(pid).to_ne_bytes(), 16)?;
    file.write_all_at(&started.to_ne_bytes(), 24)?;
    file.write_all_at(&name, 32)
}

/// Memory that is the file's content, or – without a file – nobody's; shared with all that is forked from here on.
fn map(file: Option<&File>, size: usize) -> io::Result<&'static [AtomicU64]> {
    let (flags, fd) = match file {
        Some(file) => (libc::MAP_SHARED, file.as_raw_fd()),
        None => (libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1),
    };
    // SAFETY: a new mapping at an address that the kernel chooses touches no memory of this process.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            fd,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is `size` bytes long, aligned to a page, readable and writable, and never unmapped. It is only
    // ever accessed as atomics; any content is a valid value of them. The file is as long as the mapping and stays so:
    // only its owner could cut it off, and no program of ours does.
    Ok(unsafe { std::slice::from_raw_parts(address.cast::<AtomicU64>(), size / CELL) })
}

/// Shows the families their cells.
fn attach(memory: &'static [AtomicU64], table_length: usize, rows: &[Row], families: &[&'static Family]) {
    let Some(cells) = memory.get((HEADER + table_length) / CELL..) else {
        return;
    };
    for family in families {
        // The series of a family follow each other.
        let kind = Shape::parse(&kind_text(family.kind));
        let own: Vec<&Row> = rows
            .iter()
            .filter(|row| row.name == family.name && Some(&row.kind) == kind.as_ref())
            .collect();
        let is_same = own
            .iter()
            .map(|row| row.labels.as_str())
            .eq(family.series.iter().copied());
        if let (true, Some(first)) = (is_same, own.first())
            && let Some(cells) = cells.get(first.cell..first.cell + family.width() * family.series.len())
        {
            let _ = family.cells.set(cells);
        }
    }
}

#[cfg(test)]
mod tests;
