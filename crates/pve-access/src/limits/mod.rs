//! Limits on failed log-ins, beyond upstream (docs/decisions/0021-openid-and-login-limits.md).
//!
//! ```text
//! a password or a code is to be looked at ─▶ Limiter::guess ─ room in all buckets? ── no ─▶ refused, not looked at
//!                                                  │ yes: one place is taken of each
//!                                                  ▼
//!                                            right ─▶ the places are given back
//!                                            wrong ─▶ they come back with time
//! ```
//!
//! Only failures count, and a place is taken before the password is looked at: a thousand guesses at once get no further
//! than a thousand in a row. A log-in that finds no room because others are being looked at waits for what becomes of
//! those, so that many right passwords at once all get in.
//!
//! | bucket | keeps back | does not hold for |
//! |---|---|---|
//! | user and address | guessing one user's password | – |
//! | address | trying one password on many users | a user who got in from that address before |
//! | user | guessing from many addresses | a user who got in from that address before; `127.0.0.1` and `::1` |
//!
//! So who is attacked from elsewhere gets in from where it always does, and so do the neighbours of an attacker.
//! Tickets, API tokens and what renews a ticket never get here.
//!
//! | module | holds |
//! |---|---|
//! | here | who is refused, and when |
//! | `bucket` | the arithmetic of one bucket |
//! | `table` | the file that the workers share: of one size, whoever attacks |
//!
//! Not here: what counts as a failure ([`crate::login`]).

mod bucket;
mod table;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pve_cfs::CfsError;
use pve_cfs::lock::{FileLock, Mode};
use pve_schema::Context;
use pve_schema::ids::UserId;

use crate::counters;
use crate::crowd::Crowd;
use bucket::Bucket;
use table::{Region, Table};

/// The file, of the node and until it restarts.
const FILE: &str = "/run/pve-private/failed-logins";
/// What guards it.
const LOCK: &str = "/run/pve-private/failed-logins.lck";
/// How long to wait for the file: nobody holds it for longer than a few reads and writes.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a log-in waits for those that are being looked at; what takes longer is an attack, or a directory server
/// that does not answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at whether there is room: the first time, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// Log-ins of one process that may wait at once; each holds a thread.
static WAITING: Crowd = Crowd::new(128);

/// How many failures there may be at once, in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of one user from one address; 0 for no limits at all.
    pub failures: u32,
}

impl Limits {
    /// No limits: for who has no business with strangers, such as a command line.
    pub const NONE: Self = Self { failures: 0 };

    /// After the failures in a row, one a minute.
    fn pair(self) -> Bucket {
        Bucket {
            places: self.failures,
            seconds: 60,
        }
    }

    /// An office behind one address, some of whose machines have old passwords.
    fn address(self) -> Bucket {
        Bucket {
            places: self.failures.saturating_mul(6),
            seconds: 10,
        }
    }

    /// Far more than one address may fail, so that a user is not kept out by one or two of them.
    fn user(self) -> Bucket {
        Bucket {
            places: self.failures.saturating_mul(10),
            seconds: 30,
        }
    }
}

static LIMITS: OnceLock<Limits> = OnceLock::new();

/// Sets the limits of this process; those of its start count. Without, there are none.
pub fn set(limits: Limits) {
    let _ = LIMITS.set(limits);
}

/// Why a log-in is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// This user failed too often from this address.
    #[error("too many failed log-ins of this user from this address")]
    Pair,
    /// Too much failed from this address.
    #[error("too many failed log-ins from this address")]
    Address,
    /// This user failed too often from everywhere.
    #[error("too many failed log-ins of this user")]
    User,
    /// There is room for one when those before it succeed, which they took too long to do; or the file was in use for
    /// too long.
    #[error("too many log-ins at once")]
    Crowd,
}

/// Counts guesses and refuses those that are too many.
#[derive(Debug, Clone)]
pub struct Limiter {
    context: Context,
    limits: Limits,
}

/// A guess that may be looked at. Dropped, it was wrong.
#[derive(Debug)]
#[must_use = "a guess that is dropped was wrong"]
pub struct Guess<'a> {
    limiter: &'a Limiter,
    /// What was taken a place of, and the bucket's rules.
    taken: Vec<(Key, Bucket)>,
    /// Where to write down that this user got in from this address.
    known: Option<Key>,
}

/// What a cell stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    region: Region,
    /// What tells the set of cells where it may be.
    set: Vec<u8>,
    /// What tells it from all others.
    name: Vec<u8>,
}

