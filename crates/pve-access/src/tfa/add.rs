//! Adding second factors (reference 02 §8.6, §8.8). Whether the caller is who it says is asked before
//! ([`crate::AccessControl::reauthenticate`]).

use pve_cfs::{Cfs, Datacenter};
use pve_schema::Context;
use pve_schema::ids::UserId;

use super::attempts::{self, Attempts};
use super::change::set_keys;
use super::config::{Entry, Factors, TotpEntry};
use super::totp::Totp;
use super::verify::Subject;
use super::webauthn::{KeyError, RelyingParty, SecurityKey, WebauthnEntry};
use super::yubico::{Otp, Service};
use super::{IN_TFA_CFG, TfaConfig, old_keys, recovery};
use crate::error::AccessError;

/// Most bytes of an `otpauth` URI: ten times what devices make.
const MAX_URI: usize = 1024;
/// Most factors of one kind that a user has; all together have [`super::MAX_FACTORS`] bytes.
const MAX_ENTRIES: usize = 32;
/// Most security keys of one user: all their names, each of up to 1023 bytes, go through a log-in, whose body has 32 KiB.
const MAX_KEYS: usize = 8;
/// Most bytes of a security key in the file; RSA keys of 4096 bits have half of it.
const MAX_KEY: usize = 2048;

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
    /// The host that the request was sent to.
    pub host: Option<&'a str>,
}

/// A factor that was added, or is half-way.
pub enum Added {
    /// An entry of this id.
    Entry(String),
    /// Recovery keys, shown this once.
    Recovery(Vec<String>),
    /// What the device is to be asked, as JSON; its answer comes with a second call.
    Challenge(String),
}

/// Adds a second factor, or begins to.
///
/// # Errors
/// A parameter is missing or too many, what the device says is wrong, or the kind cannot be added (501 for U2F).
pub fn add(context: &Context, subject: Subject<'_>, new: NewFactor<'_>) -> Result<Added, AccessError> {
    enable(context, subject)?;
    match (new.kind, new.challenge) {
        ("totp", _) => add_totp(context, subject.id, new).map(Added::Entry),
        ("recovery", _) => add_recovery(context, subject.id, new).map(Added::Recovery),
        ("webauthn", None) => ask_for_key(context, subject.id, new).map(Added::Challenge),
        ("webauthn", Some(challenge)) => add_key(context, subject.id, challenge, new).map(Added::Entry),
        ("yubico", _) => add_yubico(context, subject, new).map(Added::Entry),
        (other, _) => Err(refuse(context, other)?),
    }
}

