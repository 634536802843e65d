//! RSASSA-PKCS1-v1_5 with SHA-1, as log-in tickets are signed (reference 02 §6.1).
//!
//! AWS-LC is in the suite anyway, for TLS; its Rust interface verifies such signatures but does not make them. Why SHA-1
//! at all, and why this library: `docs/decisions/0003-rsa-sha1-tickets.md`.
#![allow(unsafe_code)]

use std::ffi::c_uint;
use std::ptr::NonNull;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};

/// What can go wrong with an RSA key.
#[derive(Debug, thiserror::Error)]
pub enum RsaError {
    /// The bytes are no RSA private key.
    #[error("not an RSA private key")]
    BadPrivateKey,
    /// The library could not sign.
    #[error("unable to sign")]
    Sign,
    /// The library could not make a key pair.
    #[error("unable to generate RSA key")]
    Generate,
}

/// An RSA private key.
#[derive(Debug)]
pub struct PrivateKey(NonNull<aws_lc_sys::RSA>);

// SAFETY: the structure is owned by this value alone, and AWS-LC lets threads share an RSA key that nobody changes.
unsafe impl Send for PrivateKey {}
// SAFETY: as above; signing takes its own locks around the blinding cache.
unsafe impl Sync for PrivateKey {}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        // SAFETY: the pointer came from AWS-LC with one reference that this value owns.
        unsafe { aws_lc_sys::RSA_free(self.0.as_ptr()) }
    }
}

impl PrivateKey {
    /// Reads a PKCS#1 `RSAPrivateKey` in DER.
    ///
    /// # Errors
    /// It is none.
    pub fn from_pkcs1(der: &[u8]) -> Result<Self, RsaError> {
        // SAFETY: the pointer and length describe a live slice; the call only reads it.
        let rsa = unsafe { aws_lc_sys::RSA_private_key_from_bytes(der.as_ptr(), der.len()) };
        NonNull::new(rsa).map(Self).ok_or(RsaError::BadPrivateKey)
    }

    /// Reads a PKCS#8 `PrivateKeyInfo` in DER that holds an RSA key.
    ///
    /// # Errors
    /// It is none.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, RsaError> {
        let mut cbs = aws_lc_sys::cbs_st {
            data: der.as_ptr(),
            len: der.len(),
        };
        // SAFETY: `cbs` describes a live slice; the call reads it and moves `cbs`.
        let key = unsafe { aws_lc_sys::EVP_parse_private_key(&raw mut cbs) };
        let key = NonNull::new(key).ok_or(RsaError::BadPrivateKey)?;
        // SAFETY: `key` is valid; get1 hands out a reference of its own (NULL for another kind of key).
        let rsa = unsafe { aws_lc_sys::EVP_PKEY_get1_RSA(key.as_ptr()) };
        // SAFETY: this function owns the one reference to `key`.
        unsafe { aws_lc_sys::EVP_PKEY_free(key.as_ptr()) };
        NonNull::new(rsa).map(Self).ok_or(RsaError::BadPrivateKey)
    }

    /// Signs a SHA-1 digest.
    ///
    /// # Errors
    /// The key is too small, or the library failed.
    pub fn sign_sha1(&self, digest: &[u8; 20]) -> Result<Vec<u8>, RsaError> {
        // SAFETY: the key is valid.
        let size = unsafe { aws_lc_sys::RSA_size(self.0.as_ptr()) };
        let mut signature = vec![0_u8; usize::try_from(size).map_err(|_| RsaError::Sign)?];
        let mut length: c_uint = 0;
        // SAFETY: `signature` has RSA_size bytes, as the call demands; digest and length pointers are live.
        let signed = unsafe {
            aws_lc_sys::RSA_sign(
                aws_lc_sys::NID_sha1,
                digest.as_ptr(),
                digest.len(),
                signature.as_mut_ptr(),
                &raw mut length,
                self.0.as_ptr(),
            )
        };
        if signed != 1 {
            return Err(RsaError::Sign);
        }
        signature.truncate(usize::try_from(length).map_err(|_| RsaError::Sign)?);
        Ok(signature)
    }
}

/// Whether `signature` is one over `message`, made with the private half of `public_key` (SPKI or PKCS#1, DER).
pub fn verify_sha1(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, public_key)
        .verify(message, signature)
        .is_ok()
}

/// A new key pair in DER.
#[derive(Debug)]
pub struct NewKeyPair {
    /// PKCS#8 `PrivateKeyInfo`.
    pub private: Vec<u8>,
    /// `SubjectPublicKeyInfo`.
    pub public: Vec<u8>,
}

/// Makes an RSA key pair of 2048 bits.
///
/// # Errors
/// The library failed.
pub fn generate_2048() -> Result<NewKeyPair, RsaError> {
    let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| RsaError::Generate)?;
    let private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().map_err(|_| RsaError::Generate)?;
    let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> =
        pair.public_key().as_der().map_err(|_| RsaError::Generate)?;
    Ok(NewKeyPair {
        private: private.as_ref().to_vec(),
        public: public.as_ref().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-1 of the empty text.
    const EMPTY: [u8; 20] = [
        0xda, 0x39, 0xa3, 0xee, 0x5e, 0x6b, 0x4b, 0x0d, 0x32, 0x55, 0xbf, 0xef, 0x95, 0x60, 0x18, 0x90, 0xaf, 0xd8,
        0x07, 0x09,
    ];

    #[test]
    fn a_new_pair_signs_and_verifies() {
        let pair = generate_2048().unwrap();
        let signature = PrivateKey::from_pkcs8(&pair.private)
            .unwrap()
            .sign_sha1(&EMPTY)
            .unwrap();
        assert_eq!(signature.len(), 256);
        assert!(verify_sha1(&pair.public, b"", &signature));
        assert!(!verify_sha1(&pair.public, b"x", &signature));
        assert!(!verify_sha1(&pair.public, b"", &signature[1..]));
        assert!(!verify_sha1(b"", b"", &signature));
    }

    #[test]
    fn junk_is_no_key() {
        for junk in [&b""[..], b"\x30", &[0x30, 0x82, 0xff, 0xff], &[0; 64]] {
            assert!(PrivateKey::from_pkcs1(junk).is_err());
            assert!(PrivateKey::from_pkcs8(junk).is_err());
        }
    }
}
