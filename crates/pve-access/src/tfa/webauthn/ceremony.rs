//! Registering a key, and recognising it again.

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use webauthn_rs_core::proto::{
    AuthenticationState, CredentialID, PublicKeyCredential, RegisterPublicKeyCredential, RegistrationState,
    UserVerificationPolicy,
};

use pve_schema::ids::UserId;

use super::super::attempts::Pending;
use super::super::config::Entry;
use super::key::{self, SecurityKey, WebauthnEntry};
use super::{KeyError, RelyingParty};

/// Presence of a person is enough.
const POLICY: UserVerificationPolicy = UserVerificationPolicy::Discouraged_DO_NOT_USE;

/// Most bytes of a key's name (WebAuthn level 3, §4).
const MAX_NAME: usize = 1023;

/// What a browser is asked, and what must be kept of that until it answers.
pub struct Asked {
    /// The options, as browsers take them: binary values as base64url.
    pub options: Value,
    /// To be kept.
    pub pending: Pending,
}

impl Asked {
    fn new(
        options: impl serde::Serialize,
        state: impl serde::Serialize,
        description: &str,
        now: i64,
    ) -> Result<Self, KeyError> {
        let options = serde_json::to_value(options).map_err(|error| KeyError::State(error.into()))?;
        let challenge = challenge_in(&options).ok_or(KeyError::NoChallenge)?.to_owned();
        let state = serde_json::to_value(state).map_err(|error| KeyError::State(error.into()))?;
        let description = description.to_owned();
        Ok(Self {
            options,
            pending: Pending {
                challenge,
                description,
                created: now,
                state,
            },
        })
    }
}

/// The text that an answer must name.
pub(in crate::tfa) fn challenge_in(options: &Value) -> Option<&str> {
    options.pointer("/publicKey/challenge")?.as_str()
}

/// An answer while logging in: what the browser says, and the challenge that it answers.
#[derive(Deserialize)]
pub struct Assertion {
    /// What it answers, by its own account.
    pub challenge: String,
    #[serde(flatten)]
    credential: PublicKeyCredential,
}

impl Assertion {
    /// Reads what a client sent.
    ///
    /// # Errors
    /// It is not of the form of such answers.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        serde_json::from_str(text).map_err(|error| KeyError::Response(error.into()))
    }
}

impl RelyingParty {
    /// Asks for a new key. The user's own are named, so that the browser does not offer them.
    ///
    /// # Errors
    /// None that a user leads to.
    pub fn ask_to_register(
        &self,
        user: &UserId,
        own: &[Entry<WebauthnEntry>],
        description: &str,
        now: i64,
    ) -> Result<Asked, KeyError> {
        // A name of at most 64 bytes that keys keep: not the user's own, which may be longer.
        let handle = Sha256::digest(user.as_str());
        let known: Vec<CredentialID> = own
            .iter()
            .filter_map(|entry| Some(entry.entry.key()?.cred_id.clone()))
            .collect();
        let builder = self
            .0
            .new_challenge_register_builder(&handle, user.as_str(), user.as_str())?
            .user_verification_policy(POLICY)
            .exclude_credentials(Some(known));
        let (options, state) = self.0.generate_challenge_register(builder)?;
        let mut asked = Asked::new(options, state, description, now)?;
        // Which keys are known is looked up when the answer comes.
        if let Some(known) = asked.pending.state.get_mut("exclude_credentials") {
            *known = Value::Array(Vec::new());
        }
        Ok(asked)
    }

    /// The key that answered; `is_known` says whether some user has it.
    ///
    /// # Errors
    /// The answer is none, not to this question, not from a page of ours, or the key is known.
    pub fn register(
        &self,
        pending: &Pending,
        answer: &str,
        is_known: impl Fn(&[u8]) -> bool,
    ) -> Result<SecurityKey, KeyError> {
        let answer: RegisterPublicKeyCredential =
            serde_json::from_str(answer).map_err(|error| KeyError::Response(error.into()))?;
        if is_known(answer.raw_id.as_ref()) {
            return Err(KeyError::Known);
        }
        let state = RegistrationState::deserialize(&pending.state).map_err(|error| KeyError::State(error.into()))?;
        let credential = self.0.register_credential(&answer, &state, None)?;
        if credential.cred_id.len() > MAX_NAME {
            return Err(KeyError::LongName);
        }
        // The name above is the browser's word; this one the key's.
        if is_known(credential.cred_id.as_ref()) {
            return Err(KeyError::Known);
        }
        Ok(credential.into())
    }

    /// Asks for one of a user's keys; `None` if none of them counts.
    ///
    /// # Errors
    /// None that a user leads to.
    pub fn ask_to_authenticate(&self, keys: &[Entry<WebauthnEntry>], now: i64) -> Result<Option<Asked>, KeyError> {
        let credentials: Vec<_> = key::enabled(keys).map(SecurityKey::credential).collect();
        if credentials.is_empty() {
            return Ok(None);
        }
        let builder = self.0.new_challenge_authenticate_builder(credentials, Some(POLICY))?;
        let (options, mut state) = self.0.generate_challenge_authenticate(builder)?;
        // Which keys count is looked up when the answer comes.
        state.set_allowed_credentials(Vec::new());
        Asked::new(options, state, "", now).map(Some)
    }

    /// Whether one of the keys gave that answer; what it says of itself is written down.
    ///
    /// # Errors
    /// The answer is not one of a key that counts to this question, or not from a page of ours.
    pub fn authenticate(
        &self,
        keys: &mut [Entry<WebauthnEntry>],
        pending: &Pending,
        answer: &Assertion,
    ) -> Result<(), KeyError> {
        let answer = &answer.credential;
        let can_be_backed_up = backup_eligible(answer);
        let credentials = key::enabled(keys).map(|key| {
            let mut credential = key.credential();
            credential.backup_eligible = can_be_backed_up;
            credential
        });
        let mut state =
            AuthenticationState::deserialize(&pending.state).map_err(|error| KeyError::State(error.into()))?;
        state.set_allowed_credentials(credentials.collect());
        let result = self.0.authenticate_credential(answer, &state)?;
        for entry in keys {
            match &mut entry.entry {
                WebauthnEntry::Key(key) if key.cred_id == *result.cred_id() => {
                    key.counter = result.counter();
                    key.backup_eligible = result.backup_eligible();
                    key.backup_state = result.backup_state();
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What the key says of itself now, which its signature covers: upstream does not hold it to what it said first.
fn backup_eligible(answer: &PublicKeyCredential) -> bool {
    /// Behind the 32 bytes that stand for the relying party (WebAuthn level 3, §6.1).
    const FLAGS: usize = 32;
    const BACKUP_ELIGIBLE: u8 = 1 << 3;
    let data: &[u8] = answer.response.authenticator_data.as_ref();
    data.get(FLAGS).is_some_and(|flags| flags & BACKUP_ELIGIBLE != 0)
}
