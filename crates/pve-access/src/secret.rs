//! The shared secret of web side and root side, and what is signed with it: CSRF prevention tokens and SPICE proxy
//! tickets (reference 02 §6.4, §6.5).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hmac::{Hmac, Mac as _};
use pve_cfs::Cfs;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::error::AccessError;
use crate::ticket::decode_time;
use crate::ticket::window;

/// The file that the secret is made from.
const WWW_KEY: &str = "pve-www.key";
/// What a SPICE proxy ticket begins with.
const SPICE_PREFIX: &str = "pvespiceproxy:";

/// The secret, as text of 43 characters.
#[derive(Clone)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a SPICE viewer wants to be connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpiceTarget {
    /// The guest.
    pub vmid: u32,
    /// Its node, in lower case.
    pub node: String,
    /// The TCP port on that node.
    pub port: u16,
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    // An HMAC takes a key of any length: the error cannot occur, and an empty digest would match nothing.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(message).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

impl Secret {
    /// Derives the secret from the bytes of `pve-www.key`.
    pub fn derive(key: &[u8]) -> Self {
        Self(STANDARD_NO_PAD.encode(hmac(key, b"")))
    }

    /// Loads the secret; a changed file counts at once.
    ///
    /// # Errors
    /// The file is missing or cannot be read.
    pub fn load(cfs: &Cfs) -> Result<Self, AccessError> {
        let secret = cfs.cached(WWW_KEY, "secret", |bytes, _| {
            bytes
                .filter(|bytes| !bytes.is_empty())
                .map(|bytes| Arc::new(Self::derive(bytes)))
        })?;
        match &*secret {
            Some(secret) => Ok((**secret).clone()),
            None => Err(AccessError::plain("unable to load secret from '/etc/pve/pve-www.key'")),
        }
    }

    /// The token that a browser session sends along with every change.
    pub fn csrf_token(&self, user: &str, now: i64) -> String {
        let time = format!("{now:08X}");
        format!("{time}:{}", self.csrf_digest(&time, user))
    }

    /// Whether a CSRF prevention token is this user's and neither too old nor from the future.
    pub fn verify_csrf_token(&self, token: &str, user: &str, now: i64) -> bool {
        let Some((time, digest)) = token.split_once(':') else {
            return false;
        };
        let Some(issued) = decode_time(time) else { return false };
        let age = now - issued;
        let is_same = bool::from(digest.as_bytes().ct_eq(self.csrf_digest(time, user).as_bytes()));
        is_same && window::CSRF.min < age && age < window::CSRF.max
    }

    fn csrf_digest(&self, time: &str, user: &str) -> String {
        STANDARD_NO_PAD.encode(hmac(self.0.as_bytes(), format!("{time}:{user}").as_bytes()))
    }

    /// The proxy ticket of a SPICE viewer: the `host` of its configuration. All in lower case, as the viewer makes it so.
    pub fn spice_ticket(&self, vmid: u32, node: &str, port: u16, now: i64) -> String {
        let plain = format!("{SPICE_PREFIX}{now:08x}:{vmid}:{}:{port}", node.to_ascii_lowercase());
        format!("{plain}::{}", self.spice_signature(&plain))
    }

    /// Where a viewer may be connected, from the `Host` of its `CONNECT`: a proxy ticket, `:`, the port.
    ///
    /// # Errors
    /// The ticket is not ours, too old, or for another port.
    pub fn verify_spice_host(&self, host: &str, now: i64) -> Result<SpiceTarget, AccessError> {
        self.spice_target(host, now).ok_or(AccessError::InvalidSpiceTicket)
    }

    fn spice_target(&self, host: &str, now: i64) -> Option<SpiceTarget> {
        let (ticket, port) = host.rsplit_once(':')?;
        let (plain, signature) = ticket.rsplit_once("::")?;
        if !bool::from(signature.as_bytes().ct_eq(self.spice_signature(plain).as_bytes())) {
            return None;
        }
        let fields: Vec<&str> = plain.strip_prefix(SPICE_PREFIX)?.split(':').collect();
        let (time, vmid, node) = match fields[..] {
            // Tickets of old daemons leave the port open.
            [time, vmid, node] => (time, vmid, node),
            [time, vmid, node, signed_port] if signed_port == port => (time, vmid, node),
            _ => return None,
        };
        let is_hex = time.len() == 8 && time.bytes().all(|b| b.is_ascii_hexdigit());
        let age = now - i64::from_str_radix(time, 16).ok().filter(|_| is_hex)?;
        if !(window::SHORT.min < age && age < window::SHORT.max) {
            return None;
        }
        Some(SpiceTarget {
            vmid: vmid.parse().ok()?,
            node: node.to_owned(),
            port: port.parse().ok()?,
        })
    }

