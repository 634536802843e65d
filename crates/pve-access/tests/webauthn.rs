//! Security keys: adding one, logging in with it, and all that must not let anybody in. The real browser is in
//! `tests/e2e/test_webauthn.py`.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;
#[path = "common/security_key.rs"]
mod security_key;

use common::Lab;
use pve_access::AccessError;
use pve_access::login::{Login, LoginRequest};
use pve_access::password;
use pve_access::tfa::add::{self, Added, NewFactor};
use pve_access::tfa::verify::Subject;
use pve_access::tfa::{self, change};
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
    let access = lab.access();
    let domains = access.domains().unwrap();
    let id = id(user);
    let subject = Subject {
        id: &id,
        user: access.require_user(&id).unwrap(),
        realm: domains.require(id.realm()).unwrap(),
    };
    add::add(
        &lab.context,
        subject,
        NewFactor {
            kind: "webauthn",
            ..new
        },
    )
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

#[test]
fn a_key_is_added_and_opens_once_per_challenge() {
    let lab = lab();
    let mut key = SecurityKey::new("key-1");
    let options = ask(&lab, "alice@pve");
    let asked = &options["publicKey"];
    assert_eq!(asked["rp"], json!({ "name": "Lab", "id": "localhost" }));
    assert_eq!(asked["user"]["name"], "alice@pve");
    assert_eq!(asked["authenticatorSelection"]["userVerification"], "discouraged");
    assert_eq!(asked["excludeCredentials"], json!([]));
    let entry_id = answer(&lab, "alice@pve", &options, &key.create(&options)).unwrap();

    let (ticket, options) = half(&lab);
    let asked = &options["publicKey"];
    assert_eq!(
        asked["allowCredentials"],
        json!([{ "type": "public-key", "id": base64url(b"key-1") }])
    );
    assert_eq!(asked["rpId"], "localhost");
    let said = key.get(&options);
    let login = finish(&lab, &ticket, &said).unwrap();
    assert!(login.capabilities.is_some());
    assert_eq!(entry(&lab)["entry"]["counter"], 1);
    assert!(finish(&lab, &ticket, &said).is_err(), "an answer is good once");
    assert_eq!(failures(&lab), 1);
    let again = key.get(&options);
    assert!(finish(&lab, &ticket, &again).is_err(), "and so is a challenge");

    // Two log-ins side by side.
    let ((first, to_first), (second, to_second)) = (half(&lab), half(&lab));
    finish(&lab, &second, &key.get(&to_second)).unwrap();
    finish(&lab, &first, &key.get(&to_first)).unwrap();
    assert_eq!(failures(&lab), 0);

    assert!(lab.read("user.cfg").contains("user:alice@pve:1:0:::::x:"));
    change::remove(&lab.context, &id("alice@pve"), &entry_id).unwrap();
    assert_eq!(lab.read("priv/tfa.cfg"), r#"{"users":{}}"#);
    assert!(lab.read("user.cfg").contains("user:alice@pve:1:0::::::"));
}

/// Whoever lacks the key, or has what another page got from it, stays out.
#[test]
fn wrong_answers_are_refused_and_counted() {
    let lab = lab();
    let mut key = SecurityKey::new("key-1");
    key.counter = 7;
    register(&lab, "alice@pve", &key);
    type Answer = fn(&mut SecurityKey, &Value) -> Value;
    let cases: [(&str, Answer); 9] = [
        ("another key", |_, options| SecurityKey::new("key-2").get(options)),
        ("another key of the same name", |_, options| {
            let mut other = SecurityKey::new("key-1");
            other.counter = 99;
            other.get(options)
        }),
        ("another page", |key, options| {
            key.origin = "https://localhost.example.org:8006".to_owned();
            key.get(options)
        }),
        ("another port", |key, options| {
            key.origin = "https://localhost:8007".to_owned();
            key.get(options)
        }),
        ("another relying party", |key, options| {
            key.rp_id = "example.org".to_owned();
            key.get(options)
        }),
        ("nobody there", |key, options| {
            key.is_user_present = false;
            key.get(options)
        }),
        ("a counter that stands still", |key, options| {
            key.sign("webauthn.get", options)
        }),
        ("another ceremony", |key, options| {
            key.counter += 1;
            key.sign("webauthn.create", options)
        }),
        ("a changed signature", |key, options| {
            let mut said = key.get(options);
            said["response"]["signature"] = json!(base64url(b"0E\x02\x20junk"));
            said
        }),
    ];
    for (number, (what, wrong)) in (1..).zip(cases) {
        let (ticket, options) = half(&lab);
        let error = finish(&lab, &ticket, &wrong(&mut key.clone(), &options)).unwrap_err();
        assert!(matches!(error, AccessError::LoginFailed), "{what}: {error}");
        assert_eq!(failures(&lab), number, "{what}");
    }
    // Answers to what was not asked.
    let (ticket, _) = half(&lab);
    let (_, other) = half(&lab);
    assert!(
        finish(&lab, &ticket, &key.clone().get(&other)).is_err(),
        "of another log-in"
    );
    assert!(finish(&lab, &ticket, &json!({})).is_err());
    assert!(finish(&lab, &ticket, &json!("x")).is_err());
    assert_eq!(failures(&lab), 12);

    let (ticket, options) = half(&lab);
    let whole = log_in(
        &lab,
        LoginRequest {
            password: PASSWORD,
            otp: Some(&format!("webauthn:{}", key.clone().get(&options))),
            ..LoginRequest::default()
        },
    );
    assert!(
        whole.is_err(),
        "nobody knows the challenge before the password was right"
    );
    finish(&lab, &ticket, &key.get(&options)).unwrap();
    assert_eq!(failures(&lab), 0);
}

#[test]
fn a_challenge_is_good_for_two_minutes() {
    let lab = lab();
    let mut key = SecurityKey::new("key-1");
    register(&lab, "alice@pve", &key);
    let (ticket, options) = half(&lab);
    lab.pass(119);
    finish(&lab, &ticket, &key.get(&options)).unwrap();
    let (ticket, options) = half(&lab);
    lab.pass(120);
    assert!(finish(&lab, &ticket, &key.get(&options)).is_err());

    let options = ask(&lab, "bob@pve");
    lab.pass(120);
    let error = answer(&lab, "bob@pve", &options, &SecurityKey::new("key-2").create(&options)).unwrap_err();
    assert_eq!((error.status(), error.to_string().as_str()), (500, "no such challenge"));
}

#[test]
fn a_disabled_key_is_not_asked_for() {
    let lab = lab();
    let mut key = SecurityKey::new("key-1");
    let mut other = SecurityKey::new("key-2");
    let entry_id = register(&lab, "alice@pve", &key);
    register(&lab, "alice@pve", &other);
    let enable = |on| change::update(&lab.context, &id("alice@pve"), &entry_id, None, Some(on)).unwrap();
    let (ticket, options) = half(&lab);
    enable(false);
    assert!(
        finish(&lab, &ticket, &key.get(&options)).is_err(),
        "not even by a challenge from before"
    );
    let (ticket, options) = half(&lab);
    let asked = &options["publicKey"]["allowCredentials"];
    assert_eq!(asked, &json!([{ "type": "public-key", "id": base64url(b"key-2") }]));
    assert!(finish(&lab, &ticket, &key.get(&options)).is_err());
    let (ticket, options) = half(&lab);
    finish(&lab, &ticket, &other.get(&options)).unwrap();
    enable(true);
    let (ticket, options) = half(&lab);
    finish(&lab, &ticket, &key.get(&options)).unwrap();
}

/// Reference 02 §8.8.
#[test]
fn what_cannot_be_added_is_refused_in_upstreams_words() {
    let lab = lab();
    let key = SecurityKey::new("key-1");
    let refused = |user: &str, new: NewFactor<'_>| match add(&lab, user, new) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it was added"),
    };
    let described = NewFactor {
        description: Some("x"),
        ..NewFactor::default()
    };
    assert_eq!(
        refused("alice@pve", NewFactor::default()),
        "'description' is required for new entries"
    );
    let options = ask(&lab, "alice@pve");
    let challenge = options["publicKey"]["challenge"].as_str();
    let second = |challenge, value| NewFactor {
        challenge,
        value,
        ..NewFactor::default()
    };
    assert_eq!(
        refused("alice@pve", second(challenge, None)),
        "missing 'value' parameter (webauthn challenge response missing)"
    );
    let value = key.create(&options);
    assert_eq!(
        refused("alice@pve", second(Some("AAAA"), Some(&value))),
        "no such challenge"
    );
    assert_eq!(
        refused("bob@pve", second(challenge, Some(&value))),
        "no such challenge",
        "it was another user who was asked"
    );
    answer(&lab, "alice@pve", &options, &value).unwrap();
    assert_eq!(
        refused("alice@pve", second(challenge, Some(&value))),
        "no such challenge"
    );

    for user in ["alice@pve", "bob@pve"] {
        let options = ask(&lab, user);
        let known = if user == "alice@pve" { 1 } else { 0 };
        assert_eq!(
            options["publicKey"]["excludeCredentials"].as_array().unwrap().len(),
            known
        );
        let error = answer(&lab, user, &options, &key.create(&options)).unwrap_err();
        assert_eq!(error.to_string(), "credential id already present", "{user}");
    }
    let mut elsewhere = SecurityKey::new("key-3");
    elsewhere.origin = "https://example.org".to_owned();
    let options = ask(&lab, "alice@pve");
    assert!(answer(&lab, "alice@pve", &options, &elsewhere.create(&options)).is_err());
    let options = ask(&lab, "alice@pve");
    let error = answer(&lab, "alice@pve", &options, "{}").unwrap_err().to_string();
    assert!(error.starts_with("webauthn response is not valid: "), "{error}");

    for settings in [
        "",
        "webauthn: rp=Lab\n",
        "webauthn: rp=Lab,id=localhost,origin=nonsense\n",
    ] {
        lab.cfs.write("datacenter.cfg", settings.as_bytes()).unwrap();
        assert_eq!(
            refused("alice@pve", described),
            "no webauthn configuration available",
            "{settings}"
        );
    }
    let u2f = NewFactor {
        kind: "u2f",
        ..described
    };
    let access = lab.access();
    let domains = access.domains().unwrap();
    let alice = id("alice@pve");
    let subject = Subject {
        id: &alice,
        user: access.require_user(&alice).unwrap(),
        realm: domains.require("pve").unwrap(),
    };
    let refused = || add::add(&lab.context, subject, u2f).err().unwrap();
    assert_eq!(refused().to_string(), "no u2f configuration available");
    lab.cfs
        .write("datacenter.cfg", b"u2f: appid=https://localhost:8006\n")
        .unwrap();
    assert_eq!(refused().status(), 501);
}

