//! RSA-signed tickets (reference 02 §6.1 to §6.3).
//!
//! ```text
//! plain  = PREFIX ":" [ DATA ":" ] TS          TS: 8 upper-case hex digits of Unix time
//! signed = plain [ ":" SECRET ]
//! ticket = plain "::" BASE64(signature)
//! ```
//!
//! | module | holds |
//! |---|---|
//! | this | layout, signing, verification |
//! | [`keys`] | the key pair: loading, generation, rotation |
//! | [`window`] | between which ages a log-in ticket is good |

pub mod keys;
mod verified;
pub mod window;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pve_schema::text;
use sha1::{Digest as _, Sha1};

pub use keys::{PublicKey, SigningKey, generate_auth_key, is_stale, rotate_if_stale};
use window::Window;

/// What kind of ticket it is: the text it begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Log-in, also half of one.
    Login,
    /// Consoles.
    Vnc,
    /// Migration tunnels.
    Tunnel,
}

impl Kind {
    /// The prefix, which also stands in the error text.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Login => "PVE",
            Self::Vnc => "PVEVNC",
            Self::Tunnel => "PVETUNNEL",
        }
    }
}

/// Makes a ticket.
///
/// # Errors
/// The key cannot sign.
pub fn assemble(
    key: &SigningKey,
    kind: Kind,
    data: Option<&str>,
    secret: Option<&str>,
    now: i64,
) -> Result<String, pve_sys::rsa::RsaError> {
    let mut plain = format!("{}:", kind.prefix());
    if let Some(data) = data {
        plain.push_str(&data.replace(':', "%3A"));
        plain.push(':');
    }
    plain.push_str(&format!("{now:08X}"));
    let digest = Sha1::digest(signed_text(&plain, secret).as_bytes());
    let signature = key.sign_sha1(&digest.into())?;
    Ok(format!("{plain}::{}", STANDARD.encode(signature)))
}

fn signed_text(plain: &str, secret: Option<&str>) -> String {
    match secret {
        Some(secret) => format!("{plain}:{secret}"),
        None => plain.to_owned(),
    }
}

/// A ticket whose signature was found good: what it says. Whether it is still good is a question of its age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The data, decoded.
    pub data: Option<String>,
    /// When it was issued, Unix seconds.
    pub issued: i64,
}

impl Statement {
    /// Whether it is good at a time.
    pub fn is_within(&self, window: Window, now: i64) -> bool {
        let age = now - self.issued;
        window.min < age && age < window.max
    }
}

/// What a ticket of a kind says, if the key signed it.
pub fn verify(key: &keys::PublicKey, kind: Kind, ticket: &str, secret: Option<&str>) -> Option<Statement> {
    let (plain, signature) = ticket.rsplit_once("::")?;
    let body = plain.strip_prefix(kind.prefix())?.strip_prefix(':')?;
    let is_clean = !body.is_empty() && !body.chars().any(char::is_whitespace);
    if !is_clean || signature.is_empty() || signature.contains(':') {
        return None;
    }
    let signature = STANDARD.decode(signature).ok()?;
    let (data, time) = match body.rsplit_once(':') {
        Some((data, time)) => (Some(data), time),
        None => (None, body),
    };
    if data.is_some_and(str::is_empty) {
        return None;
    }
    let issued = decode_time(time)?;
    if !verified::is_signed(key, &signed_text(plain, secret), &signature) {
        return None;
    }
    Some(Statement {
        data: data.map(text::decode),
        issued,
    })
}

