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
