//! Security keys and passkeys (WebAuthn, reference 02 §5.4, §8.4): the two ceremonies, over `webauthn-rs-core`.
//!
//! ```text
//! register:      options ─▶ browser ─▶ answer ─▶ entry in tfa.cfg
//! authenticate:  options in a half ticket ─▶ browser ─▶ answer ─▶ counter of the entry
//! ```
//!
//! What was asked is kept beside the counters of wrong answers ([`super::attempts`]), for [`super::attempts::LIFETIME`]
//! and for one answer. As upstream, keys are asked for the presence of a person, not for who it is: the password says
//! that. Where the rules of the crate are stricter than upstream's (a key that turns into one that is backed up) they
//! are not applied.
//!
//! Not here: who may add a key, locks and counters of wrong answers.

mod ceremony;
mod key;
mod settings;

pub(super) use ceremony::challenge_in;
pub use ceremony::{Asked, Assertion};
pub use key::{SecurityKey, WebauthnEntry};
pub use settings::RelyingParty;

use webauthn_rs_core::error::WebauthnError;

use crate::error::JsonFault;

/// What can go wrong with a security key. While logging in it is for the log alone.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The datacenter does not say who asks.
    #[error("no webauthn configuration available")]
    Unconfigured,
    /// Nothing waits for this answer, or no longer.
    #[error("no such challenge")]
    NoChallenge,
    /// The answer is not of the form that browsers give it.
    #[error("webauthn response is not valid: {0}")]
    Response(JsonFault),
    /// What was asked cannot be kept.
    #[error("webauthn state: {0}")]
    State(JsonFault),
    /// The key is somebody's already.
    #[error("credential id already present")]
    Known,
    /// Longer than the standard allows (WebAuthn level 3, §4).
    #[error("credential id is too long")]
    LongName,
    /// The answer is wrong.
    #[error("{0}")]
    Refused(#[from] WebauthnError),
}

impl From<KeyError> for crate::AccessError {
    fn from(error: KeyError) -> Self {
        Self::plain(error.to_string())
    }
}
