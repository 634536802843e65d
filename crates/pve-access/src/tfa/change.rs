//! Adding, changing and removing second factors (reference 02 §8.6, §8.8). Whether the caller is who it says is
//! asked before ([`crate::AccessControl::reauthenticate`]).

use pve_cfs::{Cfs, MAX_FILE};
use pve_schema::Context;
use pve_schema::ids::UserId;

use super::attempts::{self, Attempts};
use super::config::{Entry, Factors, TotpEntry};
use super::totp::Totp;
use super::verify::Subject;
use super::{IN_TFA_CFG, TfaConfig, old_keys, recovery};
use crate::domains::Realm;
use crate::edit;
use crate::error::AccessError;
use crate::store::TFA_CFG;

/// Most bytes of an `otpauth` URI: ten times what devices make.
const MAX_URI: usize = 1024;
/// Most devices of one user. With both limits nobody fills the file, in which locks must always find room.
const MAX_TOTP: usize = 32;

/// A factor to be added, as a client sent it.
#[derive(Clone, Copy, Default)]
pub struct NewFactor<'a> {
    /// `totp`, `recovery`, `webauthn`, `u2f`, `yubico`.
    pub kind: &'a str,
    /// Free text.
    pub description: Option<&'a str>,
    /// The `otpauth` URI that the device was set up with.
    pub totp: Option<&'a str>,
    /// What the device says.
    pub value: Option<&'a str>,
    /// What the device was asked.
    pub challenge: Option<&'a str>,
}

/// A factor that was added.
pub enum Added {
    /// An entry of this id.
    Entry(String),
    /// Recovery keys, shown this once.
    Recovery(Vec<String>),
}

/// Adds a second factor.
///
/// # Errors
/// A parameter is missing or too many, the device's code is wrong, or the kind cannot be added (501 where it is not
/// built yet).
pub fn add(context: &Context, subject: Subject<'_>, new: NewFactor<'_>) -> Result<Added, AccessError> {
    enable(context, subject)?;
    match new.kind {
        "totp" => add_totp(context, subject.id, new).map(Added::Entry),
        "recovery" => add_recovery(context, subject.id, new).map(Added::Recovery),
        other => Err(refuse(other, subject)),
    }
}

/// Marks the user as one with factors in `tfa.cfg`, where its keys of old go too. That stays even if nothing is added.
fn enable(context: &Context, subject: Subject<'_>) -> Result<(), AccessError> {
    let Subject { id, user, realm } = subject;
    let keys = user.keys.as_deref().unwrap_or_default();
    if keys == IN_TFA_CFG {
        return Ok(());
    }
    super::edit(context, |config| {
        let old = old_keys::of_user(keys, id, realm);
        let factors = config.users.entry(id.clone()).or_default();
        if factors.is_empty() {
            factors.totp = old.totp;
            factors.yubico = old.yubico;
        }
        if *factors == Factors::default() {
            config.users.remove(id);
        }
        Ok(())
    })?;
    set_keys(context, id, Some(IN_TFA_CFG))
}

fn set_keys(context: &Context, id: &UserId, keys: Option<&str>) -> Result<(), AccessError> {
    edit::edit(context, "enabling TFA for the user failed", |config| {
        if let Some(user) = config.users.get_mut(id) {
            user.keys = keys.map(str::to_owned);
        }
        Ok(())
    })
}

fn add_totp(context: &Context, id: &UserId, new: NewFactor<'_>) -> Result<String, AccessError> {
    if new.challenge.is_some() {
        return Err(AccessError::plain(
            "'challenge' parameter is invalid for 'totp' entries",
        ));
    }
    let (Some(uri), Some(code)) = (new.totp, new.value) else {
        return Err(AccessError::plain(
            "'totp' type requires both 'totp' and 'value' parameters",
        ));
    };
    let description = description(new)?;
    if uri.len() > MAX_URI {
        return Err(AccessError::parameter(
            "totp",
            format!("may only be {MAX_URI} characters long"),
        ));
    }
    let totp = Totp::parse(uri).map_err(|error| AccessError::plain(error.to_string()))?;
    if totp.matching_step(code, context.now()).is_none() {
        return Err(AccessError::plain("failed to verify TOTP challenge"));
    }
    let entry = Entry {
        id: uuid::Uuid::new_v4().to_string(),
        description: description.to_owned(),
        created: context.now(),
        enable: true,
        entry: TotpEntry {
            uri: totp.uri(),
            last_count: None,
        },
    };
    let entry_id = entry.id.clone();
    super::edit(context, |config| {
        let factors = config.users.entry(id.clone()).or_default();
        if factors.totp.len() >= MAX_TOTP {
            return Err(AccessError::plain(format!(
                "'{id}' has {MAX_TOTP} TOTP factors already - remove one first"
            )));
        }
        factors.totp.push(entry);
        if config.print()?.len() > MAX_FILE / 4 * 3 {
            return Err(AccessError::plain(format!("{TFA_CFG} has no room for more factors")));
        }
        Ok(entry_id)
    })
}

