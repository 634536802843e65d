//! Where the 93 vectors of reference 02 §16 are tested, and the two that stand nowhere else.
//!
//! | vectors | test |
//! |---|---|
//! | 1–7 | `pve-schema` `ids::access::tests::user_and_token_ids` |
//! | 8, 9 | here |
//! | 10–12 | `pve-schema` `text` (encoding, split lists), and `list` |
//! | 13–20 | `paths::tests` |
//! | 21–24 | `secret::tests` |
//! | 25–28 | `pve-sys` `crypt::tests`: by the system's libcrypt, yescrypt (27) too |
//! | 29 | `tfa::recovery::tests` |
//! | 30, 31 | `tfa::totp::tests` |
//! | 32, 90 | `domains::tests`; 90 by the API, too: `pve-api` `tests/access.rs` |
//! | 33–37 | `ticket::tests` |
//! | 38–42 | `ticket::window::tests` |
//! | 43 | `user_config::tests` |
//! | 44–52 | `permissions::tests` |
//! | 53–63 | `check::tests` |
//! | 64–75 | `permissions::tests` |
//! | 76–89 | `pve-api` `tests/access.rs` |
//! | 91 | `pve-api` `tests/realms.rs` |
//! | 92 | `pve-api` `tests/realms.rs` |
//! | 93 | `domains::edit::tests` |

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

use pve_contract::{Verb, find};
use pve_schema::check;

/// What a parameter's check says to a value.
fn told(path: &str, parameter: &str, value: &str) -> Result<(), String> {
    let schema = find(path, Verb::Post).unwrap().parameter(parameter).unwrap().schema;
    check::text(schema, value, parameter)
        .map(drop)
        .map_err(|text| text.trim_end().to_owned())
}

#[test]
fn vector_8_realms() {
    let told = |realm| told("/access/domains", "realm", realm);
    let no_realm = Err("invalid format - value does not look like a valid realm".to_owned());
    assert_eq!(told("a"), no_realm);
    assert_eq!(told("1a"), no_realm);
    assert_eq!(told("a.b-c_d"), Ok(()));
}

#[test]
fn vector_9_pools() {
    let told = |pool| told("/pools", "poolid", pool);
    let refused = |text: &str| Err(format!("invalid format - pool name '{text}"));
    assert_eq!(told("a/b/c"), Ok(()));
    assert_eq!(told("a/b/c/d"), refused("a/b/c/d' nested too deeply (max levels = 3)"));
    assert_eq!(told("a//b"), refused("a//b' contains invalid characters"));
}
