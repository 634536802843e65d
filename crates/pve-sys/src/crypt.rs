//! Password hashes by the system's libcrypt (libxcrypt), which knows every scheme that a shadow file may hold.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};

/// `sizeof(struct crypt_data)` of libxcrypt; part of its ABI ("exactly 32 KiB").
const SCRATCH_BYTES: usize = 32_768;

#[link(name = "crypt")]
unsafe extern "C" {
    fn crypt_rn(phrase: *const c_char, setting: *const c_char, data: *mut c_void, size: c_int) -> *mut c_char;
}

/// A password or setting that libcrypt cannot hash.
#[derive(Debug, thiserror::Error)]
#[error("unable to hash password")]
pub struct CryptError;

/// `crypt(phrase, setting)`: `setting` is a hash to compare with, or a prefix with scheme, cost and salt.
///
/// # Errors
/// Either text holds a NUL byte, or libcrypt does not know the setting's scheme.
pub fn crypt(phrase: &[u8], setting: &str) -> Result<String, CryptError> {
    let phrase = CString::new(phrase).map_err(|_| CryptError)?;
    let setting = CString::new(setting).map_err(|_| CryptError)?;
    // u64 gives the alignment that the structure's pointers and lengths need; its content must start as zero.
    let mut scratch = vec![0_u64; SCRATCH_BYTES / size_of::<u64>()];
    let size = c_int::try_from(SCRATCH_BYTES).map_err(|_| CryptError)?;
    // SAFETY: both texts are NUL-terminated and live through the call; `scratch` is `size` zeroed, writable bytes, and
    // crypt_rn refuses a size smaller than its structure instead of writing beyond it.
    let hash = unsafe { crypt_rn(phrase.as_ptr(), setting.as_ptr(), scratch.as_mut_ptr().cast(), size) };
    if hash.is_null() {
        return Err(CryptError);
    }
    // SAFETY: a result other than NULL is a NUL-terminated text inside `scratch`, which is alive and not written to.
    let text = unsafe { CStr::from_ptr(hash) }.to_str().map_err(|_| CryptError)?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 02 §16, vectors 25 to 28.
    #[test]
    fn the_systems_libcrypt_knows_all_schemes() {
        let vectors = [
            ("S3cret!pw", "$5$abcdefgh$2ZiD5nAUghU10WoR4QU9xJ9BmHYqBepVX.bes9k0l76"),
            (
                "S3cret!pw",
                "$6$abcdefgh$ut0.2xNMC0HnXFfKtqSvat0oRcuWDgARYFysWAFmK6BbL5eUmVBzWvyQXR6pFZ2uqnMyjfqKpAtanpeXDihxK0",
            ),
            (
                "S3cret!pw",
                "$y$j9T$abcdefgh$PNyZ.kZx5kc3jhi4CKJkiCWM1czfKvqnhbRIZE7jOWC",
            ),
            ("pässwörd", "$5$abcdefgh$vl6a2mAodUYEe3Mhai26AyjORet86eVRC5bBAu6c/n9"),
        ];
        for (phrase, hash) in vectors {
            assert_eq!(crypt(phrase.as_bytes(), hash).unwrap(), hash);
        }
    }

    #[test]
    fn what_cannot_be_hashed_is_an_error() {
        assert!(crypt(b"a\0b", "$5$abcdefgh$").is_err());
        assert!(crypt(b"a", "$5$a\0").is_err());
        assert!(crypt(b"a", "*").is_err());
        assert!(crypt(b"a", "").is_err());
    }
}
