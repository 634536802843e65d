//! What a user is asked for (reference 02 §8.1).

use pve_schema::Context;
use pve_schema::ids::UserId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::attempts::{self, Attempts, Pending};
use super::config::{Entry, Factors};
use super::verify::Subject;
use super::webauthn::{RelyingParty, challenge_in};
use super::{IN_TFA_CFG, TfaConfig, old_keys};
use crate::domains::Realm;
use crate::error::AccessError;
use crate::user_config::User;

/// What a user is asked for, as a half ticket carries it. It may be empty: then a factor is asked for that nobody here
/// can verify.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Challenge {
    /// A code by time.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub totp: bool,
    /// A recovery key: the places of those that are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Vec<usize>>,
    /// A one-time password of a Yubico key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub yubico: bool,
    /// A security key: what the browser is to ask it. See [`Challenge::ask_keys`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webauthn: Option<Value>,
}

/// The factor that a realm demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Required {
    Totp,
    Yubico,
}

impl Required {
    /// What a realm demands; a word that nobody knows is a demand that nobody can meet.
    pub(super) fn of(realm: &Realm) -> Result<Option<Self>, AccessError> {
        match realm.required_factor() {
            None => Ok(None),
            Some("oath") => Ok(Some(Self::Totp)),
            Some("yubico") => Ok(Some(Self::Yubico)),
            Some(other) => Err(AccessError::plain(format!(
                "realm requires unknown second factor '{other}'"
            ))),
        }
    }

    /// The word of the API for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::Yubico => "yubico",
        }
    }
}

fn any_enabled<T>(entries: &[Entry<T>]) -> bool {
    entries.iter().any(|entry| entry.enable)
}

impl Challenge {
    /// What a user is asked for after the right password; `None` if that is enough.
    ///
    /// # Errors
    /// The realm demands a factor and the user has none.
    pub fn of(config: &TfaConfig, id: &UserId, user: &User, realm: &Realm) -> Result<Option<Self>, AccessError> {
        let required = Required::of(realm)?;
        let factors = factors_of(config, id, user, realm);
        let challenge = factors.as_ref().and_then(Self::of_factors);
        match (required, challenge) {
            (Some(_), None) => Err(AccessError::plain("missing required 2nd keys")),
            (Some(Required::Yubico), Some(challenge)) => Ok(Some(Self {
                totp: false,
                yubico: true,
                ..challenge
            })),
            (_, challenge) => Ok(challenge),
        }
    }

    fn of_factors(factors: &Factors) -> Option<Self> {
        let challenge = Self {
            totp: any_enabled(&factors.totp),
            recovery: factors.recovery.as_ref().map(super::config::Recovery::available),
            yubico: any_enabled(&factors.yubico),
            webauthn: None,
        };
        // What cannot be asked for must not be passed by either.
        let others = any_enabled(&factors.u2f) || any_enabled(&factors.webauthn);
        (others || challenge != Self::default()).then_some(challenge)
    }

    /// Adds a question to the user's security keys, unless the realm demands another factor; and writes down that their
    /// answer is waited for. Without settings for keys, or where that cannot be written down, nothing is added. `host` is
    /// where the request was sent to.
    ///
    /// # Errors
    /// The factors or the settings cannot be read.
    pub fn ask_keys(self, context: &Context, subject: Subject<'_>, host: Option<&str>) -> Result<Self, AccessError> {
        let Subject { id, user, realm } = subject;
        let factors = factors_of(&super::load(context)?, id, user, realm).unwrap_or_default();
        if Required::of(realm)?.is_some() || !any_enabled(&factors.webauthn) {
            return Ok(self);
        }
        let asked = match RelyingParty::of(context, host)? {
            Some(party) => party.ask_to_authenticate(&factors.webauthn, context.now()),
            None => Ok(None),
        };
        let asked = asked.unwrap_or_else(|error| {
            log::warn!("security keys of '{id}' cannot be asked: {error}");
            None
        });
        let Some(asked) = asked else { return Ok(self) };
        if let Err(error) = remember(context, id, asked.pending) {
            // There may be other factors.
            log::warn!("security keys of '{id}' are not asked: {error}");
            return Ok(self);
        }
        Ok(Self {
            webauthn: Some(asked.options),
            ..self
        })
    }

    /// Whether it is this that security keys were asked.
    pub(super) fn asked_keys(&self, challenge: &str) -> bool {
        self.webauthn.as_ref().and_then(challenge_in) == Some(challenge)
    }

    /// The challenge as a half ticket carries it: no blanks.
    ///
    /// # Errors
    /// None that a challenge leads to.
    pub fn to_json(&self) -> Result<String, AccessError> {
        serde_json::to_string(self).map_err(|error| AccessError::plain(error.to_string()))
    }

