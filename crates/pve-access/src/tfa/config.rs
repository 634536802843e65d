//! `priv/tfa.cfg` as a value (reference 02 §5.4).
//!
//! What this version cannot verify is kept as the JSON that it was: entries of U2F, and those of WebAuthn in which there
//! is no key that it knows.

use std::collections::BTreeMap;

use pve_schema::ids::UserId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::webauthn::WebauthnEntry;
use super::{Locks, old_keys};
use crate::error::AccessError;

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TfaConfig {
    /// User → its factors.
    pub users: BTreeMap<UserId, Factors>,
}

/// The second factors of one user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Factors {
    /// Codes by time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub totp: Vec<Entry<TotpEntry>>,
    /// Keys of a standard that browsers have dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub u2f: Vec<Entry<Value>>,
    /// Security keys and passkeys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webauthn: Vec<Entry<WebauthnEntry>>,
    /// Public ids of Yubico keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub yubico: Vec<Entry<String>>,
    /// Keys for the day when the others are lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// Too many wrong codes: no code is looked at until somebody lifts it.
    #[serde(default, deserialize_with = "null_is_false", skip_serializing_if = "is_false")]
    pub totp_locked: bool,
    /// Unix seconds until which no factor at all is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tfa_locked_until: Option<i64>,
}

/// One factor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry<T> {
    /// Unique among the user's.
    pub id: String,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Unix seconds.
    pub created: i64,
    /// Whether it counts.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub enable: bool,
    /// What makes it a factor.
    pub entry: T,
}

/// What a device for codes was set up with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "TotpForm", into = "TotpForm")]
pub struct TotpEntry {
    /// The `otpauth` URI.
    pub uri: String,
    /// The time step of the last code that was accepted; none is again, nor an older one.
    pub last_count: Option<u64>,
}

/// Plain before the first log-in, an object after it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum TotpForm {
    Plain(String),
    Used(UsedTotp),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UsedTotp {
    totp: String,
    #[serde(rename = "last-count")]
    last_count: u64,
}

impl From<TotpForm> for TotpEntry {
    fn from(form: TotpForm) -> Self {
        match form {
            TotpForm::Plain(uri) => Self { uri, last_count: None },
            TotpForm::Used(UsedTotp { totp, last_count }) => Self {
                uri: totp,
                last_count: Some(last_count),
            },
        }
    }
}

impl From<TotpEntry> for TotpForm {
    fn from(entry: TotpEntry) -> Self {
        match entry.last_count {
            None => Self::Plain(entry.uri),
            Some(last_count) => Self::Used(UsedTotp {
                totp: entry.uri,
                last_count,
            }),
        }
    }
}

/// Recovery keys: one each gets in once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// What the keys are hashed with.
    pub secret: String,
    /// The hashes; a used one is gone, its place stays.
    pub entries: Vec<Option<String>>,
    /// Unix seconds.
    pub created: i64,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_true(flag: &bool) -> bool {
    *flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

fn null_is_false<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The file's form. What another product keeps beside the users is not read.
#[derive(Serialize, Deserialize)]
struct File<T> {
    #[serde(default = "BTreeMap::new")]
    users: BTreeMap<String, T>,
}

impl TfaConfig {
    /// Reads the file's content: JSON, or lines as older releases wrote them. A lock whose time is over is left out.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str, now: i64) -> Result<Self, AccessError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let raw = match serde_json::from_str::<File<Factors>>(text) {
            Ok(file) => file.users,
            Err(error) => old_keys::parse_file(text).ok_or_else(|| {
                log::error!("priv/tfa.cfg: {error}");
                AccessError::plain("failed to parse TFA file, neither old style nor valid json")
            })?,
        };
        let users = raw.into_iter().filter_map(|(name, mut factors)| {
            factors.tfa_locked_until = factors.tfa_locked_until.filter(|until| *until > now);
            match name.parse() {
                Ok(user) => Some((user, factors)),
                Err(_) => {
                    log::warn!("user tfa config - ignore user '{name}' - invalid user name");
                    None
                }
            }
        });
        Ok(Self { users: users.collect() })
    }

    /// The file's content.
    ///
    /// # Errors
    /// It cannot be written as JSON, which no content leads to.
    pub fn print(&self) -> Result<String, AccessError> {
        let users = self.users.iter().map(|(user, factors)| (user.to_string(), factors));
        let file = File { users: users.collect() };
        serde_json::to_string(&file).map_err(|error| AccessError::plain(error.to_string()))
    }
}

