//! `DHPARAMS`: the group of finite-field Diffie-Hellman, from a PEM file or built in (reference 01 §2.6).
//!
//! OpenSSL writes two kinds of files, `DH PARAMETERS` (PKCS #3) and `X9.42 DH PARAMETERS` (from `-dsaparam`). Both are
//! a sequence of integers that begins with p and g, and those are all that is needed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Lengths of p that are taken, in bits: less is broken, more lets one client keep a core busy.
const BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The 2048-bit modulus of the SKIP drafts, which OpenSSL shipped for long; the generator is 2.
const SKIP_2048: &str = "\
    F64257B7087F081772A2BAD6A942F305E8F95311394FB6F16EB94B3820DA01A7\
    56A314E98F4055F3D007C6CB43A994ADF74C648649F80C83BD65E917D4A1D350\
    F8F5595FDC76524F3D3D8DDBCE99E1579259CDFDB8AE744FC5FC76BC83C54730\
    61CE7CC966FF15F9BBFD915EC701AAD35B9E8DA0A5723AD41AF0BF4600582BE5\
    F488FD584E49DBCD20B49DE49107366B336C380D451D0F7C88B31C7C5B2D8EF6\
    F3C923C043F0A55B188D8EBB558CB85D38D334FD7C175743A31D186CDE33212C\
    B52AFF3CE1B1294018118D7C84A70A72D686C40319C807297ACA950CD9969FAB\
    D00A509B0246D3083D66A45D419F9C7CBD894B221926BAABA25EC355E9320B3B";

/// A group: numbers are big-endian and without leading zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// The modulus.
    pub p: Vec<u8>,
    /// The generator.
    pub g: Vec<u8>,
}

/// A file that holds no group, or none to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParametersError {
    /// Nothing in it looks like parameters.
    #[error("failed to parse DH parameters - not PEM format?")]
    NotPem,
    /// What the PEM block holds is no sequence of two integers.
    #[error("failed to parse DH parameters - damaged")]
    Damaged,
    /// Too short or too long.
    #[error("DH parameters of {0} bits - use 2048 to 8192")]
    Length(usize),
    /// An even modulus.
    #[error("DH parameters are damaged: p is even")]
    Even,
    /// A modulus that is not prime.
    #[error("DH parameters are damaged: p is not prime")]
    Composite,
    /// A generator outside the group.
    #[error("DH parameters are damaged: g is not between 1 and p - 1")]
    Generator,
}

impl Parameters {
    /// The group for who named none.
    pub fn built_in() -> Self {
        Self {
            p: hex::decode(SKIP_2048).unwrap_or_default(),
            g: vec![2],
        }
    }

    /// Reads a PEM file's content.
    ///
    /// # Errors
    /// [`ParametersError`], except [`ParametersError::Composite`].
    pub fn from_pem(text: &[u8]) -> Result<Self, ParametersError> {
        let text = String::from_utf8_lossy(text);
        let block = ["DH PARAMETERS", "X9.42 DH PARAMETERS"]
            .iter()
            .find_map(|label| pem_block(&text, label))
            .ok_or(ParametersError::NotPem)?;
        let der = STANDARD.decode(block).map_err(|_| ParametersError::NotPem)?;
        let (p, g) = integers(&der).ok_or(ParametersError::Damaged)?;
        let parameters = Self { p, g };
        parameters.check()?;
        Ok(parameters)
    }

    /// Length of the modulus.
    pub fn bits(&self) -> usize {
        let leading = self.p.first().map_or(0, |byte| byte.leading_zeros() as usize);
        (self.p.len() * 8).saturating_sub(leading)
    }

    /// Whether a number lies between 1 and p - 1, as generators and keys must.
    pub fn contains(&self, number: &[u8]) -> bool {
        let number = trimmed(number);
        let is_above_one = number.len() > 1 || number.first().is_some_and(|byte| *byte > 1);
        // p is odd, so p - 1 differs in the last bit only.
        let mut limit = self.p.clone();
        if let Some(last) = limit.last_mut() {
            *last &= 0xfe;
        }
        is_above_one && (number.len(), number) < (limit.len(), limit.as_slice())
    }

    fn check(&self) -> Result<(), ParametersError> {
        if !BITS.contains(&self.bits()) {
            return Err(ParametersError::Length(self.bits()));
        }
        if self.p.last().is_some_and(|last| last % 2 == 0) {
            return Err(ParametersError::Even);
        }
        if !self.contains(&self.g) {
            return Err(ParametersError::Generator);
        }
        Ok(())
    }

    /// How long a secret exponent must be, in bytes. In a group whose order has no small factors but 2 – (p - 1) / 2 is
    /// prime – twice the group's strength will do; otherwise the whole length, since the factors are unknown.
    ///
    /// # Errors
    /// [`ParametersError::Composite`].
    pub fn exponent_length(&self) -> Result<usize, ParametersError> {
        if *self == Self::built_in() {
            return Ok(32);
        }
        if !pve_sys::dh::is_prime(&self.p).unwrap_or(false) {
            return Err(ParametersError::Composite);
        }
        let is_safe = pve_sys::dh::is_prime(&half(&self.p)).unwrap_or(false);
        Ok(match self.bits() {
            ..=4096 if is_safe => 32,
            _ if is_safe => 64,
            _ => self.p.len(),
        })
    }
}

/// Half of a number, rounded down.
fn half(number: &[u8]) -> Vec<u8> {
    let mut carry = 0;
    let halves = number.iter().map(|byte| {
        let half = carry | (byte >> 1);
        carry = byte << 7;
        half
    });
    halves.collect()
}