impl Limiter {
    /// With the limits of this process.
    pub fn new(context: &Context) -> Self {
        Self::with_limits(context, LIMITS.get().copied().unwrap_or(Limits::NONE))
    }

    /// With limits of its own.
    pub fn with_limits(context: &Context, limits: Limits) -> Self {
        Self {
            context: context.clone(),
            limits,
        }
    }

    /// May a guess at a user's password or second factor be looked at?
    ///
    /// # Errors
    /// Too many were wrong.
    pub fn guess(&self, user: &UserId, client: Option<IpAddr>) -> Result<Guess<'_>, Refused> {
        let (address, name) = (network(client).octets(), user.as_str().as_bytes());
        let pair = [&address[..], name].concat();
        let known = Key {
            region: Region::Known,
            // A user's places are together: whoever gets in from many addresses takes places of few others.
            set: name.to_vec(),
            name: pair.clone(),
        };
        let asked = [
            (Key::new(Region::Pair, pair), self.limits.pair(), Refused::Pair),
            (
                Key::new(Region::Address, address.to_vec()),
                self.limits.address(),
                Refused::Address,
            ),
            (Key::new(Region::User, name.to_vec()), self.limits.user(), Refused::User),
        ];
        self.take(&asked, known, is_local(client)).inspect_err(|refused| {
            counters::refused(*refused);
        })
    }

    /// Somebody tried to log in as a user who is none, or may not.
    pub fn stranger(&self, client: Option<IpAddr>) {
        let key = Key::new(Region::Address, network(client).octets().to_vec());
        let bucket = self.limits.address();
        // What cannot be counted is in the log.
        let _ = self.with_table(|table, now| {
            let mut cell = table.find_or_new(&key, bucket.whole(), now)?;
            if bucket.has_room(cell.full_at, now) {
                cell.full_at = bucket.take(cell.full_at, now);
                table.store(&cell)?;
            }
            Ok(())
        });
    }

    /// Takes a place of each bucket; waits where all places are taken by guesses that may be right.
    fn take(&self, asked: &[(Key, Bucket, Refused)], known: Key, is_local: bool) -> Result<Guess<'_>, Refused> {
        let deadline = Instant::now() + PATIENCE;
        let (mut pause, longest) = PAUSE;
        let mut place = None;
        loop {
            let looked = self.with_table(|table, now| {
                let is_known = table.find(&known)?.is_some();
                let exempt = |refused: Refused| match refused {
                    Refused::User => is_known || is_local,
                    Refused::Address => is_known,
                    Refused::Pair | Refused::Crowd => false,
                };
                try_take(table, asked, exempt, now)
            });
            match looked {
                // Without the file there are no limits: better than that nobody gets in.
                Err(NoTable::Absent) => return Ok(self.begun(Vec::new(), None)),
                // Whoever keeps it busy must not get rid of the limits by that.
                Err(NoTable::Busy) => return Err(Refused::Crowd),
                Ok(Look::Taken(taken)) => return Ok(self.begun(taken, Some(known))),
                Ok(Look::Refused(refused)) => return Err(refused),
                Ok(Look::Wait) if Instant::now() >= deadline => return Err(Refused::Crowd),
                Ok(Look::Wait) => {
                    if place.is_none() {
                        place = Some(WAITING.enter().ok_or(Refused::Crowd)?);
                    }
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(longest);
                }
            }
        }
    }

    fn begun(&self, taken: Vec<(Key, Bucket)>, known: Option<Key>) -> Guess<'_> {
        Guess {
            limiter: self,
            taken,
            known,
        }
    }

    /// Runs something on the table under its lock.
    fn with_table<T>(&self, run: impl FnOnce(&Table, i64) -> io::Result<T>) -> Result<T, NoTable> {
        if self.limits == Limits::NONE {
            return Err(NoTable::Absent);
        }
        let path = |path: &str| -> PathBuf { self.context.site.path(path) };
        let attempt = || {
            table::make_directory(&path(FILE))?;
            let _lock = match FileLock::acquire(&path(LOCK), Mode::Exclusive, LOCK_TIMEOUT, &mut |_| {}) {
                Err(CfsError::LockTimeout(_)) => return Ok(None),
                lock => lock.map_err(|error| io::Error::other(error.to_string()))?,
            };
            run(&Table::open(&path(FILE))?, self.context.now()).map(Some)
        };
        match attempt() {
            Ok(Some(done)) => Ok(done),
            Ok(None) => {
                log::warn!("unable to count failed log-ins: they are being counted by others for too long");
                Err(NoTable::Busy)
            }
            Err(error) => {
                log::error!("unable to count failed log-ins: {error}");
                Err(NoTable::Absent)
            }
        }
    }
}

