//! Factors as older releases kept them: lines in `tfa.cfg`, and keys in a user's record (reference 02 §5.4, §8.6).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::{BASE32_NOPAD, HEXLOWER_PERMISSIVE};
use pve_schema::ids::UserId;
use pve_schema::list;
use serde_json::{Value, json};

use super::challenge::Required;
use super::config::{Entry, Factors, TotpEntry};
use super::totp::Totp;
use crate::domains::Realm;

/// What such entries are called.
const OLD_ENTRY: (&str, &str) = ("v1-entry", "<old version 1 entry>");
/// The digits of a code and the seconds of a step, unless the realm says otherwise.
const DEFAULTS: (u32, u64) = (6, 30);

/// Reads the lines `USERID:TYPE:BASE64(JSON)`; `None` if one is none of them.
pub(super) fn parse_file(text: &str) -> Option<BTreeMap<String, Factors>> {
    let mut users: BTreeMap<String, Factors> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(':').collect();
        let [user, kind, data] = fields[..] else { return None };
        let data: Value = serde_json::from_slice(&STANDARD.decode(data.trim()).ok()?).ok()?;
        let factors = users.entry(user.to_owned()).or_default();
        let keys = list::split(data.get("keys").and_then(Value::as_str).unwrap_or_default());
        match kind {
            "oath" => {
                let number = |name: &str| data.get("config")?.get(name)?.as_u64();
                let digits = number("digits")
                    .and_then(|digits| digits.try_into().ok())
                    .unwrap_or(DEFAULTS.0);
                let period = number("step").unwrap_or(DEFAULTS.1);
                let secrets = keys.into_iter().filter_map(secret);
                let entries = secrets.map(|secret| old_entry(totp(secret, digits, period, user)));
                factors.totp.extend(entries);
            }
            "yubico" => factors
                .yubico
                .extend(keys.into_iter().map(|key| old_entry(key.to_owned()))),
            "u2f" => factors.u2f.extend(u2f(&data).map(old_entry)),
            _ => return None,
        }
    }
    Some(users)
}

fn old_entry<T>(entry: T) -> Entry<T> {
    let (id, description) = OLD_ENTRY;
    Entry {
        id: id.to_owned(),
        description: description.to_owned(),
        created: 0,
        enable: true,
        entry,
    }
}

/// An object with `challenge` is a registration that was never finished.
fn u2f(data: &Value) -> Option<Value> {
    let (handle, key) = (data.get("keyHandle")?, data.get("publicKey")?);
    if data.get("challenge").is_some() {
        return None;
    }
    Some(json!({ "key": { "keyHandle": handle, "version": "U2F_V2" }, "public-key": key }))
}

fn totp(secret: Vec<u8>, digits: u32, period: u64, user: &str) -> TotpEntry {
    TotpEntry {
        uri: Totp::of_old_key(secret, digits, period, user).uri(),
        last_count: None,
    }
}

/// The spellings of a key: `v2-0xHEX`, `v2-BASE32`, 16 characters of base32, 40 of hex.
fn secret(key: &str) -> Option<Vec<u8>> {
    let base32 = |text: &str| BASE32_NOPAD.decode(text.to_uppercase().as_bytes()).ok();
    let hex = |text: &str| HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
    let secret = match key.strip_prefix("v2-") {
        Some(rest) => match rest.strip_prefix("0x") {
            Some(digits) => hex(digits),
            None => base32(rest),
        },
        None => match key.len() {
            16 => base32(key),
            40 => hex(key),
            _ => None,
        },
    };
    secret.filter(|secret| !secret.is_empty())
}

/// The factors that keys in a user's record stand for: of the kind that the realm demands, none without a demand.
pub(super) fn of_user(keys: &str, id: &UserId, realm: &Realm) -> Factors {
    let mut factors = Factors::default();
    let Ok(Some(required)) = Required::of(realm) else {
        return factors;
    };
    let option = |name: &str| realm.tfa_option(name)?.parse::<u64>().ok();
    let entry = |(index, key): (usize, &str)| (index, key.to_owned());
    for (index, key) in list::split(keys).into_iter().enumerate().map(entry) {
        let name = format!("<old userconfig key {index}>");
        match required {
            Required::Totp => {
                let digits = option("digits")
                    .and_then(|digits| digits.try_into().ok())
                    .unwrap_or(DEFAULTS.0);
                let period = option("step").unwrap_or(DEFAULTS.1);
                if let Some(secret) = secret(&key) {
                    factors
                        .totp
                        .push(Entry::new(&name, 0, totp(secret, digits, period, id.as_str())));
                }
            }
            Required::Yubico => factors.yubico.push(Entry::new(&name, 0, key)),
        }
    }
    factors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domains::Domains;

    #[test]
    fn lines_of_old_are_read() {
        let line = |kind: &str, data: Value| format!("a@pve:{kind}:{}\n", STANDARD.encode(data.to_string()));
        let text = format!(
            "# by hand\n\n{}{}{}{}",
            line(
                "oath",
                json!({"keys": "GEZDGNBVGY3TQOJQ v2-0x31 bad", "config": {"step": 60, "digits": 8}})
            ),
            line("yubico", json!({"keys": "ccccccbchvth"})),
            line("u2f", json!({"keyHandle": "h", "publicKey": "k"})),
            line("u2f", json!({"keyHandle": "h", "publicKey": "k", "challenge": "c"})),
        );
        let users = parse_file(&text).unwrap();
        let factors = &users["a@pve"];
        let uris: Vec<&str> = factors.totp.iter().map(|entry| entry.entry.uri.as_str()).collect();
        let tail = "digits=8&algorithm=SHA1&period=60&issuer=Proxmox%20VE";
        let head = "otpauth://totp/Proxmox%20VE:Old%20key%20for%20a%40pve?secret=";
        assert_eq!(
            uris,
            [format!("{head}GEZDGNBVGY3TQOJQ&{tail}"), format!("{head}GE&{tail}")]
        );
        assert_eq!((factors.totp[0].id.as_str(), factors.totp[0].created), OLD_ENTRY_ID);
        assert_eq!((factors.yubico.len(), factors.u2f.len()), (1, 1));
        for bad in ["a@pve:oath", "a@pve:magic:e30=", "a@pve:oath:!", "{broken"] {
            assert!(parse_file(bad).is_none(), "{bad}");
        }
    }

    const OLD_ENTRY_ID: (&str, i64) = ("v1-entry", 0);

    /// Reference 02 §8.6.
    #[test]
    fn keys_in_a_users_record_take_the_realms_word() {
        let id: UserId = "a@pve".parse().unwrap();
        let keys = "GEZDGNBVGY3TQOJQ,v2-gezdgnbvgy3tqojq v2-0x3132333435363738393031323334353637383930 nokey \
            3132333435363738393031323334353637383930";
        let factors = |tfa: &str| {
            let domains = Domains::parse(format!("pve: pve\n\ttfa {tfa}\n\n").as_bytes());
            of_user(keys, &id, domains.get("pve").unwrap())
        };
        let totp = factors("type=oath,digits=8,step=60").totp;
        let names: Vec<&str> = totp.iter().map(|entry| entry.description.as_str()).collect();
        let name = |n: usize| format!("<old userconfig key {n}>");
        assert_eq!(names, [name(0), name(1), name(2), name(4)]);
        assert!(
            totp[3]
                .entry
                .uri
                .ends_with("digits=8&algorithm=SHA1&period=60&issuer=Proxmox%20VE")
        );
        assert_eq!(factors("type=yubico").yubico.len(), 5);
    }
}