    /// Reads what a half ticket carries.
    ///
    /// # Errors
    /// It is no challenge.
    pub fn parse(text: &str) -> Result<Self, AccessError> {
        serde_json::from_str(text).map_err(|_| AccessError::plain("bad ticket"))
    }
}

/// Writes down that an answer is waited for.
fn remember(context: &Context, id: &UserId, pending: Pending) -> Result<(), AccessError> {
    let mut attempts = Attempts::open(context, id)?;
    attempts::push(&mut attempts.record.webauthn_auths, pending);
    attempts.save()
}

/// A user's factors: those of `tfa.cfg`, else keys of old in its record, which count where the realm demands them.
pub(super) fn factors_of(config: &TfaConfig, id: &UserId, user: &User, realm: &Realm) -> Option<Factors> {
    if let Some(factors) = config.users.get(id).filter(|factors| !factors.is_empty()) {
        return Some(factors.clone());
    }
    let keys = user.keys.as_deref().filter(|keys| *keys != IN_TFA_CFG)?;
    Some(old_keys::of_user(keys, id, realm)).filter(|factors| !factors.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domains::Domains;

    const URI: &str = "otpauth://totp/a?secret=GEZDGNBVGY3TQOJQ";

    /// The challenge as JSON, `none`, or the refusal.
    fn challenge(factors: &str, keys: &str, tfa: &str) -> String {
        let tfa = if tfa.is_empty() {
            String::new()
        } else {
            format!("\ttfa {tfa}\n")
        };
        let domains = Domains::parse(format!("pve: pve\n\tcomment x\n{tfa}\n").as_bytes());
        let config = TfaConfig::parse(&format!("{{\"users\":{{\"a@pve\":{factors}}}}}"), 0).unwrap();
        let user = User {
            keys: Some(keys.to_owned()).filter(|keys| !keys.is_empty()),
            ..User::default()
        };
        match Challenge::of(&config, &"a@pve".parse().unwrap(), &user, domains.get("pve").unwrap()) {
            Ok(Some(challenge)) => challenge.to_json().unwrap(),
            Ok(None) => "none".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    /// Reference 02 §8.1, §8.6.
    #[test]
    fn a_challenge_names_what_there_is() {
        let totp = |enable: bool| {
            format!("{{\"totp\":[{{\"id\":\"1\",\"created\":1,\"enable\":{enable},\"entry\":\"{URI}\"}}]}}")
        };
        let both = format!(
            "{{\"totp\":[{{\"id\":\"1\",\"created\":1,\"entry\":\"{URI}\"}}],\
             \"recovery\":{{\"secret\":\"s\",\"entries\":[\"00\",null,\"11\"],\"created\":1}}}}"
        );
        let used = r#"{"recovery":{"secret":"s","entries":[null],"created":1}}"#;
        let passkey = r#"{"webauthn":[{"id":"1","created":1,"entry":{}}]}"#;
        let yubico = r#"{"yubico":[{"id":"1","created":1,"entry":"cccc"}]}"#;
        let missing = "missing required 2nd keys";
        for (factors, keys, tfa, expected) in [
            ("{}", "", "", "none"),
            ("{}", "x", "", "none"),
            (&totp(true), "x", "", r#"{"totp":true}"#),
            (&totp(true), "", "", r#"{"totp":true}"#),
            (&totp(false), "x", "", "none"),
            (&both, "x", "", r#"{"totp":true,"recovery":[0,2]}"#),
            (used, "x", "", r#"{"recovery":[]}"#),
            (passkey, "x", "", "{}"),
            (yubico, "x", "", r#"{"yubico":true}"#),
            ("{}", "", "type=oath", missing),
            ("{}", "x", "type=oath", missing),
            (&totp(false), "x", "type=oath", missing),
            (&totp(true), "x", "type=oath", r#"{"totp":true}"#),
            (&both, "x", "type=yubico", r#"{"recovery":[0,2],"yubico":true}"#),
            ("{}", "", "type=magic", "realm requires unknown second factor 'magic'"),
            // Keys of old count where the realm demands such.
            ("{}", "GEZDGNBVGY3TQOJQ", "", "none"),
            ("{}", "GEZDGNBVGY3TQOJQ", "type=oath", r#"{"totp":true}"#),
            ("{}", "not!a!key", "type=oath", missing),
            ("{}", "ccccccbchvth", "type=yubico,id=1,key=a", r#"{"yubico":true}"#),
        ] {
            assert_eq!(challenge(factors, keys, tfa), expected, "{factors} {keys} {tfa}");
        }
    }
}