/// Reference 02 §8.1: a key that cannot be asked for is asked for all the same.
#[test]
fn nobody_gets_past_a_key_that_cannot_be_asked_for() {
    let lab = lab();
    let mut key = SecurityKey::new("key-1");
    register(&lab, "alice@pve", &key);
    let (_, options) = half(&lab);
    lab.cfs.write("datacenter.cfg", b"").unwrap();
    let (ticket, nothing) = half(&lab);
    assert_eq!(nothing, Value::Null);
    assert!(ticket.starts_with("PVE:!tfa!{}:"), "{ticket}");
    assert!(finish(&lab, &ticket, &key.get(&options)).is_err());
    lab.cfs.write("datacenter.cfg", SETTINGS.as_bytes()).unwrap();
    assert!(
        finish(&lab, &ticket, &key.get(&options)).is_err(),
        "this ticket asked for nothing"
    );

    // An entry that is none does no harm to others, and opens nothing.
    let strange = json!({ "users": {
        "alice@pve": { "webauthn": [{ "id": "1", "created": 1, "entry": { "made": "later" } }] },
        "bob@pve": {},
    }});
    lab.cfs.write("priv/tfa.cfg", strange.to_string().as_bytes()).unwrap();
    assert_eq!(half(&lab).1, Value::Null);
    let bob = LoginRequest {
        username: "bob@pve",
        password: PASSWORD,
        ..LoginRequest::default()
    };
    assert!(lab.access().login(&bob).unwrap().capabilities.is_some());
    // A realm that demands codes gets no answer of a key, so none is asked for.
    register(&lab, "alice@pve", &SecurityKey::new("key-9"));
    assert_ne!(half(&lab).1, Value::Null);
    lab.cfs.write("domains.cfg", b"pve: pve\n\ttfa type=oath\n\n").unwrap();
    assert_eq!(half(&lab).1, Value::Null);
}

