//! Session tickets that every worker understands, so that a client resumes with whichever one it meets (reference 12 §2).
//!
//! rustls' own tickets rotate in each process by itself: made before the fork they part after it. These have keys that
//! follow from one secret of the master and the time:
//!
//! ```text
//! ticket = name (8) · nonce (12) · AES-256-GCM(state), the name authenticated with it
//! name, key = HKDF-SHA256(secret, "ticket", number of the period)
//! ```
//!
//! The secret lives in memory only, and a reload makes a new one: clients then shake hands in full once.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use pve_schema::Context;
use rustls::server::ProducesTickets;

/// Seconds after which another key is used; the one before is still understood. As often as rustls' own.
const PERIOD: u32 = 6 * 60 * 60;
/// Longest ticket that is looked at: state is some hundred bytes, and a chain of client certificates is never in it.
const MAX_TICKET: usize = 8 * 1024;
/// Bytes of a key's name.
const NAME: usize = 8;
/// Bytes of a key.
const KEY: usize = 32;

/// What all keys of a server follow from.
#[derive(Clone)]
pub struct TicketSecret(Option<Arc<[u8; KEY]>>);

impl TicketSecret {
    /// A new one. Without random bytes there are no tickets, which costs time and nothing else.
    pub fn random() -> Self {
        let mut bytes = [0; KEY];
        match getrandom::fill(&mut bytes) {
            Ok(()) => Self(Some(Arc::new(bytes))),
            Err(error) => {
                log::error!("no random bytes for session tickets - {error}");
                Self(None)
            }
        }
    }
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketSecret")
    }
}

/// Makes and understands tickets.
pub(super) struct Tickets {
    secret: TicketSecret,
    context: Context,
    /// The keys of this period and of the one before.
    keys: Mutex<Vec<Arc<PeriodKey>>>,
}

/// The key of a period.
struct PeriodKey {
    period: i64,
    name: [u8; NAME],
    key: RandomizedNonceKey,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

/// Output of the key derivation: a name and a key.
struct Derived;

impl KeyType for Derived {
    fn len(&self) -> usize {
        NAME + KEY
    }
}

impl Tickets {
    pub(super) fn new(secret: &TicketSecret, context: &Context) -> Self {
        Self {
            secret: secret.clone(),
            context: context.clone(),
            keys: Mutex::default(),
        }
    }

    fn period(&self) -> i64 {
        self.context.now().div_euclid(i64::from(PERIOD))
    }

    /// The key of a period, made at most once.
    fn key(&self, period: i64) -> Option<Arc<PeriodKey>> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = keys.iter().find(|key| key.period == period) {
            return Some(Arc::clone(known));
        }
        let key = Arc::new(derive(self.secret.0.as_deref()?, period)?);
        let now = self.period();
        keys.retain(|key| (now - 1..=now).contains(&key.period));
        keys.push(Arc::clone(&key));
        Some(key)
    }
}

fn derive(secret: &[u8; KEY], period: i64) -> Option<PeriodKey> {
    let mut bytes = [0; NAME + KEY];
    let number = period.to_be_bytes();
    Salt::new(HKDF_SHA256, b"ticket")
        .extract(secret)
        .expand(&[&number], Derived)
        .and_then(|derived| derived.fill(&mut bytes))
        .ok()?;
    let (name, key) = bytes.split_first_chunk()?;
    Some(PeriodKey {
        period,
        name: *name,
        key: RandomizedNonceKey::new(&AES_256_GCM, key).ok()?,
    })
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.secret.0.is_some()
    }

    fn lifetime(&self) -> u32 {
        PERIOD
    }

    fn encrypt(&self, state: &[u8]) -> Option<Vec<u8>> {
        let key = self.key(self.period())?;
        let mut sealed = state.to_vec();
        let nonce = key
            .key
            .seal_in_place_append_tag(Aad::from(key.name), &mut sealed)
            .ok()?;
        let mut ticket = Vec::with_capacity(NAME + NONCE_LEN + sealed.len());
        ticket.extend(key.name);
        ticket.extend(nonce.as_ref());
        ticket.append(&mut sealed);
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > MAX_TICKET {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let now = self.period();
        let keys = [now, now - 1].into_iter().filter_map(|period| self.key(period));
        let key = keys.into_iter().find(|key| key.name == *name)?;
        let mut state = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = key
            .key
            .open_in_place(nonce, Aad::from(key.name), &mut state)
            .ok()?
            .len();
        state.truncate(length);
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use pve_schema::clock::ManualClock;

    const START: i64 = 1_800_000_000;

    fn workers() -> (Tickets, Tickets, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(START));
        let mut context = pve_testing::context("/nonexistent", "node1");
        context.clock = clock.clone();
        let secret = TicketSecret::random();
        (Tickets::new(&secret, &context), Tickets::new(&secret, &context), clock)
    }

    #[test]
    fn workers_understand_each_other_for_a_period_and_no_longer_than_two() {
        let (one, other, clock) = workers();
        let ticket = one.encrypt(b"state").unwrap();
        assert_eq!(other.decrypt(&ticket).as_deref(), Some(b"state".as_slice()));
        assert_ne!(one.encrypt(b"state").unwrap(), ticket);
        clock.set(START + i64::from(PERIOD));
        assert_eq!(other.decrypt(&ticket).as_deref(), Some(b"state".as_slice()));
        clock.set(START + 2 * i64::from(PERIOD));
        assert_eq!(other.decrypt(&ticket), None);
        assert!(other.keys.lock().unwrap().len() <= 3);
    }

    #[test]
    fn nothing_else_is_understood() {
        let (one, ..) = workers();
        let ticket = one.encrypt(b"state").unwrap();
        for at in 0..ticket.len() {
            let mut forged = ticket.clone();
            forged[at] ^= 1;
            assert_eq!(one.decrypt(&forged), None, "byte {at}");
            assert_eq!(one.decrypt(&ticket[..at]), None, "cut at {at}");
        }
        let (stranger, ..) = workers();
        assert_eq!(stranger.decrypt(&ticket), None);
        assert_eq!(one.decrypt(&vec![0; MAX_TICKET + 1]), None);
    }
}
