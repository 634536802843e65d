//! Logging in with a key, and all that must not let anybody in.

use super::*;

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
    assert_eq!(failures(&lab), 0, "it says nothing of the key");
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

/// Else whoever finds the directory full could guess for ever.
#[test]
fn where_no_wrong_answer_can_be_counted_a_right_one_does_not_open() {
    let lab = lab();
    register(&lab, "alice@pve", &SecurityKey::new("key-1"));
    let recovery = NewFactor {
        kind: "recovery",
        ..NewFactor::default()
    };
    let Ok(Added::Recovery(keys)) = add_any(&lab, "alice@pve", recovery) else {
        panic!("recovery keys")
    };
    let answer = |ticket: &str, key: &str| {
        let password = format!("recovery:{key}");
        let request = LoginRequest {
            password: &password,
            tfa_challenge: Some(ticket),
            ..LoginRequest::default()
        };
        log_in(&lab, request).is_ok()
    };
    let (ticket, _) = half(&lab);
    assert!(!answer(&ticket, "wrong"));
    assert_eq!(failures(&lab), 1);

    let in_the_way = lab.context.site.path("/run/pve-private/tfa-challenges/alice@pve:new");
    std::fs::create_dir(&in_the_way).unwrap();
    let (ticket, options) = half(&lab);
    assert_eq!(options, Value::Null, "no key is asked, but it is demanded as before");
    assert!(!answer(&ticket, &keys[0]));
    std::fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(failures(&lab), 1);

    let path = lab.context.site.path("/run/pve-private/tfa-challenges/alice@pve");
    std::fs::write(&path, "{\"tfa_fail").unwrap();
    let (ticket, _) = half(&lab);
    assert!(!answer(&ticket, &keys[0]), "what was counted is not known");
    change::unlock(&lab.context, &id("alice@pve")).unwrap();
    assert_eq!(failures(&lab), 0);
    assert!(answer(&ticket, &keys[0]));
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
