//! Whether a user has a second factor (reference 02 §5.4, §8.1).
//!
//! Verifying one is not here yet: who has one is refused, never let in without it.

use std::collections::BTreeMap;

use pve_cfs::Cfs;
use pve_schema::ids::UserId;
use serde_json::Value;

use crate::domains::Realm;
use crate::error::AccessError;
use crate::store::TFA_CFG;
use crate::user_config::User;

/// The word in a user's KEYS that says: look into `tfa.cfg`.
const IN_TFA_CFG: &str = "x";

/// Whether a log-in with the right password still needs a second factor.
///
/// # Errors
/// `tfa.cfg` cannot be read or understood: nobody gets in past it.
pub fn is_needed(cfs: &Cfs, id: &UserId, user: &User, realm: &Realm) -> Result<bool, AccessError> {
    if realm.required_factor().is_some() {
        return Ok(true);
    }
    let content = cfs.read_text(TFA_CFG)?.unwrap_or_default();
    match entry_of(&content, id)? {
        Some(has_factor) => Ok(has_factor),
        // The mark without the entry is a contradiction: the safe reading counts.
        None => Ok(user
            .keys
            .as_deref()
            .is_some_and(|keys| keys == IN_TFA_CFG || keys.starts_with("x!"))),
    }
}

/// Whether the user's entry in the content of `tfa.cfg` holds a factor that is enabled; `None` for no entry.
///
/// # Errors
/// It is neither JSON nor of the older format.
pub fn entry_of(content: &str, id: &UserId) -> Result<Option<bool>, AccessError> {
    if content.trim().is_empty() {
        return Ok(None);
    }
    let Ok(json) = serde_json::from_str::<Value>(content) else {
        return legacy_entry_of(content, id);
    };
    let Some(entry) = json.get("users").and_then(|users| users.get(id.as_str())) else {
        return Ok(None);
    };
    let is_enabled = |factor: &Value| factor.get("enable") != Some(&Value::Bool(false));
    let has_factor = ["totp", "u2f", "webauthn", "yubico"]
        .into_iter()
        .filter_map(|kind| entry.get(kind)?.as_array())
        .any(|factors| factors.iter().any(is_enabled));
    let has_recovery = entry.get("recovery").is_some_and(|recovery| !recovery.is_null());
    Ok(Some(has_factor || has_recovery))
}

/// The same for the format before JSON: lines `USERID:TYPE:BASE64`.
fn legacy_entry_of(content: &str, id: &UserId) -> Result<Option<bool>, AccessError> {
    let lines = content
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut found = None;
    for line in lines {
        let fields: Vec<&str> = line.split(':').collect();
        let [user, _, _] = fields[..] else {
            return Err(AccessError::plain(
                "failed to parse TFA file, neither old style nor valid json",
            ));
        };
        if user == id.as_str() {
            found = Some(true);
        }
    }
    Ok(found)
}

/// Removes a user's second factors; `true` if there were any.
///
/// # Errors
/// The file cannot be understood or stored.
pub fn remove_user(cfs: &Cfs, id: &UserId) -> Result<bool, AccessError> {
    let content = cfs.read_text(TFA_CFG)?.unwrap_or_default();
    if content.trim().is_empty() {
        return Ok(false);
    }
    let new = match serde_json::from_str::<Value>(&content) {
        Ok(mut json) => {
            let removed = json
                .get_mut("users")
                .and_then(Value::as_object_mut)
                .and_then(|users| users.remove(id.as_str()));
            if removed.is_none() {
                return Ok(false);
            }
            json.to_string()
        }
        Err(_) => {
            if legacy_entry_of(&content, id)?.is_none() {
                return Ok(false);
            }
            let lines = content
                .lines()
                .filter(|line| line.split(':').next() != Some(id.as_str()));
            lines.map(|line| format!("{line}\n")).collect()
        }
    };
    cfs.write(TFA_CFG, new.as_bytes())?;
    Ok(true)
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
pub fn locks(cfs: &Cfs, now: i64) -> Result<BTreeMap<String, Locks>, AccessError> {
    let content = cfs.read_text(TFA_CFG)?.unwrap_or_default();
    let json: Value = serde_json::from_str(&content).unwrap_or_default();
    let users = json.get("users").and_then(Value::as_object);
    let locks = users.into_iter().flatten().map(|(user, entry)| {
        let until = entry.get("tfa-locked-until").and_then(Value::as_i64);
        let locks = Locks {
            totp_locked: entry.get("totp-locked") == Some(&Value::Bool(true)),
            locked_until: until.filter(|until| *until > now),
        };
        (user.clone(), locks)
    });
    Ok(locks.filter(|(_, locks)| *locks != Locks::default()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_enabled_factors_and_recovery_keys_count() {
        let entry = |content: &str| entry_of(content, &"a@pve".parse().unwrap()).map_err(|error| error.to_string());
        let json = |user: &str| format!("{{\"users\":{{\"a@pve\":{user}}}}}");
        assert_eq!(entry(""), Ok(None));
        assert_eq!(entry("{\"users\":{\"b@pve\":{\"totp\":[{}]}}}"), Ok(None));
        assert_eq!(entry(&json("{}")), Ok(Some(false)));
        assert_eq!(
            entry(&json("{\"totp\":[{\"id\":\"1\",\"enable\":false}]}")),
            Ok(Some(false))
        );
        assert_eq!(entry(&json("{\"totp\":[{\"id\":\"1\"}]}")), Ok(Some(true)));
        assert_eq!(entry(&json("{\"webauthn\":[{\"enable\":true}]}")), Ok(Some(true)));
        assert_eq!(entry(&json("{\"recovery\":{\"entries\":[]}}")), Ok(Some(true)));
        assert_eq!(entry("# old\nb@pve:oath:e30=\na@pve:oath:e30=\n"), Ok(Some(true)));
        assert_eq!(entry("b@pve:oath:e30=\n"), Ok(None));
        assert_eq!(
            entry("{broken"),
            Err("failed to parse TFA file, neither old style nor valid json".to_owned())
        );
    }
}
