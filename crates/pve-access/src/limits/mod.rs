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
//! | user | guessing from many addresses | a user who got in from that address before; the machine itself |
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

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

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
    /// There is room for one when those before it succeed, which they took too long to do.
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
        let client = network(client);
        let (address, name) = (client.octets(), user.as_str().as_bytes());
        let pair = [&address[..], name].concat();
        let known = Key {
            region: Region::Known,
            // A user's places are together: whoever gets in from many addresses takes no place of another.
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
        self.take(&asked, known, is_own(client)).inspect_err(|refused| {
            counters::refused(*refused);
        })
    }

    /// Somebody tried to log in as a user who is none, or may not.
    pub fn stranger(&self, client: Option<IpAddr>) {
        let key = Key::new(Region::Address, network(client).octets().to_vec());
        let bucket = self.limits.address();
        self.with_table(|table, now| {
            let mut cell = table.find_or_new(&key, now)?;
            if bucket.has_room(cell.full_at, now) {
                cell.full_at = bucket.take(cell.full_at, now);
                table.store(&cell)?;
            }
            Ok(())
        });
    }

    /// Takes a place of each bucket; waits where all places are taken by guesses that may be right.
    fn take(&self, asked: &[(Key, Bucket, Refused)], known: Key, is_own: bool) -> Result<Guess<'_>, Refused> {
        let deadline = Instant::now() + PATIENCE;
        let (mut pause, longest) = PAUSE;
        let mut place = None;
        loop {
            let looked = self.with_table(|table, now| {
                let is_known = table.find(&known)?.is_some();
                let exempt = |refused: Refused| match refused {
                    Refused::User => is_known || is_own,
                    Refused::Address => is_known,
                    Refused::Pair | Refused::Crowd => false,
                };
                try_take(table, asked, exempt, now)
            });
            match looked {
                // Without the file there are no limits: better than that nobody gets in.
                None => return Ok(self.begun(Vec::new(), None)),
                Some(Look::Taken(taken)) => return Ok(self.begun(taken, Some(known))),
                Some(Look::Refused(refused)) => return Err(refused),
                Some(Look::Wait) if Instant::now() >= deadline => return Err(Refused::Crowd),
                Some(Look::Wait) => {
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

    /// Runs something on the table under its lock. `None`: there are no limits, or no table.
    fn with_table<T>(&self, run: impl FnOnce(&Table, i64) -> std::io::Result<T>) -> Option<T> {
        if self.limits == Limits::NONE {
            return None;
        }
        let path = |path: &str| -> PathBuf { self.context.site.path(path) };
        let attempt = || {
            table::make_directory(&path(FILE))?;
            let _lock = FileLock::acquire(&path(LOCK), Mode::Exclusive, LOCK_TIMEOUT, &mut |_| {})
                .map_err(|error| std::io::Error::other(error.to_string()))?;
            run(&Table::open(&path(FILE))?, self.context.now())
        };
        attempt()
            .inspect_err(|error| log::error!("unable to count failed log-ins: {error}"))
            .ok()
    }
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
) -> std::io::Result<Look> {
    let mut cells = Vec::with_capacity(asked.len());
    for (key, bucket, refused) in asked {
        let cell = table.find_or_new(key, now)?;
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
        cell.in_flight = cell.in_flight.saturating_add(1);
        cell.began = now;
        table.store(&cell)?;
        taken.push((key.clone(), bucket));
    }
    Ok(Look::Taken(taken))
}

impl Guess<'_> {
    /// The user got in, and from now on the address is known to be its own. What it failed is not forgotten: somebody
    /// else may be at that address.
    pub fn is_in(mut self) {
        self.settle(Verdict::Right);
        if let Some(known) = self.known.take() {
            self.limiter.with_table(|table, now| {
                let mut cell = table.find_or_new(&known, now)?;
                cell.full_at = now;
                table.store(&cell)
            });
        }
    }

    /// It was right, and there is more to be asked for.
    pub fn is_right(mut self) {
        self.settle(Verdict::Right);
    }

    /// It is not looked at any more.
    fn settle(&mut self, verdict: Verdict) {
        let taken = std::mem::take(&mut self.taken);
        if taken.is_empty() {
            return;
        }
        self.limiter.with_table(|table, _| {
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
            Ok(())
        });
    }
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        self.settle(Verdict::Wrong);
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
/// likes. Who has none is at one place with all others who have none.
fn network(client: Option<IpAddr>) -> Ipv6Addr {
    match client.map(|address| address.to_canonical()) {
        None => Ipv6Addr::UNSPECIFIED,
        Some(IpAddr::V4(address)) => address.to_ipv6_mapped(),
        Some(IpAddr::V6(address)) if address.is_loopback() => address,
        Some(IpAddr::V6(address)) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)),
    }
}

/// Whether it is this machine.
fn is_own(network: Ipv6Addr) -> bool {
    network.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests;
