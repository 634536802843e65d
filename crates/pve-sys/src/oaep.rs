//! RSA-OAEP with SHA-1 and keys of 1024 bits: how a SPICE viewer sends its password.
//!
//! The protocol has room for no other key. AWS-LC is in the suite anyway; its Rust interface makes and takes keys from
//! 2048 bits only. What such a key protects, and why it is enough for that: `docs/decisions/0016-spice-terminals.md`.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::ptr::{self, NonNull};

use super::rsa::RsaError;

/// Bits of a key.
const BITS: c_int = 1024;
/// The public exponent that everybody uses.
const EXPONENT: u32 = 65_537;
/// Bytes of what is encrypted with one.
pub const SEALED: usize = 128;
/// Bytes of the public half as `SubjectPublicKeyInfo` in DER.
pub const PUBLIC: usize = 162;

/// A key pair that is made for one session and never leaves the process.
#[derive(Debug)]
pub struct SessionKey {
    rsa: NonNull<aws_lc_sys::RSA>,
    public: [u8; PUBLIC],
}

impl Drop for SessionKey {
    fn drop(&mut self) {
        // SAFETY: the pointer came from AWS-LC with one reference that this value owns.
        unsafe { aws_lc_sys::RSA_free(self.rsa.as_ptr()) }
    }
}

/// A big number.
struct Number(NonNull<aws_lc_sys::BIGNUM>);

impl Drop for Number {
    fn drop(&mut self) {
        // SAFETY: the pointer came from BN_new and is owned by this value alone.
        unsafe { aws_lc_sys::BN_free(self.0.as_ptr()) }
    }
}

impl SessionKey {
    /// Makes one.
    ///
    /// # Errors
    /// The library failed.
    pub fn generate() -> Result<Self, RsaError> {
        // SAFETY: no arguments; NULL is looked at.
        let exponent = NonNull::new(unsafe { aws_lc_sys::BN_new() }).map(Number);
        let exponent = exponent.ok_or(RsaError::Generate)?;
        // SAFETY: the number is valid.
        let is_set = unsafe { aws_lc_sys::BN_set_word(exponent.0.as_ptr(), EXPONENT.into()) };
        // SAFETY: no arguments; NULL is looked at.
        let rsa = NonNull::new(unsafe { aws_lc_sys::RSA_new() }).ok_or(RsaError::Generate)?;
        let mut key = Self {
            rsa,
            public: [0; PUBLIC],
        };
        // SAFETY: key and number are valid, and a callback is not demanded.
        let is_made =
            unsafe { aws_lc_sys::RSA_generate_key_ex(key.rsa.as_ptr(), BITS, exponent.0.as_ptr(), ptr::null_mut()) };
        if is_set != 1 || is_made != 1 {
            return Err(RsaError::Generate);
        }
        // SAFETY: the key is valid; without a place to write to, the call only tells the length.
        let length = unsafe { aws_lc_sys::i2d_RSA_PUBKEY(key.rsa.as_ptr(), ptr::null_mut()) };
        if usize::try_from(length) != Ok(PUBLIC) {
            return Err(RsaError::Generate);
        }
        let mut end = key.public.as_mut_ptr();
        // SAFETY: there is room for as many bytes as the call said that it writes; it moves `end`, not the array.
        let written = unsafe { aws_lc_sys::i2d_RSA_PUBKEY(key.rsa.as_ptr(), &raw mut end) };
        if written != length {
            return Err(RsaError::Generate);
        }
        Ok(key)
    }

    /// Its public half: `SubjectPublicKeyInfo` in DER.
    pub fn public(&self) -> &[u8; PUBLIC] {
        &self.public
    }

    /// What was encrypted with the public half; `None` if nothing was.
    pub fn open(&self, sealed: &[u8; SEALED]) -> Option<Vec<u8>> {
        let mut plain = vec![0; SEALED];
        let mut length = 0;
        // SAFETY: the key is valid, both slices are live and described by their own lengths; the call may change only
        // the key's cache of blinding factors, and this value is not shared between threads (it is not `Sync`).
        let opened = unsafe {
            aws_lc_sys::RSA_decrypt(
                self.rsa.as_ptr(),
                &raw mut length,
                plain.as_mut_ptr(),
                plain.len(),
                sealed.as_ptr(),
                sealed.len(),
                aws_lc_sys::RSA_PKCS1_OAEP_PADDING,
            )
        };
        if opened != 1 || length > plain.len() {
            return None;
        }
        plain.truncate(length);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encrypts as a client does, which has only the public half.
    fn seal(public: &[u8], text: &[u8]) -> [u8; SEALED] {
        let mut at = public.as_ptr();
        let length = public.len().try_into().unwrap();
        // SAFETY: the slice is live; the call moves `at` within it.
        let rsa = unsafe { aws_lc_sys::d2i_RSA_PUBKEY(ptr::null_mut(), &raw mut at, length) };
        assert!(!rsa.is_null());
        let (mut sealed, mut written) = ([0; SEALED], 0);
        // SAFETY: all pointers are live, with their lengths.
        let is_sealed = unsafe {
            aws_lc_sys::RSA_encrypt(
                rsa,
                &raw mut written,
                sealed.as_mut_ptr(),
                sealed.len(),
                text.as_ptr(),
                text.len(),
                aws_lc_sys::RSA_PKCS1_OAEP_PADDING,
            )
        };
        // SAFETY: it is ours.
        unsafe { aws_lc_sys::RSA_free(rsa) };
        assert_eq!((is_sealed, written), (1, SEALED));
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
