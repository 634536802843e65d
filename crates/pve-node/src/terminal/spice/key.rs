//! The key under which a viewer sends its password: RSA of 1024 bits, OAEP with SHA-1, as the protocol has it. It is made for
//! the session and never leaves the process (decision 0017).

use openssl::error::ErrorStack;
use openssl::pkey::Private;
use openssl::rsa::{Padding, Rsa};

/// Bits of a key.
const BITS: u32 = 1024;
/// Bytes of what is encrypted with one.
pub(super) const SEALED: usize = 128;
/// Bytes of the public half as `SubjectPublicKeyInfo` in DER.
pub(super) const PUBLIC: usize = 162;

/// A key pair.
pub(super) struct SessionKey {
    pair: Rsa<Private>,
    public: [u8; PUBLIC],
}

impl SessionKey {
    /// Makes one.
    ///
    /// # Errors
    /// The library failed.
    pub(super) fn generate() -> Result<Self, ErrorStack> {
        let pair = Rsa::generate(BITS)?;
        let der = pair.public_key_to_der()?;
        // With the exponent that everybody uses, no other length is possible.
        let public = der.try_into().map_err(|_| ErrorStack::get())?;
        Ok(Self { pair, public })
    }

    /// Its public half.
    pub(super) fn public(&self) -> &[u8; PUBLIC] {
        &self.public
    }

    /// What was encrypted with the public half; `None` if nothing was.
    pub(super) fn open(&self, sealed: &[u8; SEALED]) -> Option<Vec<u8>> {
        let mut plain = vec![0; SEALED];
        let length = self
            .pair
            .private_decrypt(sealed, &mut plain, Padding::PKCS1_OAEP)
            .ok()?;
        plain.truncate(length);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encrypts as a client does, which has only the public half.
    fn seal(public: &[u8], text: &[u8]) -> [u8; SEALED] {
        let mut sealed = [0; SEALED];
        let key = Rsa::public_key_from_der(public).unwrap();
        let length = key.public_encrypt(text, &mut sealed, Padding::PKCS1_OAEP).unwrap();
        assert_eq!(length, SEALED);
        sealed
    }

    #[test]
    fn what_is_sealed_for_a_key_is_opened_by_it_alone() {
        let (key, other) = (SessionKey::generate().unwrap(), SessionKey::generate().unwrap());
        assert_ne!(key.public(), other.public());
        let sealed = seal(key.public(), b"secret\0");
        assert_eq!(key.open(&sealed).as_deref(), Some(&b"secret\0"[..]));
        assert_eq!(other.open(&sealed), None);
        let mut damaged = sealed;
        damaged[100] ^= 1;
        assert_eq!(key.open(&damaged), None);
        for junk in [[0; SEALED], [0xff; SEALED]] {
            assert_eq!(key.open(&junk), None);
        }
    }
}
