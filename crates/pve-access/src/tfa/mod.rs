//! Second factors (reference 02 §8): `priv/tfa.cfg`, challenges, their answers, and the lockout.
//!
//! ```text
//! password is right ─▶ Challenge::of ─ none ─▶ in
//!                           │ some: a half ticket holds it
//!                           ▼
//!                      answer ─▶ verify ─▶ locked? ─▶ one factor's own check ─▶ counters ─▶ in
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | `priv/tfa.cfg` as a value |
//! | [`totp`] | codes by time (RFC 6238) and the `otpauth` URIs that devices are set up with |
//! | [`recovery`] | recovery keys |
//! | [`webauthn`] | security keys and passkeys |
//! | [`yubico`] | one-time passwords of Yubico keys, checked by a validation server |
//! | [`challenge`] | what a user is asked for |
//! | [`verify`] | whether an answer is right, and what happens when it is not |
//! | [`attempts`] | how often it was wrong on this node, and what waits for an answer |
//! | [`add`] | adding factors |
//! | [`change`] | changing and removing them |
//! | `old_keys` | factors as older releases kept them |
//!
//! Not here: U2F, which browsers have dropped. Its entries are kept as they are and count as factors; whoever has nothing
//! else cannot log in.

pub mod add;
pub mod attempts;
pub mod challenge;
pub mod change;
pub mod config;
mod old_keys;
pub mod recovery;
pub mod totp;
pub mod verify;
pub mod webauthn;
pub mod yubico;

use std::collections::BTreeMap;

use pve_cfs::lock::DEFAULT_TIMEOUT;
use pve_cfs::{Cfs, LockId, MAX_FILE};
use pve_schema::Context;
use pve_schema::ids::UserId;

use crate::error::AccessError;
use crate::store::{self, TFA_CFG};

pub use challenge::Challenge;
pub use config::{Factors, TfaConfig};

/// The word in a user's KEYS that says: look into `tfa.cfg`.
pub(crate) const IN_TFA_CFG: &str = "x";

/// Most bytes of one user's factors in the file, where all users' locks must always find room: eight security keys, or
/// some hundred devices for codes.
pub const MAX_FACTORS: usize = 16 << 10;

/// Reads the file as it is now.
///
/// # Errors
/// It cannot be read or understood: nobody gets in past it.
pub fn load(context: &Context) -> Result<TfaConfig, AccessError> {
    let text = Cfs::new(context).read_text(TFA_CFG)?.unwrap_or_default();
    TfaConfig::parse(&text, context.now())
}

/// Runs something under the file's lock, on what the file holds.
///
/// # Errors
/// The lock of `user.cfg` is held already (it comes second); else whatever `code` says, or the file's own.
pub(crate) fn locked<T>(
    context: &Context,
    code: impl FnOnce(&mut TfaConfig) -> Result<T, AccessError>,
) -> Result<T, AccessError> {
    if store::holds_user_lock() {
        return Err(AccessError::plain(
            "tfa config lock cannot be acquired while holding user config lock",
        ));
    }
    let cfs = Cfs::new(context);
    cfs.with_lock(&LockId::file(TFA_CFG), DEFAULT_TIMEOUT, || code(&mut load(context)?))
}

/// The same for a change: the file is written if it is another then, and not at all if `change` fails.
///
/// # Errors
/// As [`locked`].
pub(crate) fn edit<T>(
    context: &Context,
    change: impl FnOnce(&mut TfaConfig) -> Result<T, AccessError>,
) -> Result<T, AccessError> {
    locked(context, |config| {
        let before = config.clone();
        let result = change(config)?;
        if *config != before {
            write(&Cfs::new(context), config)?;
        }
        Ok(result)
    })
}

/// The same for a change of one user's factors. The user may have been deleted meanwhile, under the same lock: its next
/// namesake would have them.
///
/// # Errors
/// As [`edit`]; there is no such user, or too much was added ([`MAX_FACTORS`]).
pub(crate) fn edit_of<T>(
    context: &Context,
    id: &UserId,
    change: impl FnOnce(&mut TfaConfig) -> Result<T, AccessError>,
) -> Result<T, AccessError> {
    edit(context, |config| {
        crate::edit::read(&Cfs::new(context))?.require_user(id)?;
        let before = config.size_of(id)?;
        let result = change(config)?;
        let after = config.size_of(id)?;
        if after <= before {
            return Ok(result);
        }
        if after > MAX_FACTORS {
            return Err(AccessError::plain(format!(
                "second factors of '{id}' take more than {MAX_FACTORS} bytes - remove one first"
            )));
        }
        if config.print()?.len() > MAX_FILE / 4 * 3 {
            return Err(AccessError::plain(format!("{TFA_CFG} has no room for more factors")));
        }
        Ok(result)
    })
}

fn write(cfs: &Cfs, config: &TfaConfig) -> Result<(), AccessError> {
    Ok(cfs.write(TFA_CFG, config.print()?.as_bytes())?)
}

/// What keeps a user from using its second factors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Locks {
    /// Too many wrong codes.
    pub totp_locked: bool,
    /// Unix seconds until which no second factor is looked at.
    pub locked_until: Option<i64>,
}

/// The locks of all users that have one; none from a file that cannot be understood.
///
/// # Errors
/// The file cannot be read.
pub fn locks(cfs: &Cfs, now: i64) -> Result<BTreeMap<UserId, Locks>, AccessError> {
    let text = cfs.read_text(TFA_CFG)?.unwrap_or_default();
    let config = TfaConfig::parse(&text, now).unwrap_or_default();
    let locks = config.users.into_iter().map(|(user, factors)| (user, factors.locks()));
    Ok(locks.filter(|(_, locks)| *locks != Locks::default()).collect())
}
