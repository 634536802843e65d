//! Parsers of what proves who somebody is. The keys are fixed and of no use to anybody.

use std::cell::OnceCell;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hmac::{Hmac, Mac as _};
use pve_access::openid::state;
use pve_access::password::Shadow;
use pve_access::secret::Secret;
use pve_access::tfa::TfaConfig;
use pve_access::tfa::totp::Totp;
use pve_access::ticket::keys::{self, PublicKey};
use pve_access::ticket::{self, Kind};
use pve_access::token::SecretCheck;
use pve_access::token::secrets::Secrets;
use pve_access::{AccessError, Credentials, UserConfig};
use pve_cfs::Cfs;
use pve_schema::Context;
use pve_schema::ids::{TokenId, UserId};
use serde_json::json;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use crate::{choice, factors, text};

/// The `pve-www.key` of reference 01 §6, and the secret that comes of it (vector 49).
const WWW_KEY: &[u8] = b"-----BEGIN RSA PRIVATE KEY-----\nlabkey\n-----END RSA PRIVATE KEY-----\n";
const WWW_SECRET: &str = "J4m6slTPVju9fXhiK/Xj1mAK5xpbE4XTB6gh6fPkRoA";
/// The time of that chapter's vectors.
const NOW: i64 = 0x65B0_C0DE;

/// The headers that carry a ticket or token: a line feed divides cookie and authorization.
pub fn credentials(data: &[u8]) {
    let text = text(data);
    let (cookie, authorization) = text.split_once('\n').unwrap_or((&text, ""));
    let both = Credentials::from_headers(Some(cookie), Some(authorization));
    if let Credentials::Ticket(ticket) = &both {
        // What we write ourselves is read as it was.
        let again = Credentials::from_headers(Some(&pve_access::credentials::cookie(ticket)), None);
        assert_eq!(again, both);
    }
}

/// Knows no secret.
struct Nobody;

impl SecretCheck for Nobody {
    fn is_secret(&self, _: &TokenId, _: &str) -> Result<bool, AccessError> {
        Ok(false)
    }
}

/// The value of a token header.
pub fn token_header(data: &[u8]) {
    let config = UserConfig::parse("user:root@pam:1:0::::::\ntoken:root@pam!ci:0:0::\n");
    assert!(pve_access::token::verify(&config, &Nobody, &text(data), NOW).is_err());
}

thread_local! {
    static KEY: OnceCell<Arc<PublicKey>> = const { OnceCell::new() };
}

/// A key pair in a directory that is gone afterwards.
fn public_key() -> Arc<PublicKey> {
    let directory = tempfile::tempdir().expect("a directory");
    let site = json!({
        "root": directory.path(), "instance": null, "address": "127.0.0.1", "node": "node1",
        "root_user": {"uid": 0, "gid": 0}, "web_user": {"uid": 0, "gid": 0},
    });
    let context = Context::new(serde_json::from_value(site).expect("a site"));
    std::fs::create_dir_all(context.site.path("/etc/pve/priv")).expect("a directory");
    keys::generate_auth_key(&context).expect("a key");
    PublicKey::current(&Cfs::new(&context)).expect("a key").expect("a key")
}

/// A ticket of any kind: the first byte chooses which is expected.
pub fn login_ticket(data: &[u8]) {
    let Some((kind, rest)) = choice(data) else { return };
    let (kind, secret) = match kind % 3 {
        0 => (Kind::Login, None),
        1 => (Kind::Vnc, Some("root@pam:/vms/100")),
        _ => (Kind::Tunnel, Some("root@pam:/socket")),
    };
    let key = KEY.with(|key| Arc::clone(key.get_or_init(public_key)));
    assert_eq!(ticket::verify(&key, kind, &text(rest), secret), None, "forged");
}

