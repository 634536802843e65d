//! Codes by time (RFC 6238) and `otpauth` URIs (reference 02 §8.4, §8.7).

use data_encoding::BASE32_NOPAD;
use hmac::Hmac;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use subtle::ConstantTimeEq as _;

/// What a device computes its codes from.
#[derive(Clone, PartialEq, Eq)]
pub struct Totp {
    secret: Vec<u8>,
    digits: u32,
    algorithm: Algorithm,
    /// Seconds for which a code is shown.
    period: u64,
    issuer: Option<String>,
    account: String,
}

/// Shows nothing that codes could be made from.
impl std::fmt::Debug for Totp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Totp")
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// The hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Sha1, Self::Sha256, Self::Sha512]
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(text))
    }
}

/// Why a text is no URI that codes can be made from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Another scheme or kind.
    #[error("not an otpauth uri")]
    Scheme,
    /// Nothing to make codes from.
    #[error("missing secret in otpauth url")]
    NoSecret,
    /// Nobody to make codes for.
    #[error("missing account name in otpauth uri")]
    NoAccount,
    /// A parameter that nobody knows.
    #[error("unknown otpauth uri parameter: '{0}'")]
    Unknown(String),
    /// A parameter whose value cannot be.
    #[error("invalid value of otpauth uri parameter '{0}'")]
    Invalid(&'static str),
}

/// Codes have so many digits at most: RFC 4226 takes 31 bits of a hash, which are ten digits at best.
const MAX_DIGITS: u32 = 9;

/// One step before and after the present one count too: clocks differ, and people type slowly.
const TOLERANCE: u64 = 1;

impl Totp {
    /// Codes of an old key of a user (reference 02 §8.6).
    pub(super) fn of_old_key(secret: Vec<u8>, digits: u32, period: u64, user: &str) -> Self {
        Self {
            secret,
            digits: digits.clamp(1, MAX_DIGITS),
            algorithm: Algorithm::Sha1,
            period: period.max(1),
            issuer: Some("Proxmox VE".to_owned()),
            account: format!("Old key for {user}"),
        }
    }

    /// Reads an `otpauth://totp/` URI.
    ///
    /// # Errors
    /// It is another URI, lacks something or holds something unknown.
    pub fn parse(uri: &str) -> Result<Self, UriError> {
        let rest = uri.strip_prefix("otpauth://totp/").ok_or(UriError::Scheme)?;
        let (label, query) = rest.split_once('?').unwrap_or((rest, ""));
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (issuer, account) = match label.split_once(':') {
            Some((issuer, account)) => (Some(decode(issuer)), decode(account)),
            // A colon may be escaped too.
            None => match decode(label).split_once(':') {
                Some((issuer, account)) => (Some(issuer.to_owned()), account.to_owned()),
                None => (None, decode(label)),
            },
        };
        let mut totp = Self {
            secret: Vec::new(),
            digits: 6,
            algorithm: Algorithm::Sha1,
            period: 30,
            issuer,
            account,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            totp.set(&decode(key), &decode(value))?;
        }
        if totp.secret.is_empty() {
            return Err(UriError::NoSecret);
        }
        if totp.account.is_empty() {
            return Err(UriError::NoAccount);
        }
        Ok(totp)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), UriError> {
        match key {
            "secret" => {
                self.secret = BASE32_NOPAD
                    .decode(value.as_bytes())
                    .map_err(|_| UriError::Invalid("secret"))?;
            }
            "digits" => {
                let digits = value.parse().ok().filter(|digits| (1..=MAX_DIGITS).contains(digits));
                self.digits = digits.ok_or(UriError::Invalid("digits"))?;
            }
            "period" => {
                let period = value.parse().ok().filter(|period| *period > 0);
                self.period = period.ok_or(UriError::Invalid("period"))?;
            }
            "algorithm" => {
                self.algorithm = Algorithm::parse(value).ok_or(UriError::Invalid("algorithm"))?;
            }
            "issuer" => self.issuer = Some(value.to_owned()),
            other => return Err(UriError::Unknown(other.to_owned())),
        }
        Ok(())
    }

    /// The URI in its normal form.
    pub fn uri(&self) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let issuer = self.issuer.as_deref().map(encode);
        let label = match &issuer {
            Some(issuer) => format!("{issuer}:{}", encode(&self.account)),
            None => encode(&self.account),
        };
        let mut uri = format!(
            "otpauth://totp/{label}?secret={}&digits={}&algorithm={}&period={}",
            BASE32_NOPAD.encode(&self.secret),
            self.digits,
            self.algorithm.name(),
            self.period,
        );
        if let Some(issuer) = issuer {
            uri.push_str("&issuer=");
            uri.push_str(&issuer);
        }
        uri
    }

    /// The code that a device shows at a time, Unix seconds; at none before 1970.
    pub fn code_at(&self, now: i64) -> Option<String> {
        Some(self.code(u64::try_from(now).ok()? / self.period))
    }

    /// The code of a time step (RFC 4226 §5.3).
    fn code(&self, step: u64) -> String {
        let counter = step.to_be_bytes();
        let hash = match self.algorithm {
            Algorithm::Sha1 => mac::<Hmac<sha1::Sha1>>(&self.secret, &counter),
            Algorithm::Sha256 => mac::<Hmac<sha2::Sha256>>(&self.secret, &counter),
            Algorithm::Sha512 => mac::<Hmac<sha2::Sha512>>(&self.secret, &counter),
        };
        let offset = usize::from(hash.last().copied().unwrap_or_default() & 0xf);
        let word = hash
            .iter()
            .skip(offset)
            .take(4)
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        let code = (word & 0x7fff_ffff) % 10_u32.pow(self.digits);
        format!("{code:0width$}", width = self.digits as usize)
    }

    /// The time step whose code this is, of those that count now; the latest if there are several.
    pub fn matching_step(&self, code: &str, now: i64) -> Option<u64> {
        let step = u64::try_from(now).ok()? / self.period;
        let steps = step.saturating_sub(TOLERANCE)..=step.saturating_add(TOLERANCE);
        // All are looked at, whichever fits.
        steps.fold(None, |found, step| {
            let fits: bool = self.code(step).as_bytes().ct_eq(code.as_bytes()).into();
            if fits { Some(step) } else { found }
        })
    }
}

