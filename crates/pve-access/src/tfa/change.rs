//! Changing and removing second factors (reference 02 §8.6, §8.8). Whether the caller is who it says is asked before
//! ([`crate::AccessControl::reauthenticate`]).

use pve_cfs::Cfs;
use pve_schema::Context;
use pve_schema::ids::UserId;

use super::TfaConfig;
use super::attempts;
use super::config::Factors;
use crate::domains::Realm;
use crate::edit;
use crate::error::AccessError;

/// What the user's record says of its factors.
///
/// # Errors
/// The file cannot be changed.
pub(super) fn set_keys(context: &Context, id: &UserId, keys: Option<&str>) -> Result<(), AccessError> {
    edit::edit(context, "enabling TFA for the user failed", |config| {
        if let Some(user) = config.users.get_mut(id) {
            user.keys = keys.map(str::to_owned);
        }
        Ok(())
    })
}

fn no_such_entry() -> AccessError {
    AccessError::plain("no such entry")
}

/// Changes a factor's description, or whether it counts.
///
/// # Errors
/// There is none of that id; the recovery keys have neither; or the description is too long ([`MAX_FACTORS`]).
///
/// [`MAX_FACTORS`]: super::MAX_FACTORS
pub fn update(
    context: &Context,
    user: &UserId,
    id: &str,
    description: Option<&str>,
    enable: Option<bool>,
) -> Result<(), AccessError> {
    super::edit_of(context, user, |config| {
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

/// Removes all that lets a user answer for a second factor, in one change: its factors, its locks, and keys of old in its
/// record.
///
/// # Errors
/// There is no such user, or it has none of them.
pub fn remove_all(context: &Context, user: &UserId) -> Result<(), AccessError> {
    super::edit(context, |config| {
        let had_factors = config.users.remove(user).is_some();
        let users = edit::read(&Cfs::new(context))?.users;
        let has_keys = users.get(user).map(|record| record.keys.is_some());
        match has_keys {
            None if !had_factors => return Err(AccessError::NoSuchUser(user.to_string())),
            Some(false) if !had_factors => {
                return Err(AccessError::plain(format!("user '{user}' has no second factors")));
            }
            Some(true) => set_keys(context, user, None)?,
            // Factors that a deleted user left can go, too.
            _ => {}
        }
        attempts::forget(context, user);
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
        attempts::reset(context, user)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const FACTORS: &str = r#"{"users":{
        "alice@pve":{
            "totp":[{"id":"1","created":1,"entry":"otpauth://totp/a?secret=GEZDGNBVGY3TQOJQ"}],
            "yubico":[{"id":"2","created":1,"entry":"ccccccbchvth"}]},
        "gone@pve":{"yubico":[{"id":"3","created":1,"entry":"ccccccbchvth"}]},
        "dora@pve":{"yubico":[{"id":"4","created":1,"entry":"ccccccbchvth"}]}}}"#;

    #[test]
    fn all_factors_of_a_user_go_at_once_and_keys_of_old_with_them() {
        let dir = tempfile::tempdir().unwrap();
        let context = pve_testing::context(dir.path(), "pve1");
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        let users = "user:alice@pve:1:0:::::x:\nuser:bob@pve:1:0:::::GEZDGNBVGY3TQOJQ:\nuser:carl@pve:1:0::::::\n\
            user:dora@pve:1:0:::::x:\n";
        cfs.write(crate::store::USER_CFG, users.as_bytes()).unwrap();
        cfs.write(crate::store::TFA_CFG, FACTORS.as_bytes()).unwrap();
        let remove = |id: &str| remove_all(&context, &id.parse().unwrap()).map_err(|error| error.to_string());
        for id in ["alice@pve", "bob@pve", "gone@pve"] {
            assert_eq!(remove(id), Ok(()), "{id}");
        }
        let none = |id: &str| Err(format!("no such user ('{id}')"));
        for (id, expected) in [
            ("alice@pve", Err("user 'alice@pve' has no second factors".to_owned())),
            ("carl@pve", Err("user 'carl@pve' has no second factors".to_owned())),
            ("gone@pve", none("gone@pve")),
            ("nobody@pve", none("nobody@pve")),
        ] {
            assert_eq!(remove(id), expected, "{id}");
        }
        let left: Vec<_> = crate::tfa::load(&context).unwrap().users.into_keys().collect();
        assert_eq!(left, ["dora@pve".parse::<UserId>().unwrap()]);
        let records = edit::read(&cfs).unwrap().users;
        let keys = |id: &str| records[&id.parse::<UserId>().unwrap()].keys.clone();
        assert_eq!((keys("alice@pve"), keys("bob@pve")), (None, None));
        assert_eq!(keys("dora@pve").as_deref(), Some("x"));
    }
}