fn description<'a>(new: NewFactor<'a>) -> Result<&'a str, AccessError> {
    new.description
        .ok_or_else(|| AccessError::plain("'description' is required for new entries"))
}

fn add_recovery(context: &Context, id: &UserId, new: NewFactor<'_>) -> Result<Vec<String>, AccessError> {
    if [new.description, new.totp, new.value, new.challenge]
        .iter()
        .any(Option::is_some)
    {
        return Err(AccessError::plain(
            "generating recovery tokens does not allow additional parameters",
        ));
    }
    super::edit(context, |config| {
        let factors = config.users.entry(id.clone()).or_default();
        if factors.recovery.is_some() {
            return Err(AccessError::plain("user already has recovery keys"));
        }
        let (keys, recovery) = recovery::generate(context.now())?;
        factors.recovery = Some(recovery);
        Ok(keys)
    })
}

/// Why a factor of a kind that cannot be verified is not added: it would lock its user out.
fn refuse(kind: &str, subject: Subject<'_>) -> AccessError {
    if kind == "yubico" {
        let name = subject.id.realm();
        match subject.realm.required_factor() {
            None => {
                return AccessError::plain(format!("no yubico otp configuration available for realm {name}"));
            }
            Some("yubico") => {}
            Some(_) => return AccessError::plain("realm is not setup for Yubico OTP"),
        }
    }
    AccessError::NotBuilt(format!("second factors of type '{kind}'"))
}

fn no_such_entry() -> AccessError {
    AccessError::plain("no such entry")
}

/// Changes a factor's description, or whether it counts.
///
/// # Errors
/// There is none of that id; the recovery keys have neither.
pub fn update(
    context: &Context,
    user: &UserId,
    id: &str,
    description: Option<&str>,
    enable: Option<bool>,
) -> Result<(), AccessError> {
    super::edit(context, |config| {
        let factors = config.users.get_mut(user).ok_or_else(no_such_entry)?;
        let (text, flag) = factors.entry_mut(id).ok_or_else(no_such_entry)?;
        if let Some(description) = description {
            description.clone_into(text);
        }
        if let Some(enable) = enable {
            *flag = enable;
        }
        Ok(())
    })
}

/// Removes a factor. With the last one goes all that is known of the user's factors.
///
/// # Errors
/// There is none of that id.
pub fn remove(context: &Context, user: &UserId, id: &str) -> Result<(), AccessError> {
    super::edit(context, |config| {
        let factors = config.users.get_mut(user).ok_or_else(no_such_entry)?;
        if !factors.remove(id) {
            return Err(no_such_entry());
        }
        if factors.is_empty() {
            config.users.remove(user);
            attempts::forget(context, user);
            set_keys(context, user, None)?;
        }
        Ok(())
    })
}

/// Forgets all second factors of a user who is being deleted.
///
/// # Errors
/// The file cannot be stored.
pub(crate) fn forget_user(context: &Context, config: &mut TfaConfig, user: &UserId) -> Result<(), AccessError> {
    if config.users.remove(user).is_some() {
        super::write(&Cfs::new(context), config)?;
    }
    attempts::forget(context, user);
    Ok(())
}

/// Lifts a user's locks and sets its counters back; whether there was a lock.
///
/// # Errors
/// The user has no second factors.
pub fn unlock(context: &Context, user: &UserId) -> Result<bool, AccessError> {
    super::edit(context, |config| {
        let factors = config
            .users
            .get_mut(user)
            .ok_or_else(|| AccessError::plain("no such user"))?;
        let was_locked = factors.locks() != super::Locks::default();
        factors.totp_locked = false;
        factors.tfa_locked_until = None;
        let mut attempts = Attempts::open(context, user)?;
        attempts.record.totp_failures = 0;
        attempts.record.tfa_failures = 0;
        attempts.save()?;
        Ok(was_locked)
    })
}

/// The kinds of factors that a user has, as `GET /access/users/{userid}/tfa` tells them: that of its realm, and its own.
pub fn kinds(factors: Option<&Factors>, realm: &Realm) -> (Option<String>, Vec<&'static str>) {
    let mut kinds: Vec<&'static str> = Vec::new();
    for shown in factors.map(Factors::shown).unwrap_or_default() {
        if !kinds.contains(&shown.kind.as_str()) {
            kinds.push(shown.kind.as_str());
        }
    }
    (realm.required_factor().map(str::to_owned), kinds)
}