#[test]
fn without_an_origin_it_is_where_the_request_was_sent_to() {
    let lab = lab();
    let mut key = SecurityKey::new("key-1");
    register(&lab, "alice@pve", &key);
    let log_in_at = |key: &mut SecurityKey, host| {
        let (ticket, options) = half_at(&lab, Some(host));
        let password = format!("webauthn:{}", key.get(&options));
        let request = LoginRequest {
            password: &password,
            tfa_challenge: Some(&ticket),
            host: Some(host),
            ..LoginRequest::default()
        };
        log_in(&lab, request)
    };
    let settings = |more: &str| {
        let text = format!("webauthn: rp=Lab,id=localhost{more}\n");
        lab.cfs.write("datacenter.cfg", text.as_bytes()).unwrap();
    };
    settings("");
    log_in_at(&mut key, "localhost:8006").unwrap();
    assert!(
        log_in_at(&mut key, "localhost:8007").is_err(),
        "the page is that of another port"
    );
    assert!(log_in_at(&mut key, "no host").is_err());
    // A page below the host counts, unless that is switched off.
    key.origin = "https://node1.localhost:8006".to_owned();
    log_in_at(&mut key, "localhost:8006").unwrap();
    settings(",allow-subdomains=0");
    assert!(log_in_at(&mut key, "localhost:8006").is_err());
}

