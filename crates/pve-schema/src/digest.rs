//! Digests of configuration files: the optimistic lock of the API (reference 03 §2.9).

use sha1::{Digest as _, Sha1};

/// The file changed between a client's read and its write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("detected modified configuration - file changed by other user? Try again.")]
pub struct Modified;

impl crate::Failure for Modified {}

/// The digest of a file's bytes, SHA-1 in lower-case hex; a missing file counts as empty.
pub fn of(bytes: &[u8]) -> String {
    hex::encode(Sha1::digest(bytes))
}

/// Compares the digest that a client sent with the one of the file as read under the lock. An empty or absent one asks
/// for no check.
///
/// # Errors
/// Both are there and differ.
pub fn check(sent: Option<&str>, current: &str) -> Result<(), Modified> {
    match sent {
        Some(sent) if !sent.is_empty() && !current.is_empty() && sent != current => Err(Modified),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_has_a_digest_too() {
        assert_eq!(of(b""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(
            of(b"dir: a1\n\tpath /mnt/x\n"),
            "9b49ed53939e6d5e17f05b188e670d25f3413d62"
        );
    }

    /// Reference 03 §8.5, vector 58.
    #[test]
    fn digests_are_compared_when_both_are_there() {
        let text = "detected modified configuration - file changed by other user? Try again.";
        assert_eq!(check(Some("a"), "b").unwrap_err().to_string(), text);
        assert_eq!(check(Some("a"), ""), Ok(()));
        assert_eq!(check(Some(""), "b"), Ok(()));
        assert_eq!(check(None, "b"), Ok(()));
        assert_eq!(check(Some("b"), "b"), Ok(()));
    }
}