fn mac<M: hmac::Mac + hmac::digest::KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    // HMAC takes keys of any length.
    match <M as hmac::digest::KeyInit>::new_from_slice(key) {
        Ok(mac) => mac.chain_update(message).finalize().into_bytes().to_vec(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &[u8] = b"12345678901234567890";

    fn totp(more: &str) -> Totp {
        Totp::parse(&format!(
            "otpauth://totp/a?secret={}{more}",
            BASE32_NOPAD.encode(SECRET)
        ))
        .unwrap()
    }

    /// Reference 02 §16, vectors 30 and 31; RFC 6238 appendix B for the other hashes.
    #[test]
    fn codes_are_those_of_the_standard() {
        for (time, six, eight) in [
            (59, "287082", "94287082"),
            (1_111_111_109, "081804", "07081804"),
            (1_234_567_890, "005924", "89005924"),
            (2_000_000_000, "279037", "69279037"),
        ] {
            assert_eq!(totp("").code(time / 30), six);
            assert_eq!(totp("&digits=8").code(time / 30), eight);
        }
        for (algorithm, secret, code) in [
            ("SHA256", b"12345678901234567890123456789012".to_vec(), "46119246"),
            ("sha512", b"1234567890".repeat(7)[..64].to_vec(), "90693936"),
        ] {
            let secret = BASE32_NOPAD.encode(&secret);
            let uri = format!("otpauth://totp/a?secret={secret}&digits=8&algorithm={algorithm}");
            assert_eq!(Totp::parse(&uri).unwrap().code(1), code);
        }
    }

    #[test]
    fn one_step_before_and_after_counts() {
        let totp = totp("");
        for (now, step) in [
            (29, Some(1)),
            (30, Some(1)),
            (59, Some(1)),
            (60, Some(1)),
            (89, Some(1)),
            (90, None),
            (-1, None),
        ] {
            assert_eq!(totp.matching_step("287082", now), step, "{now}");
        }
        assert_eq!(totp.matching_step("28708", 59), None);
        assert_eq!(totp.matching_step("", 59), None);
    }

    #[test]
    fn uris() {
        let plain = "otpauth://totp/Lab:alice?secret=GEZDGNBVGY3TQOJQ&digits=6&algorithm=SHA1&period=30&issuer=Lab";
        assert_eq!(Totp::parse(plain).unwrap().uri(), plain);
        for (uri, normal) in [
            (
                "otpauth://totp/a%40b?secret=GEZDGNBVGY3TQOJQ",
                "otpauth://totp/a%40b?secret=GEZDGNBVGY3TQOJQ&digits=6&algorithm=SHA1&period=30",
            ),
            (
                "otpauth://totp/My%20Lab%3Aa?period=60&secret=GEZDGNBVGY3TQOJQ&algorithm=sha256&digits=8",
                "otpauth://totp/My%20Lab:a?secret=GEZDGNBVGY3TQOJQ&digits=8&algorithm=SHA256&period=60&issuer=My%20Lab",
            ),
        ] {
            assert_eq!(Totp::parse(uri).unwrap().uri(), normal);
        }
        for (uri, text) in [
            ("https://totp/a?secret=GEZDGNBVGY3TQOJQ", "not an otpauth uri"),
            ("otpauth://hotp/a?secret=GEZDGNBVGY3TQOJQ", "not an otpauth uri"),
            ("otpauth://totp/a?digits=6", "missing secret in otpauth url"),
            ("otpauth://totp/a", "missing secret in otpauth url"),
            (
                "otpauth://totp/?secret=GEZDGNBVGY3TQOJQ",
                "missing account name in otpauth uri",
            ),
            (
                "otpauth://totp/a?secret=GEZDGNBVGY3TQOJQ&image=x",
                "unknown otpauth uri parameter: 'image'",
            ),
            (
                "otpauth://totp/a?secret=1",
                "invalid value of otpauth uri parameter 'secret'",
            ),
            (
                "otpauth://totp/a?secret=GE&period=0",
                "invalid value of otpauth uri parameter 'period'",
            ),
            (
                "otpauth://totp/a?secret=GE&digits=10",
                "invalid value of otpauth uri parameter 'digits'",
            ),
            (
                "otpauth://totp/a?secret=GE&algorithm=MD5",
                "invalid value of otpauth uri parameter 'algorithm'",
            ),
        ] {
            assert_eq!(Totp::parse(uri).unwrap_err().to_string(), text, "{uri}");
        }
        assert!(!format!("{:?}", totp("")).contains("GEZ"));
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_is_stable(label in "[a-zA:%@ é]{0,12}", query in "(secret|digits|period|issuer|x)=[A-Z2-7%0-9]{0,12}(&(digits|period|issuer|algorithm)=[A-Z0-9%]{0,6}){0,4}") {
            if let Ok(totp) = Totp::parse(&format!("otpauth://totp/{label}?{query}")) {
                prop_assert_eq!(Totp::parse(&totp.uri()).unwrap(), totp);
            }
        }
    }
}