/// Reference 02 §8.4: whether a key can be backed up may change, as it does when a device's keys go to a cloud.
#[test]
fn a_key_may_become_one_that_is_backed_up() {
    let lab = lab();
    let mut key = SecurityKey::new("key-1");
    register(&lab, "alice@pve", &key);
    for (number, is_backed_up) in (1..).zip([true, false, true]) {
        key.is_backed_up = is_backed_up;
        let (ticket, options) = half(&lab);
        finish(&lab, &ticket, &key.get(&options)).unwrap();
        let entry = &entry(&lab)["entry"];
        assert_eq!(entry["backup_eligible"], is_backed_up);
        assert_eq!(entry["backup_state"], is_backed_up);
        assert_eq!(entry["counter"], number);
    }
}

/// Reference 02 §5.4: the file is upstream's, and stays it.
#[test]
fn a_key_that_upstream_wrote_opens() {
    let lab = lab();
    let mut key = SecurityKey::new("key-1");
    let [x, y] = key.point().map(|number| base64url(&number));
    let text = format!(
        r#"{{"users":{{"alice@pve":{{"webauthn":[{{"id":"4a6e1f0c-3c2b-4f6e-9d55-0f4b5a1f2c3d","description":"yk","created":1717000000,"entry":{{"cred_id":"a2V5LTE","cred":{{"type_":"ES256","key":{{"EC_EC2":{{"curve":"SECP256R1","x":"{x}","y":"{y}"}}}}}},"counter":0,"backup_eligible":false,"backup_state":false}}}}]}}}}}}"#
    );
    let printed = tfa::TfaConfig::parse(&text, 0).unwrap().print().unwrap();
    assert_eq!(printed, text);
    lab.cfs.write("priv/tfa.cfg", text.as_bytes()).unwrap();
    let (ticket, options) = half(&lab);
    finish(&lab, &ticket, &key.get(&options)).unwrap();
    assert_eq!(lab.read("priv/tfa.cfg"), text.replace("\"counter\":0", "\"counter\":1"));

    // Before keys could be backed up; and what an entry must not have makes it no key, but loses nothing.
    let old = text.replace(",\"backup_eligible\":false,\"backup_state\":false", "");
    let config = tfa::TfaConfig::parse(&old, 0).unwrap();
    assert_eq!(config.print().unwrap(), text);
    let more = text.replace("\"counter\":0", "\"counter\":0,\"more\":1");
    let config = tfa::TfaConfig::parse(&more, 0).unwrap();
    assert!(config.users[&id("alice@pve")].webauthn[0].entry.key().is_none());
    let same = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(same(&config.print().unwrap()), same(&more));
}

#[test]
fn no_user_has_more_keys_than_a_log_in_can_name() {
    let lab = lab();
    for number in 0..16 {
        register(&lab, "alice@pve", &SecurityKey::new(&format!("key-{number}")));
    }
    let new = NewFactor {
        description: Some("one more"),
        ..NewFactor::default()
    };
    let error = add(&lab, "alice@pve", new).err().unwrap();
    assert_eq!(
        error.to_string(),
        "'alice@pve' has 16 WebAuthn factors already - remove one first"
    );
}