/// Why nothing can be looked up in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoTable {
    /// There are no limits, or the file cannot be used.
    Absent,
    /// Others use it, for longer than is waited.
    Busy,
}

/// What became of a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Right,
    Wrong,
}

/// What a look at the buckets yields.
enum Look {
    Taken(Vec<(Key, Bucket)>),
    Refused(Refused),
    Wait,
}

/// Takes a place of each bucket if all that hold have one.
fn try_take(
    table: &Table,
    asked: &[(Key, Bucket, Refused)],
    exempt: impl Fn(Refused) -> bool,
    now: i64,
) -> io::Result<Look> {
    let mut cells = Vec::with_capacity(asked.len());
    for (key, bucket, refused) in asked {
        let cell = table.find_or_new(key, bucket.whole(), now)?;
        if bucket.has_room(cell.full_at, now) {
            cells.push((cell, key, *bucket));
        } else if !exempt(*refused) {
            return Ok(match cell.in_flight {
                0 => Look::Refused(*refused),
                _ => Look::Wait,
            });
        }
    }
    let mut taken = Vec::with_capacity(cells.len());
    for (mut cell, key, bucket) in cells {
        cell.full_at = bucket.take(cell.full_at, now);
        if cell.in_flight == 0 {
            // Not by those that come later: else one that was killed would be waited for as long as others come.
            cell.began = now;
        }
        cell.in_flight = cell.in_flight.saturating_add(1);
        table.store(&cell)?;
        taken.push((key.clone(), bucket));
    }
    Ok(Look::Taken(taken))
}

impl Guess<'_> {
    /// The user got in, and from now on the address is known to be its own. What it failed is not forgotten: somebody
    /// else may be at that address.
    pub fn is_in(mut self) {
        let known = self.known.take();
        self.settle(Verdict::Right, known.as_ref());
    }

    /// It was right, and there is more to be asked for.
    pub fn is_right(mut self) {
        self.settle(Verdict::Right, None);
    }

    /// It is not looked at any more; `known` is to be written down.
    fn settle(&mut self, verdict: Verdict, known: Option<&Key>) {
        let taken = std::mem::take(&mut self.taken);
        if taken.is_empty() {
            return;
        }
        // A right one whose places cannot be given back counts as wrong, and the log says why.
        let _ = self.limiter.with_table(|table, now| {
            for (key, bucket) in &taken {
                // Under attack from everywhere it may have made room for another.
                if let Some(mut cell) = table.find(key)? {
                    cell.in_flight = cell.in_flight.saturating_sub(1);
                    if verdict == Verdict::Right {
                        cell.full_at = bucket.give_back(cell.full_at);
                    }
                    table.store(&cell)?;
                }
            }
            if let Some(known) = known {
                let mut cell = table.find_or_new(known, 0, now)?;
                cell.full_at = now;
                table.store(&cell)?;
            }
            Ok(())
        });
    }
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        self.settle(Verdict::Wrong, None);
    }
}

impl Key {
    fn new(region: Region, name: Vec<u8>) -> Self {
        Self {
            region,
            set: name.clone(),
            name,
        }
    }
}

/// What counts as one address: an IPv4 address, or a network of IPv6, of which one machine has as many addresses as it
/// likes. This machine has all of 127.0.0.0/8, and is one. Who has no address is at one place with all others who have
/// none.
pub(crate) fn network(client: Option<IpAddr>) -> Ipv6Addr {
    match client.map(|address| address.to_canonical()) {
        None => Ipv6Addr::UNSPECIFIED,
        Some(address) if address.is_loopback() => Ipv4Addr::LOCALHOST.to_ipv6_mapped(),
        Some(IpAddr::V4(address)) => address.to_ipv6_mapped(),
        Some(IpAddr::V6(address)) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)),
    }
}

/// Whether it is `localhost`, from where an administrator gets in whatever others try from elsewhere.
fn is_local(client: Option<IpAddr>) -> bool {
    let client = client.map(|address| address.to_canonical());
    client == Some(Ipv4Addr::LOCALHOST.into()) || client == Some(Ipv6Addr::LOCALHOST.into())
}

#[cfg(test)]
mod tests;