/// A CSRF prevention token: as sent, and with the signature that it would need.
pub fn csrf_token(data: &[u8]) {
    let secret = Secret::derive(WWW_KEY);
    let sent = text(data);
    let time = sent.split(':').next().unwrap_or_default();
    let mac = Hmac::<Sha256>::new_from_slice(WWW_SECRET.as_bytes()).expect("a key");
    let digest = mac.chain_update(format!("{time}:root@pam")).finalize().into_bytes();
    let signed = format!("{time}:{}", STANDARD_NO_PAD.encode(digest));
    // The key is known here, so a fuzzer may come upon a good token; but on no other.
    assert!(
        sent == signed || !secret.verify_csrf_token(&sent, "root@pam", NOW),
        "forged"
    );
    if secret.verify_csrf_token(&signed, "root@pam", NOW) {
        assert!(
            time.len() == 8 && !time.contains(|c: char| c.is_ascii_lowercase()),
            "{time}"
        );
    }
}

/// `tfa.cfg`: a line feed divides the user from the file's content.
pub fn tfa_cfg(data: &[u8]) {
    let text = text(data);
    let (user, content) = text.split_once('\n').unwrap_or(("root@pam", &text));
    let (Ok(user), Ok(config)) = (user.parse::<UserId>(), TfaConfig::parse(content, NOW)) else {
        return;
    };
    // Whoever is not named in the file has no entry.
    if !content.contains('\\') && !content.contains(user.as_str()) {
        assert!(!config.users.contains_key(&user), "{user}");
    }
    // What is written is read as the same, whichever form it had.
    let written = config.print().expect("every content can be written");
    assert_eq!(TfaConfig::parse(&written, NOW).expect("our own form"), config);
    for factors in config.users.values() {
        factors::try_keys(&mut factors.webauthn.clone());
    }
    for entry in config.users.values().flat_map(|factors| &factors.totp) {
        let Ok(totp) = Totp::parse(&entry.entry.uri) else {
            continue;
        };
        assert_eq!(Totp::parse(&totp.uri()).as_ref(), Ok(&totp));
        assert!(totp.matching_step("junk", NOW).is_none());
    }
}

/// `shadow.cfg`: a line feed divides a user's name from the file's content.
pub fn shadow_cfg(data: &[u8]) {
    let text = text(data);
    let (user, content) = text.split_once('\n').unwrap_or(("alice", &text));
    let shadow = Shadow::parse(content);
    let once = shadow.print();
    let again = Shadow::parse(&once);
    assert_eq!(again.print(), once);
    assert_eq!(again.hash(user), shadow.hash(user));
}

/// What a ticket's text must be signed with.
fn spice_signature(plain: &str) -> String {
    hex::encode(Sha1::new().chain_update(plain).chain_update(WWW_SECRET).finalize())
}

/// The `Host` of a viewer's `CONNECT`: as sent, and with the signature that it would need.
pub fn spice_ticket(data: &[u8]) {
    let secret = Secret::derive(WWW_KEY);
    let sent = text(data);
    if secret.verify_spice_host(&sent, NOW).is_ok() {
        // The key is known here, so a fuzzer may come upon a good ticket; but on no other.
        let (plain, rest) = sent.rsplit_once("::").expect("a signature");
        assert!(rest.starts_with(&spice_signature(plain)), "forged");
    }
    let (plain, port) = sent.rsplit_once(':').unwrap_or((&sent, "61000"));
    let signature = spice_signature(plain);
    if let Ok(target) = secret.verify_spice_host(&format!("{plain}::{signature}:{port}"), NOW) {
        assert!(plain.starts_with("pvespiceproxy:") && !target.node.contains(':'));
        assert_eq!(port.parse(), Ok(target.port));
    }
}

/// `priv/token.cfg`: what is written is read as the same again, and written the same.
pub fn token_cfg(data: &[u8]) {
    let secrets = Secrets::parse(&text(data));
    let printed = secrets.print();
    let again = Secrets::parse(&printed);
    assert_eq!(again, secrets);
    assert_eq!(again.print(), printed);
}

/// The log-ins through OpenID Connect that have begun: none of them is too old, and they come back as they were.
pub fn openid_state(data: &[u8]) {
    let Ok(begun) = state::parse(data, NOW) else { return };
    assert!(begun.iter().all(|one| (NOW - 599..=NOW).contains(&one.ctime)));
    let printed = serde_json::to_vec(&begun).expect("plain values");
    assert_eq!(state::parse(&printed, NOW).expect("what was written"), begun);
}