impl TfaConfig {
    /// How many bytes of the file a user's factors take; 0 for none.
    ///
    /// # Errors
    /// As [`TfaConfig::print`].
    pub(super) fn size_of(&self, user: &UserId) -> Result<usize, AccessError> {
        let printed = self.users.get(user).map(serde_json::to_string).transpose();
        let printed = printed.map_err(|error| AccessError::plain(error.to_string()))?;
        Ok(printed.map_or(0, |text| text.len()))
    }
}

/// The kinds of factors, in the order in which they are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Recovery keys.
    Recovery,
    /// Codes by time.
    Totp,
    /// Security keys and passkeys.
    Webauthn,
    /// Keys of old.
    U2f,
    /// One-time passwords of Yubico keys.
    Yubico,
}

impl Kind {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recovery => "recovery",
            Self::Totp => "totp",
            Self::Webauthn => "webauthn",
            Self::U2f => "u2f",
            Self::Yubico => "yubico",
        }
    }
}

/// The one id under which the recovery keys are listed together.
pub const RECOVERY_ID: &str = "recovery";

/// A factor as the API shows it: nothing of it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// What it is.
    pub kind: Kind,
    /// Unique among the user's.
    pub id: String,
    /// Free text; empty for none.
    pub description: String,
    /// Unix seconds.
    pub created: i64,
    /// Whether it counts.
    pub enable: bool,
}

impl<T> Entry<T> {
    /// A new factor, which counts.
    pub(super) fn new(description: &str, created: i64, entry: T) -> Self {
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            description: description.to_owned(),
            created,
            enable: true,
            entry,
        }
    }
}

impl Factors {
    /// Whether there is nothing that could be asked for.
    pub fn is_empty(&self) -> bool {
        self.shown().is_empty()
    }

    /// What keeps the user from using them.
    pub fn locks(&self) -> Locks {
        Locks {
            totp_locked: self.totp_locked,
            locked_until: self.tfa_locked_until,
        }
    }

