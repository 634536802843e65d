//! Diffie-Hellman arithmetic with AWS-LC's big numbers: key exchange in groups that an administrator chose
//! (`docs/decisions/0013-dhe.md`).
//!
//! [`power`] takes the same time for every exponent of the same length. Which numbers make a group, and which keys are
//! valid in it, is the caller's affair.
#![allow(unsafe_code)]

use std::ptr::{self, NonNull};

/// Rounds of the primality test. It is not to outwit an attacker – the file is the administrator's – but to tell a
/// damaged file and a group of another kind.
const ROUNDS: std::ffi::c_int = 8;

/// A big number; wiped when dropped.
struct Number(NonNull<aws_lc_sys::BIGNUM>);

impl Drop for Number {
    fn drop(&mut self) {
        // SAFETY: the pointer came from AWS-LC, and this value owns it.
        unsafe { aws_lc_sys::BN_clear_free(self.0.as_ptr()) }
    }
}

impl Number {
    fn zero() -> Option<Self> {
        // SAFETY: takes nothing; null is checked.
        NonNull::new(unsafe { aws_lc_sys::BN_new() }).map(Self)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        // SAFETY: pointer and length describe a live slice that is only read; a null third argument asks for a new
        // number.
        NonNull::new(unsafe { aws_lc_sys::BN_bin2bn(bytes.as_ptr(), bytes.len(), ptr::null_mut()) }).map(Self)
    }

    fn is_odd(&self) -> bool {
        // SAFETY: the number is alive.
        unsafe { aws_lc_sys::BN_is_odd(self.0.as_ptr()) == 1 }
    }

    fn is_below(&self, other: &Self) -> bool {
        // SAFETY: both numbers are alive.
        unsafe { aws_lc_sys::BN_cmp(self.0.as_ptr(), other.0.as_ptr()) < 0 }
    }
}

/// Memory for intermediate results.
struct Scratch(NonNull<aws_lc_sys::BN_CTX>);

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: the pointer came from AWS-LC, and this value owns it.
        unsafe { aws_lc_sys::BN_CTX_free(self.0.as_ptr()) }
    }
}

impl Scratch {
    fn new() -> Option<Self> {
        // SAFETY: takes nothing; null is checked.
        NonNull::new(unsafe { aws_lc_sys::BN_CTX_new() }).map(Self)
    }
}

/// What depends on the modulus alone.
struct Montgomery(NonNull<aws_lc_sys::BN_MONT_CTX>);

impl Drop for Montgomery {
    fn drop(&mut self) {
        // SAFETY: the pointer came from AWS-LC, and this value owns it.
        unsafe { aws_lc_sys::BN_MONT_CTX_free(self.0.as_ptr()) }
    }
}

/// `base` to the power of `exponent` modulo `modulus`, all big-endian, as long as the modulus is written. In constant
/// time for exponents of one length.
///
/// `None` if the modulus is even or less than 3, the base is not below it, or memory is out.
pub fn power(base: &[u8], exponent: &[u8], modulus: &[u8]) -> Option<Vec<u8>> {
    let (base, exponent, number) = (
        Number::from_bytes(base)?,
        Number::from_bytes(exponent)?,
        Number::from_bytes(modulus)?,
    );
    if !number.is_odd() || !Number::from_bytes(&[1])?.is_below(&number) || !base.is_below(&number) {
        return None;
    }
    let (result, scratch) = (Number::zero()?, Scratch::new()?);
    // SAFETY: number and scratch are alive; the number is odd, as required. Null is checked.
    let montgomery =
        NonNull::new(unsafe { aws_lc_sys::BN_MONT_CTX_new_consttime(number.0.as_ptr(), scratch.0.as_ptr()) });
    let montgomery = montgomery.map(Montgomery)?;
    // SAFETY: all are alive and distinct, the base is below the modulus (checked above), the Montgomery value was made
    // from this modulus.
    let done = unsafe {
        aws_lc_sys::BN_mod_exp_mont_consttime(
            result.0.as_ptr(),
            base.0.as_ptr(),
            exponent.0.as_ptr(),
            number.0.as_ptr(),
            scratch.0.as_ptr(),
            montgomery.0.as_ptr(),
        )
    };
    let mut bytes = vec![0; modulus.len()];
    // SAFETY: pointer and length describe a live slice that nobody else holds; the number is alive.
    let written =
        done == 1 && unsafe { aws_lc_sys::BN_bn2bin_padded(bytes.as_mut_ptr(), bytes.len(), result.0.as_ptr()) } == 1;
    written.then_some(bytes)
}

/// Whether a number is prime, with the certainty that a file of the administrator's needs; `None` if memory is out.
pub fn is_prime(number: &[u8]) -> Option<bool> {
    let (number, scratch) = (Number::from_bytes(number)?, Scratch::new()?);
    let mut probably = 0;
    // SAFETY: number and scratch are alive, the out pointer is a live local, and a null callback is allowed.
    let done = unsafe {
        aws_lc_sys::BN_primality_test(
            &raw mut probably,
            number.0.as_ptr(),
            ROUNDS,
            scratch.0.as_ptr(),
            1,
            ptr::null_mut(),
        )
    };
    (done == 1).then_some(probably == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_right_and_as_long_as_the_modulus() {
        assert_eq!(power(&[5], &[6], &[0, 23]).unwrap(), [0, 8]);
        assert_eq!(power(&[8], &[15], &[23]).unwrap(), [2]);
        assert_eq!(power(&[1, 0], &[1, 0, 0, 0], &[1, 1]).unwrap(), [0, 1]);
        // Fermat: a^(p-1) = 1 for the prime 2^61 - 1.
        let p = (1_u64 << 61) - 1;
        let one = power(&[3], &(p - 1).to_be_bytes(), &p.to_be_bytes()).unwrap();
        assert_eq!(one, 1_u64.to_be_bytes());
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        for (base, modulus) in [
            (2, &[22_u8][..]),
            (23, &[23]),
            (24, &[23]),
            (0, &[1]),
            (0, &[0]),
            (0, &[]),
        ] {
            assert_eq!(power(&[base], &[3], modulus), None, "{base} {modulus:?}");
        }
    }

    #[test]
    fn primes_are_told() {
        for (number, expected) in [(2, true), (1, false), (0, false), (97, true), (91, false)] {
            assert_eq!(is_prime(&[number]), Some(expected), "{number}");
        }
        assert_eq!(is_prime(&((1_u64 << 61) - 1).to_be_bytes()), Some(true));
        assert_eq!(is_prime(&((1_u64 << 61) - 3).to_be_bytes()), Some(false));
    }
}
