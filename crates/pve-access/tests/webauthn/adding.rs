//! Adding keys, and what the file has of them.

use pve_access::tfa;
use pve_schema::Failure as _;

use super::*;

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
    let options = ask(&lab, "alice@pve");
    let error = answer(&lab, "alice@pve", &options, "\"what was sent\"").unwrap_err();
    assert_eq!(
        error.to_string(),
        "webauthn response is not valid: unexpected value at line 1 column 15",
        "it is not quoted"
    );

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

#[test]
fn no_user_has_more_keys_than_a_log_in_can_name() {
    /// What `pve-http` takes from whoever has no ticket.
    const MAX_BODY: usize = 32 << 10;
    let lab = lab();
    let name = |number: usize| format!("{number:0>1023}");
    for number in 0..8 {
        register(&lab, "alice@pve", &SecurityKey::new(&name(number)));
    }
    let new = NewFactor {
        description: Some("one more"),
        ..NewFactor::default()
    };
    let error = add(&lab, "alice@pve", new).err().unwrap();
    assert_eq!(
        error.to_string(),
        "'alice@pve' has 8 WebAuthn factors already - remove one first"
    );
    let (ticket, options) = half(&lab);
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("username", "alice@pve")
        .append_pair("tfa-challenge", &ticket)
        .append_pair(
            "password",
            &format!("webauthn:{}", SecurityKey::new(&name(7)).get(&options)),
        )
        .append_pair("new-format", "1")
        .finish();
    // With room for longer signatures, and for what browsers add.
    assert!(form.len() < MAX_BODY - (4 << 10), "{}", form.len());

    let options = ask(&lab, "bob@pve");
    let long = SecurityKey::new(&"x".repeat(1024));
    let error = answer(&lab, "bob@pve", &options, &long.create(&options)).unwrap_err();
    assert_eq!(error.to_string(), "credential id is too long");
}

/// Nobody fills the file, by whatever kind of factor or description.
#[test]
fn a_users_factors_take_so_much_and_no_more() {
    let lab = lab();
    register(&lab, "alice@pve", &SecurityKey::new("key-1"));
    let alice = id("alice@pve");
    let entry_id = entry(&lab)["id"].as_str().unwrap().to_owned();
    let describe = |length| change::update(&lab.context, &alice, &entry_id, Some(&"x".repeat(length)), None);
    let too_much = "second factors of 'alice@pve' take more than 16384 bytes - remove one first";
    assert_eq!(describe(16384).unwrap_err().to_string(), too_much);
    describe(15800).unwrap();
    let recovery = NewFactor {
        kind: "recovery",
        ..NewFactor::default()
    };
    assert_eq!(
        add_any(&lab, "alice@pve", recovery).err().unwrap().to_string(),
        too_much
    );
    assert!(!lab.read("priv/tfa.cfg").contains("recovery"));
    describe(100).unwrap();
    add_any(&lab, "alice@pve", recovery).unwrap();
    // Written by another release: it stays, and becomes no more.
    let text = lab.read("priv/tfa.cfg").replace(&"x".repeat(100), &"x".repeat(20000));
    lab.cfs.write("priv/tfa.cfg", text.as_bytes()).unwrap();
    assert_eq!(describe(20001).unwrap_err().to_string(), too_much);
    describe(19000).unwrap();
}

#[test]
fn what_is_kept_of_a_question_names_no_keys() {
    let lab = lab();
    register(&lab, "alice@pve", &SecurityKey::new("key-1"));
    let options = ask(&lab, "alice@pve");
    assert_eq!(options["publicKey"]["excludeCredentials"].as_array().unwrap().len(), 1);
    let path = lab.context.site.path("/run/pve-private/tfa-challenges/alice@pve");
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(
        kept["webauthn_registrations"][0]["state"]["exclude_credentials"],
        json!([])
    );
}

/// The next user of that name must not have them.
#[test]
fn a_user_who_was_deleted_meanwhile_gets_no_factors() {
    let lab = lab();
    register(&lab, "alice@pve", &SecurityKey::new("key-1"));
    let (access, alice) = (lab.access(), id("alice@pve"));
    let domains = access.domains().unwrap();
    let subject = Subject {
        id: &alice,
        user: access.require_user(&alice).unwrap(),
        realm: domains.require("pve").unwrap(),
    };
    pve_access::users::delete(&lab.context, &"root@pam".parse().unwrap(), &alice).unwrap();
    let recovery = NewFactor {
        kind: "recovery",
        ..NewFactor::default()
    };
    let error = add::add(&lab.context, subject, recovery).err().unwrap();
    assert_eq!(error.to_string(), "no such user ('alice@pve')");
    assert_eq!(lab.read("priv/tfa.cfg"), r#"{"users":{}}"#);
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
