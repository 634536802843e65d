//! Which signatures were found good or bad: an RSA verification per request is the dearest part of authentication.
//!
//! Keyed by a hash over key, text and signature, so an answer can never be wrong; a ticket's age, user and rights are
//! looked at every time, elsewhere.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::keys::PublicKey;

/// Most answers that are kept; beyond, all are dropped. 4096 sessions per worker are more than a web UI serves.
const MAX_ANSWERS: usize = 4096;

static ANSWERS: LazyLock<Mutex<HashMap<[u8; 32], bool>>> = LazyLock::new(Mutex::default);

/// Whether a signature over a text is this key's.
pub(super) fn is_signed(key: &PublicKey, text: &str, signature: &[u8]) -> bool {
    let hash = hash(key, text, signature);
    let answers = || ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(answer) = answers().get(&hash) {
        return *answer;
    }
    let answer = pve_sys::rsa::verify_sha1(key.der(), text.as_bytes(), signature);
    let mut answers = answers();
    if answers.len() >= MAX_ANSWERS {
        answers.clear();
    }
    answers.insert(hash, answer);
    answer
}

fn hash(key: &PublicKey, text: &str, signature: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in [key.der(), text.as_bytes(), signature] {
        // The length in front keeps the parts apart.
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}