fn trimmed(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// What stands between the lines that begin and end a block, without white space.
fn pem_block(text: &str, label: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (block, _) = rest.split_once(&format!("-----END {label}-----"))?;
    Some(block.split_whitespace().collect())
}

/// The first two integers of a DER sequence.
fn integers(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (body, _) = element(der, 0x30)?;
    let (p, rest) = element(body, 0x02)?;
    let (g, _) = element(rest, 0x02)?;
    let positive = |number: &[u8]| (*number.first()? < 0x80).then(|| trimmed(number).to_vec());
    Some((positive(p)?, positive(g)?))
}

/// The content of a DER element with this tag, and what is behind it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ ..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => {
            let (bytes, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*bytes)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], length.as_slice(), content].concat()
    }

    fn pem(p: &[u8], g: &[u8]) -> String {
        let positive = |number: &[u8]| tlv(2, &[&[0], number].concat());
        let der = tlv(0x30, &[positive(p), positive(g)].concat());
        let body = STANDARD.encode(der);
        format!("-----BEGIN DH PARAMETERS-----\n{body}\n-----END DH PARAMETERS-----\n")
    }

    #[test]
    fn the_built_in_group_is_skip2048() {
        let group = Parameters::built_in();
        assert_eq!((group.bits(), group.check()), (2048, Ok(())));
        let der = [
            &[0x30, 0x82, 0x01, 0x08][..],
            &tlv(2, &[&[0], group.p.as_slice()].concat()),
            &[2, 1, 2],
        ]
        .concat();
        assert_eq!(der.len(), 268);
        let digest = "bdbcc1b9b3a3ab0d19ec14b9f5c619e08849ffb7e3be2ad8082f2b24c8118195";
        assert_eq!(hex::encode(Sha256::digest(&der)), digest);
        assert_eq!(pve_sys::dh::is_prime(&group.p), Some(true));
        assert_eq!(pve_sys::dh::is_prime(&half(&group.p)), Some(true));
    }

    #[test]
    fn files_of_openssl_are_read() {
        for (group, bits, exponent) in [
            ("ffdhe2048", 2048, 32),
            ("ffdhe3072", 3072, 32),
            ("modp_6144", 6144, 64),
        ] {
            let run = Command::new("openssl")
                .args(["genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt"])
                .arg(format!("group:{group}"))
                .output();
            let parameters = Parameters::from_pem(&run.unwrap().stdout).unwrap();
            assert_eq!(
                (parameters.bits(), parameters.g.as_slice()),
                (bits, &[2][..]),
                "{group}"
            );
            assert_eq!(parameters.exponent_length(), Ok(exponent), "{group}");
        }
        let dsa = Command::new("openssl").args(["dhparam", "-dsaparam", "2048"]).output();
        let text = dsa.unwrap().stdout;
        assert!(text.starts_with(b"-----BEGIN X9.42 DH PARAMETERS-----"));
        let parameters = Parameters::from_pem(&text).unwrap();
        assert_eq!((parameters.bits(), parameters.exponent_length()), (2048, Ok(256)));
    }

    #[test]
    fn damaged_groups_are_refused() {
        let good = Parameters::built_in();
        let mut even = good.p.clone();
        *even.last_mut().unwrap() = 0x3a;
        let mut composite = good.p.clone();
        *composite.last_mut().unwrap() = 0x3d;
        let one_less = even.clone();
        for (text, expected) in [
            (String::new(), ParametersError::NotPem),
            ("-----BEGIN DH PARAMETERS-----\nx\n".into(), ParametersError::NotPem),
            (pem(&good.p, &[2]).replace("MII", "???"), ParametersError::NotPem),
            (pem(&good.p, &[2]).replace("MII", "AII"), ParametersError::Damaged),
            (pem(&good.p[..128], &[2]), ParametersError::Length(1024)),
            (pem(&[0xff; 1025], &[2]), ParametersError::Length(8200)),
            (pem(&even, &[2]), ParametersError::Even),
            (pem(&good.p, &[1]), ParametersError::Generator),
            (pem(&good.p, &one_less), ParametersError::Generator),
            (pem(&good.p, &[0xff; 300]), ParametersError::Generator),
        ] {
            assert_eq!(Parameters::from_pem(text.as_bytes()), Err(expected), "{text}");
        }
        let composite = Parameters::from_pem(pem(&composite, &[2]).as_bytes()).unwrap();
        assert_eq!(composite.exponent_length(), Err(ParametersError::Composite));
    }

    #[test]
    fn keys_lie_between_one_and_p_minus_one() {
        let group = Parameters {
            p: vec![0x01, 0x01],
            g: vec![3],
        };
        for (key, expected) in [
            (&[][..], false),
            (&[0], false),
            (&[0, 1], false),
            (&[2], true),
            (&[0, 0, 2], true),
            (&[0xff], true),
            (&[1, 0], false),
            (&[1, 1], false),
            (&[1, 2], false),
            (&[1, 0, 0], false),
        ] {
            assert_eq!(group.contains(key), expected, "{key:?}");
        }
    }

    proptest! {
        #[test]
        fn any_file_is_a_group_or_a_mistake(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "\\PC*") {
            let body = STANDARD.encode(&bytes);
            let block = format!("-----BEGIN DH PARAMETERS-----\n{body}\n-----END DH PARAMETERS-----\n");
            prop_assert!(Parameters::from_pem(block.as_bytes()).is_err());
            prop_assert!(Parameters::from_pem(text.as_bytes()).is_err());
        }
    }
}
