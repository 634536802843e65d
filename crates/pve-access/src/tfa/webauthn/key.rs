//! A security key as `tfa.cfg` holds it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use webauthn_rs_core::proto::{
    AttestationFormat, COSEKey, Credential, CredentialID, ParsedAttestation, RegisteredExtensions,
    UserVerificationPolicy,
};

use super::super::config::Entry;

/// What the file has of a key: the forms are those of the crate, which is what upstream writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityKey {
    /// What the key calls itself.
    pub cred_id: CredentialID,
    /// Its public key.
    pub cred: COSEKey,
    /// How often it was used; 0 from keys that do not count.
    pub counter: u32,
    /// Whether it could be at several places.
    #[serde(default)]
    pub backup_eligible: bool,
    /// Whether it is.
    #[serde(default)]
    pub backup_state: bool,
}

/// A key, or what was found in its place. The second opens nothing, and is kept and asked for as any other: one entry
/// that is not understood must neither let its user in nor keep everybody else out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WebauthnEntry {
    /// A key.
    Key(Box<SecurityKey>),
    /// What is no key that this release knows.
    Unknown(Value),
}

impl WebauthnEntry {
    /// The key, if it is one.
    pub fn key(&self) -> Option<&SecurityKey> {
        match self {
            Self::Key(key) => Some(key),
            Self::Unknown(_) => None,
        }
    }
}

/// The keys among the entries that count.
pub(super) fn enabled(entries: &[Entry<WebauthnEntry>]) -> impl Iterator<Item = &SecurityKey> {
    let enabled = entries.iter().filter(|entry| entry.enable);
    enabled.filter_map(|entry| entry.entry.key())
}

impl SecurityKey {
    /// The key as the crate wants it, with nothing demanded but somebody's presence.
    pub(super) fn credential(&self) -> Credential {
        Credential {
            cred_id: self.cred_id.clone(),
            cred: self.cred.clone(),
            counter: self.counter,
            transports: None,
            user_verified: false,
            backup_eligible: self.backup_eligible,
            backup_state: self.backup_state,
            registration_policy: UserVerificationPolicy::Discouraged_DO_NOT_USE,
            extensions: RegisteredExtensions::none(),
            attestation: ParsedAttestation::default(),
            attestation_format: AttestationFormat::None,
        }
    }
}

impl From<Credential> for SecurityKey {
    fn from(credential: Credential) -> Self {
        Self {
            cred_id: credential.cred_id,
            cred: credential.cred,
            counter: credential.counter,
            backup_eligible: credential.backup_eligible,
            backup_state: credential.backup_state,
        }
    }
}
