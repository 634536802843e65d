//! Recovery keys (reference 02 §8.4): ten of them, each good once.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::config::Recovery;
use crate::error::AccessError;

/// How many there are.
const COUNT: usize = 10;

/// New keys, to be shown this once, and what is kept of them.
///
/// # Errors
/// There are no random numbers.
pub fn generate(now: i64) -> Result<(Vec<String>, Recovery), AccessError> {
    let secret = hex::encode(random()?);
    let keys = (0..COUNT)
        .map(|_| Ok(spell(&hex::encode(random()?))))
        .collect::<Result<Vec<_>, AccessError>>()?;
    let entries = keys.iter().map(|key| Some(hash(&secret, key))).collect();
    let recovery = Recovery {
        secret,
        entries,
        created: now,
    };
    Ok((keys, recovery))
}

fn random() -> Result<[u8; 8], AccessError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| AccessError::plain(format!("no random numbers - {error}")))?;
    Ok(bytes)
}

/// `xxxx-xxxx-xxxx-xxxx`.
fn spell(digits: &str) -> String {
    let mut key = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && index % 4 == 0 {
            key.push('-');
        }
        key.push(digit);
    }
    key
}

fn hash(secret: &str, key: &str) -> String {
    // HMAC takes keys of any length.
    match Hmac::<Sha256>::new_from_slice(secret.as_bytes()) {
        Ok(mac) => hex::encode(mac.chain_update(key.as_bytes()).finalize().into_bytes()),
        Err(_) => String::new(),
    }
}

impl Recovery {
    /// The places of the keys that are left.
    pub fn available(&self) -> Vec<usize> {
        let places = self.entries.iter().enumerate();
        places
            .filter(|(_, entry)| entry.is_some())
            .map(|(index, _)| index)
            .collect()
    }

    /// Uses a key up; `false` if it is none, or was used before.
    pub(super) fn consume(&mut self, key: &str) -> bool {
        let hash = hash(&self.secret, key);
        let mut found = None;
        for (index, entry) in self.entries.iter().enumerate() {
            let fits = entry
                .as_ref()
                .is_some_and(|entry| bool::from(entry.as_bytes().ct_eq(hash.as_bytes())));
            if fits {
                found = Some(index);
            }
        }
        let entry = found.and_then(|index| self.entries.get_mut(index));
        entry.map(Option::take).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 02 §16, vector 29.
    #[test]
    fn hashes_are_hmacs() {
        assert_eq!(
            hash("a1b2c3d4e5f60718", "0011-2233-4455-6677"),
            "4f3ee4cc2f842cc049f60e82b9e72eb95726d2819e3cc29f285eff40420b4d10"
        );
    }

    #[test]
    fn each_key_is_good_once() {
        let (keys, mut recovery) = generate(5).unwrap();
        assert_eq!((keys.len(), recovery.created, recovery.secret.len()), (10, 5, 16));
        let is_spelt = |key: &String| key.len() == 19 && key.split('-').all(|part| part.len() == 4);
        assert!(keys.iter().all(is_spelt), "{keys:?}");
        assert!(recovery.consume(&keys[3]));
        assert!(!recovery.consume(&keys[3]) && !recovery.consume(""));
        assert_eq!(recovery.available(), [0, 1, 2, 4, 5, 6, 7, 8, 9]);
        let (others, _) = generate(5).unwrap();
        assert!(!recovery.consume(&others[0]));
    }
}