    /// All of them, in the order of the API.
    pub fn shown(&self) -> Vec<Shown> {
        fn rows<'a, T>(kind: Kind, entries: &'a [Entry<T>]) -> impl Iterator<Item = Shown> + use<'a, T> {
            entries.iter().map(move |entry| Shown {
                kind,
                id: entry.id.clone(),
                description: entry.description.clone(),
                created: entry.created,
                enable: entry.enable,
            })
        }
        let recovery = self.recovery.iter().map(|recovery| Shown {
            kind: Kind::Recovery,
            id: RECOVERY_ID.to_owned(),
            description: String::new(),
            created: recovery.created,
            enable: true,
        });
        recovery
            .chain(rows(Kind::Totp, &self.totp))
            .chain(rows(Kind::Webauthn, &self.webauthn))
            .chain(rows(Kind::U2f, &self.u2f))
            .chain(rows(Kind::Yubico, &self.yubico))
            .collect()
    }

    /// Description and flag of an entry, to be changed; the recovery keys have neither.
    pub(super) fn entry_mut(&mut self, id: &str) -> Option<(&mut String, &mut bool)> {
        fn find<'a, T>(entries: &'a mut [Entry<T>], id: &str) -> Option<(&'a mut String, &'a mut bool)> {
            let entry = entries.iter_mut().find(|entry| entry.id == id)?;
            Some((&mut entry.description, &mut entry.enable))
        }
        find(&mut self.totp, id)
            .or_else(|| find(&mut self.webauthn, id))
            .or_else(|| find(&mut self.u2f, id))
            .or_else(|| find(&mut self.yubico, id))
    }

    /// Removes an entry, or the recovery keys; `false` if there is none of that name.
    pub(super) fn remove(&mut self, id: &str) -> bool {
        fn remove<T>(entries: &mut Vec<Entry<T>>, id: &str) -> bool {
            let count = entries.len();
            entries.retain(|entry| entry.id != id);
            entries.len() != count
        }
        if id == RECOVERY_ID {
            return self.recovery.take().is_some();
        }
        remove(&mut self.totp, id)
            || remove(&mut self.webauthn, id)
            || remove(&mut self.u2f, id)
            || remove(&mut self.yubico, id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reference 02 §5.4, the example; its entries of U2F and WebAuthn are passed through.
    const EXAMPLE: &str = r#"{"users":{"alice@pve":{"totp":[{"id":"5f0c","description":"phone","created":1717000000,"entry":{"totp":"otpauth://totp/Lab:alice?secret=GEZDGNBVGY3TQOJQ&digits=6&algorithm=SHA1&period=30&issuer=Lab","last-count":57233333}},{"id":"2","description":"old","created":1717000001,"enable":false,"entry":"otpauth://totp/a?secret=GEZDGNBVGY3TQOJQ"}],"u2f":[{"id":"3","description":"key","created":1,"entry":{"key":{"keyHandle":"a-_","version":"U2F_V2"},"public-key":"YQ=="}}],"webauthn":[{"id":"4","description":"yk","created":1,"entry":{"backup_eligible":false,"counter":0,"cred":{"x":[1]},"cred_id":"abc"}}],"yubico":[{"id":"5","description":"y","created":1,"entry":"ccccccbchvth"}],"recovery":{"secret":"a1b2c3d4e5f60718","entries":["00",null,"ff"],"created":1717000002},"totp-locked":true,"tfa-locked-until":1717003600}}}"#;

    const NOW: i64 = 1_717_000_100;

    #[test]
    fn the_example_is_written_as_it_was_read() {
        let config = TfaConfig::parse(EXAMPLE, NOW).unwrap();
        assert_eq!(config.print().unwrap(), EXAMPLE);
        let factors = &config.users[&"alice@pve".parse().unwrap()];
        let shown: Vec<_> = factors
            .shown()
            .iter()
            .map(|row| (row.kind.as_str(), row.id.clone()))
            .collect();
        let expected = [
            ("recovery", "recovery"),
            ("totp", "5f0c"),
            ("totp", "2"),
            ("webauthn", "4"),
            ("u2f", "3"),
        ];
        assert_eq!(shown[..5], expected.map(|(kind, id)| (kind, id.to_owned())));
        assert_eq!(factors.totp[0].entry.last_count, Some(57_233_333));
        assert!(!factors.totp[1].enable && factors.totp_locked);
        let later = TfaConfig::parse(EXAMPLE, 1_717_003_600).unwrap();
        assert!(!later.print().unwrap().contains("locked-until"), "its time is over");
    }

    #[test]
    fn what_is_not_understood_is_refused_as_a_whole() {
        let text = "failed to parse TFA file, neither old style nor valid json";
        for bad in [
            "{broken",
            r#"{"users":{"a@pve":{"magic":[]}}}"#,
            r#"{"users":{"a@pve":{"totp":[{"id":"1","created":1,"entry":"u","more":1}]}}}"#,
            r#"{"users":{"a@pve":{"totp":[{"id":"1","created":1,"entry":{"totp":"u","last-count":1,"x":1}}]}}}"#,
            "a@pve:oath",
        ] {
            assert_eq!(TfaConfig::parse(bad, NOW).unwrap_err().to_string(), text, "{bad}");
        }
        for empty in ["", "\n", "{}", r#"{"users":{},"webauthn":{"rp":"x"},"u2f":null}"#] {
            assert_eq!(TfaConfig::parse(empty, NOW).unwrap(), TfaConfig::default(), "{empty}");
        }
        let purged = TfaConfig::parse(r#"{"users":{"nobody":{},"b@pve":{"totp-locked":null}}}"#, NOW).unwrap();
        assert_eq!(purged.print().unwrap(), r#"{"users":{"b@pve":{}}}"#);
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_is_stable(text in "[-{}\":,a-z@\\[\\]0-9 =\n]{0,120}") {
            if let Ok(config) = TfaConfig::parse(&text, NOW) {
                let printed = config.print().unwrap();
                prop_assert_eq!(TfaConfig::parse(&printed, NOW).unwrap(), config);
            }
        }
    }
}