/// Marks the user as one with factors in `tfa.cfg`, where its keys of old go too. That stays even if nothing is added.
fn enable(context: &Context, subject: Subject<'_>) -> Result<(), AccessError> {
    let Subject { id, user, realm } = subject;
    let keys = user.keys.as_deref().unwrap_or_default();
    if keys == IN_TFA_CFG {
        return Ok(());
    }
    super::edit_of(context, id, |config| {
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

fn description<'a>(new: NewFactor<'a>) -> Result<&'a str, AccessError> {
    new.description
        .ok_or_else(|| AccessError::plain("'description' is required for new entries"))
}

/// Puts an entry among those of its kind that the user has, unless that are too many; its id.
fn push<T>(
    config: &mut TfaConfig,
    id: &UserId,
    (kind, most): (&str, usize),
    list: impl FnOnce(&mut Factors) -> &mut Vec<Entry<T>>,
    entry: Entry<T>,
) -> Result<String, AccessError> {
    let entry_id = entry.id.clone();
    let entries = list(config.users.entry(id.clone()).or_default());
    if entries.len() >= most {
        return Err(too_many(id, kind, most));
    }
    entries.push(entry);
    Ok(entry_id)
}

fn too_many(id: &UserId, kind: &str, most: usize) -> AccessError {
    AccessError::plain(format!("'{id}' has {most} {kind} factors already - remove one first"))
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
    let device = TotpEntry {
        uri: totp.uri(),
        last_count: None,
    };
    let entry = Entry::new(description, context.now(), device);
    super::edit_of(context, id, |config| {
        push(config, id, ("TOTP", MAX_ENTRIES), |factors| &mut factors.totp, entry)
    })
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
    super::edit_of(context, id, |config| {
        let factors = config.users.entry(id.clone()).or_default();
        if factors.recovery.is_some() {
            return Err(AccessError::plain("user already has recovery keys"));
        }
        let (keys, recovery) = recovery::generate(context.now())?;
        factors.recovery = Some(recovery);
        Ok(keys)
    })
}

/// The first call for a security key: what the browser is to ask it.
fn ask_for_key(context: &Context, id: &UserId, new: NewFactor<'_>) -> Result<String, AccessError> {
    let description = description(new)?;
    let party = RelyingParty::of(context, new.host)?.ok_or(KeyError::Unconfigured)?;
    super::locked(context, |config| {
        let own = config.users.get(id).map(|factors| factors.webauthn.as_slice());
        let own = own.unwrap_or_default();
        if own.len() >= MAX_KEYS {
            return Err(too_many(id, "WebAuthn", MAX_KEYS));
        }
        let asked = party.ask_to_register(id, own, description, context.now())?;
        let mut attempts = Attempts::open(context, id)?;
        attempts::push(&mut attempts.record.webauthn_registrations, asked.pending);
        attempts.save()?;
        Ok(asked.options.to_string())
    })
}

/// The second call for a security key: what it said.
fn add_key(context: &Context, id: &UserId, challenge: &str, new: NewFactor<'_>) -> Result<String, AccessError> {
    let answer = new
        .value
        .ok_or_else(|| AccessError::plain("missing 'value' parameter (webauthn challenge response missing)"))?;
    let party = RelyingParty::of(context, new.host)?.ok_or(KeyError::Unconfigured)?;
    super::edit_of(context, id, |config| {
        let mut attempts = Attempts::open(context, id)?;
        let pending = attempts::take(&mut attempts.record.webauthn_registrations, challenge);
        let pending = pending.ok_or(KeyError::NoChallenge)?;
        attempts.save()?;
        let key = party.register(&pending, answer, |wanted| is_known(config, wanted))?;
        let entry = WebauthnEntry::Key(Box::new(key));
        let size = serde_json::to_string(&entry).map_or(usize::MAX, |text| text.len());
        if size > MAX_KEY {
            return Err(AccessError::plain(format!("the key takes more than {MAX_KEY} bytes")));
        }
        let entry = Entry::new(&pending.description, context.now(), entry);
        push(
            config,
            id,
            ("WebAuthn", MAX_KEYS),
            |factors| &mut factors.webauthn,
            entry,
        )
    })
}

/// Whether some user has a key of that name.
fn is_known(config: &TfaConfig, wanted: &[u8]) -> bool {
    let entries = config.users.values().flat_map(|factors| &factors.webauthn);
    let mut keys = entries.filter_map(|entry| entry.entry.key());
    keys.any(|SecurityKey { cred_id, .. }| cred_id.as_slice() == wanted)
}

fn add_yubico(context: &Context, subject: Subject<'_>, new: NewFactor<'_>) -> Result<String, AccessError> {
    let id = subject.id;
    let service = Service::of(context, id.realm(), subject.realm)?;
    let description = description(new)?;
    let value = new
        .value
        .ok_or_else(|| AccessError::plain("missing 'value' parameter (yubico OTP missing)"))?;
    let otp = Otp::parse(value)?;
    service.check(&otp)?;
    let entry = Entry::new(description, context.now(), otp.key_id().to_owned());
    super::edit_of(context, id, |config| {
        push(
            config,
            id,
            ("Yubico", MAX_ENTRIES),
            |factors| &mut factors.yubico,
            entry,
        )
    })
}

/// Why a factor of a kind that cannot be verified is not added: it would lock its user out.
fn refuse(context: &Context, kind: &str) -> Result<AccessError, AccessError> {
    let datacenter = Datacenter::read(&Cfs::new(context))?;
    if kind == "u2f" && !datacenter.properties("u2f").has("appid") {
        return Ok(AccessError::plain("no u2f configuration available"));
    }
    Ok(AccessError::NotBuilt(format!("second factors of type '{kind}'")))
}