    fn spice_signature(&self, plain: &str) -> String {
        let digest = Sha1::new().chain_update(plain).chain_update(&self.0).finalize();
        hex::encode(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 0x66F0_1234;

    fn secret() -> Secret {
        Secret::derive(b"-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\n")
    }

    fn labkey() -> Secret {
        Secret::derive(b"-----BEGIN RSA PRIVATE KEY-----\nlabkey\n-----END RSA PRIVATE KEY-----\n")
    }

    /// Reference 02 §16, vectors 21 and 22; 01 §6, vectors 49 and 50.
    #[test]
    fn csrf_tokens() {
        assert_eq!(secret().0, "SkxkwpICuLXt1SoxehX2G6LeOqjXRDN1pa7R8uaU5y8");
        assert_eq!(labkey().0, "J4m6slTPVju9fXhiK/Xj1mAK5xpbE4XTB6gh6fPkRoA");
        let token = secret().csrf_token("alice@pve", NOW);
        assert_eq!(token, "66F01234:bDAlMFeJnPv1jmqXlxxki4pwQGDWtUThQFeorYlWnec");
        assert_eq!(
            labkey().csrf_token("root@pam", 0x65B0_C0DE),
            "65B0C0DE:JOtN059hXkZOO0bGimOwdoYCTWAtD0E0G7ju4nNqcxM"
        );
        let good = |token: &str, user, now| secret().verify_csrf_token(token, user, now);
        for (age, is_good) in [(-300, false), (-299, true), (0, true), (7199, true), (7200, false)] {
            assert_eq!(good(&token, "alice@pve", NOW + age), is_good, "{age}");
        }
        assert!(!good(&token, "bob@pve", NOW));
        assert!(!good(&token.replace("66F", "66f"), "alice@pve", NOW));
        assert!(!good("66F01234", "alice@pve", NOW));
    }

    /// Reference 02 §16, vectors 23 and 24; 01 §6, vectors 51 and 52.
    #[test]
    fn spice_tickets() {
        let ticket = secret().spice_ticket(100, "Node1", 61000, NOW);
        assert_eq!(
            ticket,
            "pvespiceproxy:66f01234:100:node1:61000::729e9b978fe56311ea65449471902ae5db155823"
        );
        let target = SpiceTarget {
            vmid: 100,
            node: "node1".to_owned(),
            port: 61000,
        };
        let verify = |host: &str, now| secret().verify_spice_host(host, now).ok();
        assert_eq!(verify(&format!("{ticket}:61000"), NOW), Some(target.clone()));
        assert_eq!(verify(&format!("{ticket}:61001"), NOW), None);
        assert_eq!(verify(&format!("{ticket}:61000"), NOW + 40), None);
        assert_eq!(verify(&ticket, NOW), None);
        let now = 0x65B0_C0DE;
        for host in [
            "pvespiceproxy:65b0c0de:100:node1:61000::64752527f012b5db5bb9ca7e3ae5ceafebb2b601:61000",
            "pvespiceproxy:65b0c0de:100:node1::b79fd50b0e4be2a7f28d0a641c7e3f7cc6dfcc5d:61000",
        ] {
            assert_eq!(labkey().verify_spice_host(host, now).unwrap(), target);
        }
        let refused = labkey().verify_spice_host("x", now).unwrap_err();
        assert_eq!(refused.to_string(), "invalid ticket");
    }

    proptest! {
        #[test]
        fn junk_is_refused_without_panic(text in "\\PC{0,80}", hex in "[0-9A-Fa-f]{8}:[:a-z0-9]{0,60}") {
            for junk in [&text, &hex, &format!("pvespiceproxy:{hex}")] {
                prop_assert!(!secret().verify_csrf_token(junk, "a@pve", NOW));
                prop_assert!(secret().verify_spice_host(junk, NOW).is_err());
            }
        }
    }
}