/// Reads eight characters of `[A-Z0-9]` that are upper-case hex digits.
pub(crate) fn decode_time(text: &str) -> Option<i64> {
    let valid = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    if valid {
        i64::from_str_radix(text, 16).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticket::keys::test_key;
    use proptest::prelude::*;

    const NOW: i64 = 0x66F0_1234;
    const LOGIN: &str = "PVE:alice@pve:66F01234::kjWAfYzc9EnsQh67+/k6wj/nRKH+iUOHuYWmyle8hgzzD2EB8AOchV0NCqyY+krv+DBahsGBEMeF/vXb39p2zQpA98OLXqSJAXNdUrOBVcDPcGYoKR+KSVG7jGXJcsd1X3BjU3iyg9TzmSaJtSvvlfwR7h8jk9qMK8rdw0cOLCg=";
    const HALF: &str = "PVE:!tfa!{\"totp\"%3Atrue,\"recovery\"%3A[0,2]}:66F01234::BV3aXh1yCRdX2zEbI73zKdr7sP/NUfrz5pwqdiRO241VP/04S6XUHoATtGN20n5obQgWMCfzdT0awg78AHe6zQfaYipDi5wgci2ohgLu/AOXLEhvKxlyCD/A2MgOhBt46aHrwWNMhYeXi5ekSYEYMynqQCLoig4S0QazAM1xE60=";
    const VNC: &str = "PVEVNC:66F01234::o+lgXPMEm9EbalUlJVohN7N63/qaSN0QpjgnuTZeyW2qa4pGuNeylVXy16K8zzFz2GtY8A1MIsRd8Cq3ZLMqH2PDK3ApNEsJrINR61Mv/XFSysooSgzz07euoIs+P6lGAOvPPF1YpSNmuYJacoB7X172BWYUP4T5+78zM3GZEK0=";
    const TUNNEL: &str = "PVETUNNEL:66F01234::N93YKGw5DHoUqnAS1EfCTJLb5Z4h8Y8ErzqWhvHwe8yWdpQamKnaXYw6XNGMcqwylNdj8tVjJ+dPvfAWEX8smW6Wm4Ts7HYZf66LA3wiy5qViaMFnZC/gl863+72TtpWBFsgOE4yKww78JFcely8f4dSfXHNPMwpwvv2ojWSTkc=";

    /// Reference 02 §16, vectors 33 to 37.
    #[test]
    fn tickets_of_all_kinds() {
        let (key, public) = test_key();
        let challenge = "!tfa!{\"totp\":true,\"recovery\":[0,2]}";
        let cases = [
            (Kind::Login, Some("alice@pve"), None, LOGIN),
            (Kind::Login, Some(challenge), Some("alice@pve"), HALF),
            (Kind::Vnc, None, Some("alice@pve:/vms/100:5901"), VNC),
            (
                Kind::Tunnel,
                None,
                Some("root@pam!mig:/socket/run/qemu-server/100.mtunnel"),
                TUNNEL,
            ),
        ];
        for (kind, data, secret, ticket) in cases {
            assert_eq!(assemble(&key, kind, data, secret, NOW).unwrap(), ticket);
            let statement = verify(&public, kind, ticket, secret).unwrap();
            assert_eq!((statement.data.as_deref(), statement.issued), (data, NOW));
            // A second look comes from the cache and says the same.
            assert_eq!(verify(&public, kind, ticket, secret).unwrap(), statement);
            assert_eq!(verify(&public, kind, ticket, Some("else")), None);
        }
        assert_eq!(verify(&public, Kind::Login, HALF, None), None);
        assert_eq!(verify(&public, Kind::Vnc, TUNNEL, None), None);
        assert_eq!(
            verify(&public, Kind::Login, &LOGIN.replace("alice", "admin"), None),
            None
        );
        assert_eq!(verify(&public, Kind::Login, &LOGIN.replace("::k", "::j"), None), None);
        assert_eq!(verify(&public, Kind::Login, &format!("{LOGIN}\n"), None), None);
    }

    proptest! {
        #[test]
        fn junk_is_refused_without_panic(ticket in "(PVE|PVEVNC)?:?[A-Za-z0-9%@:+/=é \n]{0,60}(::)?[A-Za-z0-9+/=:]{0,20}") {
            let (_, public) = test_key();
            prop_assert_eq!(verify(&public, Kind::Login, &ticket, None), None);
        }
    }
}
