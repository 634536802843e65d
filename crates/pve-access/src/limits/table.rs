//! The file of failed log-ins: a header, and cells of 32 bytes in sets of eight.
//!
//! ```text
//! 0   "pvefail1"   8 key, random    24 -
//! 32  cells        mark 8 · full_at 8 · began 8 · in_flight 4 · - 4      all little-endian; mark 0: free
//! ```
//!
//! A cell's set and mark are told by a keyed hash of what it stands for, so nobody can choose whose cell is where, and no
//! name or address is in the file. Its size is what it is made with. Where a set is full, the cell goes that has the least
//! to tell.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::Key;

const MAGIC: &[u8; 8] = b"pvefail1";
const HEADER: u64 = 32;
const KEY: usize = 16;
const CELL: usize = 32;
/// Cells among which one may be.
const WAYS: u64 = 8;

/// A guess that has not come to an end after this many seconds never will: its process was killed. PAM and a directory
/// server may take half a minute each.
const LONGEST_GUESS: i64 = 120;

/// A part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Region {
    /// Failures of one user from one address.
    Pair,
    /// Failures from one address.
    Address,
    /// Failures of one user.
    User,
    /// Users and where they got in from; `full_at` is when.
    Known,
}

impl Region {
    const ALL: [Self; 4] = [Self::Pair, Self::Address, Self::User, Self::Known];

    /// How many sets it has. What strangers can fill, and what those who know a password can, are apart.
    const fn sets(self) -> u64 {
        match self {
            Self::Pair | Self::Address | Self::Known => 512,
            Self::User => 128,
        }
    }

    /// Its first set.
    fn start(self) -> u64 {
        let before = Self::ALL.into_iter().take_while(|region| *region != self);
        before.map(Self::sets).sum()
    }
}

/// What is kept of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    /// Where it is in the file.
    at: u64,
    mark: u64,
    /// The second at which its bucket is full again.
    pub(super) full_at: i64,
    /// When the first of those that are in flight began.
    pub(super) began: i64,
    /// Guesses that are being looked at.
    pub(super) in_flight: u32,
}

/// The open file, under its lock.
#[derive(Debug)]
pub(super) struct Table {
    file: File,
    key: [u8; KEY],
}

/// Makes the directory of a file, for root alone.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => DirBuilder::new().recursive(true).mode(0o700).create(parent),
        None => Ok(()),
    }
}

impl Table {
    /// Opens the file; one that is none of ours is begun anew.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path)?;
        let size = HEADER + Region::ALL.into_iter().map(Region::sets).sum::<u64>() * WAYS * CELL as u64;
        let mut head = [0_u8; MAGIC.len() + KEY];
        if file.metadata()?.len() == size {
            file.read_exact_at(&mut head, 0)?;
        }
        let (magic, key) = head.split_at_mut(MAGIC.len());
        if magic != MAGIC {
            getrandom::fill(key).map_err(|error| io::Error::other(error.to_string()))?;
            magic.copy_from_slice(MAGIC);
            file.set_len(0)?;
            file.set_len(size)?;
            file.write_all_at(&head, 0)?;
        }
        let mut key = [0; KEY];
        key.copy_from_slice(&head[MAGIC.len()..]);
        Ok(Self { file, key })
    }

    /// The cell of something, if it has one.
    pub(super) fn find(&self, key: &Key) -> io::Result<Option<Cell>> {
        let mark = self.mark(key);
        Ok(self.set(key)?.into_iter().find(|cell| cell.mark == mark))
    }

    /// The cell of something, or one that may be its. In its region none is full again later than in `longest` seconds.
    pub(super) fn find_or_new(&self, key: &Key, longest: i64, now: i64) -> io::Result<Cell> {
        let mark = self.mark(key);
        let cells = self.set(key)?.into_iter().map(|cell| cell.as_of(now, longest));
        let cells: Vec<Cell> = cells.collect();
        if let Some(cell) = cells.iter().find(|cell| cell.mark == mark) {
            return Ok(*cell);
        }
        let least = cells.into_iter().min_by_key(|cell| match cell.mark {
            0 => (0, 0, 0),
            _ => (1, cell.in_flight, cell.full_at),
        });
        let at = least.map_or(HEADER, |cell| cell.at);
        Ok(Cell {
            at,
            mark,
            full_at: now,
            began: now,
            in_flight: 0,
        })
    }

    /// Writes a cell.
    pub(super) fn store(&self, cell: &Cell) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(CELL);
        bytes.extend(cell.mark.to_le_bytes());
        bytes.extend(cell.full_at.to_le_bytes());
        bytes.extend(cell.began.to_le_bytes());
        bytes.extend(cell.in_flight.to_le_bytes());
        self.file.write_all_at(&bytes, cell.at)
    }

    /// The cells among which something may be.
    fn set(&self, key: &Key) -> io::Result<Vec<Cell>> {
        let set = key.region.start() + self.hash(key.region, b"set", &key.set) % key.region.sets();
        let start = HEADER + set * WAYS * CELL as u64;
        let mut bytes = [0_u8; CELL * WAYS as usize];
        self.file.read_exact_at(&mut bytes, start)?;
        let cells = bytes.chunks_exact(CELL).zip((start..).step_by(CELL));
        Ok(cells.map(|(bytes, at)| Cell::parse(bytes, at)).collect())
    }

    /// What tells a cell from the others of its set; never 0.
    fn mark(&self, key: &Key) -> u64 {
        self.hash(key.region, b"mark", &key.name) | 1
    }

    fn hash(&self, region: Region, what: &[u8], name: &[u8]) -> u64 {
        // An HMAC takes a key of any length: the error cannot occur.
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(&self.key) else {
            return 0;
        };
        let mac = mac.chain_update([region as u8]).chain_update(what).chain_update(name);
        number(&mac.finalize().into_bytes())
    }
}

impl Cell {
    /// What of it holds now. A clock that was set back leaves times to come; what they stood for is forgotten, or those
    /// who are right would be kept out until the clock is there again.
    fn as_of(mut self, now: i64, longest: i64) -> Self {
        if self.full_at > now.saturating_add(longest) {
            self.full_at = now;
        }
        self.began = self.began.min(now);
        if now.saturating_sub(self.began) > LONGEST_GUESS {
            self.in_flight = 0;
        }
        self
    }

    fn parse(bytes: &[u8], at: u64) -> Self {
        let part = |index: usize| bytes.get(index..).map_or(0, number);
        Self {
            at,
            mark: part(0),
            full_at: part(8).cast_signed(),
            began: part(16).cast_signed(),
            in_flight: u32::try_from(part(24) & u64::from(u32::MAX)).unwrap_or_default(),
        }
    }
}

/// The first eight bytes as a number.
fn number(bytes: &[u8]) -> u64 {
    let first = bytes.first_chunk::<8>().copied().unwrap_or_default();
    u64::from_le_bytes(first)
}
