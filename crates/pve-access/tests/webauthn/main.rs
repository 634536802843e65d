//! Security keys: adding one, logging in with it, and all that must not let anybody in. The real browser is in
//! `tests/e2e/test_webauthn.py`.

#![allow(clippy::unwrap_used, clippy::panic)]

mod adding;
#[path = "../common/mod.rs"]
mod common;
mod logging_in;
mod security_key;

use common::Lab;
use pve_access::AccessError;
use pve_access::login::{Login, LoginRequest};
use pve_access::password;
use pve_access::tfa::add::{self, Added, NewFactor};
use pve_access::tfa::change;
use pve_access::tfa::verify::Subject;
use pve_schema::Failure as _;
use pve_schema::ids::UserId;
use security_key::{SecurityKey, base64url};
use serde_json::{Value, json};

const USERS: &str = "user:alice@pve:1:0::::::\nuser:bob@pve:1:0::::::\n";
const SETTINGS: &str = "webauthn: rp=Lab,id=localhost,origin=https://localhost:8006\n";
const PASSWORD: &str = "S3cret!pw";

fn lab() -> Lab {
    let lab = Lab::with_users(USERS);
    lab.cfs.write("datacenter.cfg", SETTINGS.as_bytes()).unwrap();
    let domains = lab.access().domains().unwrap();
    for user in ["alice@pve", "bob@pve"] {
        password::set(&lab.context, &domains, &id(user), PASSWORD).unwrap();
    }
    lab
}

fn id(user: &str) -> UserId {
    user.parse().unwrap()
}

fn add(lab: &Lab, user: &str, new: NewFactor<'_>) -> Result<Added, AccessError> {
    let kind = "webauthn";
    add_any(lab, user, NewFactor { kind, ..new })
}

fn add_any(lab: &Lab, user: &str, new: NewFactor<'_>) -> Result<Added, AccessError> {
    let access = lab.access();
    let domains = access.domains().unwrap();
    let id = id(user);
    let subject = Subject {
        id: &id,
        user: access.require_user(&id).unwrap(),
        realm: domains.require(id.realm()).unwrap(),
    };
    add::add(&lab.context, subject, new)
}

fn ask(lab: &Lab, user: &str) -> Value {
    let new = NewFactor {
        description: Some("blue key"),
        ..NewFactor::default()
    };
    match add(lab, user, new).unwrap() {
        Added::Challenge(text) => serde_json::from_str(&text).unwrap(),
        _ => panic!("the browser is to be asked first"),
    }
}

/// The second call: the new entry's id.
fn answer(lab: &Lab, user: &str, options: &Value, value: &str) -> Result<String, AccessError> {
    let new = NewFactor {
        challenge: options["publicKey"]["challenge"].as_str(),
        value: Some(value),
        ..NewFactor::default()
    };
    Ok(match add(lab, user, new)? {
        Added::Entry(id) => id,
        _ => panic!("an entry"),
    })
}

fn register(lab: &Lab, user: &str, key: &SecurityKey) -> String {
    let options = ask(lab, user);
    answer(lab, user, &options, &key.create(&options)).unwrap()
}

fn log_in(lab: &Lab, request: LoginRequest<'_>) -> Result<Login, AccessError> {
    lab.access().login(&LoginRequest {
        username: "alice@pve",
        ..request
    })
}

/// The right password: half a ticket, and what the browser is asked.
fn half(lab: &Lab) -> (String, Value) {
    half_at(lab, None)
}

fn half_at(lab: &Lab, host: Option<&str>) -> (String, Value) {
    let request = LoginRequest {
        password: PASSWORD,
        host,
        ..LoginRequest::default()
    };
    let login = log_in(lab, request).unwrap();
    assert_eq!(login.capabilities, None, "a second factor is asked for");
    let ticket = login.session.unwrap().ticket;
    // As the web interface does it.
    let field = ticket.split(':').nth(1).unwrap().replace("%3A", ":");
    let challenge: Value = serde_json::from_str(field.strip_prefix("!tfa!").unwrap()).unwrap();
    (ticket, challenge["webauthn"].clone())
}

/// The answer to half a ticket.
fn finish(lab: &Lab, ticket: &str, answer: &Value) -> Result<Login, AccessError> {
    let password = format!("webauthn:{answer}");
    let request = LoginRequest {
        password: &password,
        tfa_challenge: Some(ticket),
        ..LoginRequest::default()
    };
    log_in(lab, request)
}

fn entry(lab: &Lab) -> Value {
    let file: Value = serde_json::from_str(&lab.read("priv/tfa.cfg")).unwrap();
    file["users"]["alice@pve"]["webauthn"][0].clone()
}

fn failures(lab: &Lab) -> u64 {
    let path = lab.context.site.path("/run/pve-private/tfa-challenges/alice@pve");
    let record: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    record["tfa_failures"].as_u64().unwrap_or_default()
}
