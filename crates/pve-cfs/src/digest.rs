//! The digest that guards against lost updates (reference 03 §2.9).

use sha1::{Digest, Sha1};

use crate::CfsError;

/// SHA-1 of the exact bytes, lower-case hex. A missing file counts as empty.
pub fn digest(bytes: &[u8]) -> String {
    Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares the digest a client sent with the file as it is under the lock. None or an empty one: no check.
///
/// # Errors
/// [`CfsError::Modified`] when they differ.
pub fn check_digest(given: Option<&str>, bytes: &[u8]) -> Result<(), CfsError> {
    match given {
        Some(given) if !given.is_empty() && given != digest(bytes) => Err(CfsError::Modified),
        _ => Ok(()),
    }
}

/// The same with the other wording, which a disk resize uses.
///
/// # Errors
/// [`CfsError::ChecksumMismatch`] when they differ.
pub fn check_checksum(given: Option<&str>, bytes: &[u8]) -> Result<(), CfsError> {
    check_digest(given, bytes).map_err(|_| CfsError::ChecksumMismatch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_follow_the_file() {
        assert_eq!(digest(b""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(
            digest(b"dir: a1\n\tpath /mnt/x\n"),
            "9b49ed53939e6d5e17f05b188e670d25f3413d62"
        );
        assert!(check_digest(None, b"x").is_ok());
        assert!(check_digest(Some(""), b"x").is_ok());
        assert!(check_digest(Some(&digest(b"x")), b"x").is_ok());
        assert_eq!(
            check_digest(Some("a"), b"b").unwrap_err().to_string(),
            "detected modified configuration - file changed by other user? Try again."
        );
    }
}
