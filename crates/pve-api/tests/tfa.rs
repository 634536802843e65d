//! `/access/tfa` and logging in with a second factor, from route to reply (reference 02 §8).

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

mod common;
mod site;

use pve_access::tfa::totp::Totp;
use pve_contract::Verb;
use pve_rest::ApiError;
use pve_schema::Clock as _;
use serde_json::{Value, json};
use site::{Lab, plain};

const PASSWORD: &str = "alice's password";
const URI: &str =
    "otpauth://totp/Lab:alice?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&digits=6&algorithm=SHA1&period=30&issuer=Lab";
const ALICE: &str = "/access/tfa/alice@pve";
const LOCKED: &str = "/access/users/alice@pve/unlock-tfa";

/// A lab in which alice and bob have passwords; bob may look after the members of `ops`, alice among them.
fn lab() -> Lab {
    let lab = Lab::new();
    for user in ["alice@pve", "bob@pve"] {
        let params = json!({"userid": user, "password": PASSWORD});
        lab.root(Verb::Put, "/access/password", params).unwrap();
    }
    lab
}

/// The code that the device shows now.
fn code(lab: &Lab) -> String {
    Totp::parse(URI).unwrap().code_at(lab.context.now()).unwrap()
}

/// Moves the clock to the next code.
fn wait_for_next_code(lab: &Lab) {
    lab.clock.set(lab.clock.now() + 30);
}

fn add(lab: &Lab, caller: &str, params: Value) -> Result<Value, ApiError> {
    lab.call(caller, Verb::Post, ALICE, params)
}

fn add_totp(lab: &Lab) -> String {
    let params = json!({"type": "totp", "description": "phone", "totp": URI, "value": code(lab), "password": PASSWORD});
    let added = add(lab, "alice@pve", params).unwrap();
    added["id"].as_str().unwrap().to_owned()
}

fn add_recovery(lab: &Lab) -> Vec<String> {
    let added = add(lab, "root@pam", json!({"type": "recovery"})).unwrap();
    assert_eq!(added["id"], "recovery");
    added["recovery"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key.as_str().unwrap().to_owned())
        .collect()
}

fn half(lab: &Lab) -> String {
    let params = json!({"username": "alice@pve", "password": PASSWORD});
    let login = lab.call("", Verb::Post, "/access/ticket", params).unwrap();
    assert_eq!((&login["NeedTFA"], login.get("cap")), (&json!(1), None), "{login}");
    assert!(login["CSRFPreventionToken"].as_str().unwrap().contains(':'));
    login["ticket"].as_str().unwrap().to_owned()
}

fn answer(lab: &Lab, ticket: &str, answer: &str) -> Result<Value, ApiError> {
    let params = json!({"username": "alice@pve", "password": answer, "tfa-challenge": ticket, "new-format": 1});
    lab.call("", Verb::Post, "/access/ticket", params)
}

fn refused() -> Result<Value, ApiError> {
    Err(ApiError::status(401, "authentication failure\n"))
}

#[test]
fn a_factor_is_added_with_the_callers_password() {
    let lab = lab();
    let totp = |more: Value| {
        let mut params = json!({"type": "totp", "description": "d", "totp": URI, "value": code(&lab)});
        params
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        params
    };
    let missing = || Err(ApiError::parameter("password", "password is required to modify user"));
    assert_eq!(add(&lab, "alice@pve", totp(json!({}))), missing());
    assert_eq!(add(&lab, "bob@pve", totp(json!({}))), missing());
    assert_eq!(
        add(&lab, "bob@pve", totp(json!({"password": "wrong one"}))),
        Err(plain("invalid credentials"))
    );
    assert_eq!(
        add(&lab, "carol@corp", totp(json!({}))),
        Err(ApiError::permission("")),
        "neither alice nor over her groups"
    );
    let of_root = json!({"type": "recovery", "password": PASSWORD});
    lab.root(
        Verb::Put,
        "/access/acl",
        json!({"path": "/access", "roles": "PVEUserAdmin", "users": "bob@pve"}),
    )
    .unwrap();
    assert_eq!(
        lab.call("bob@pve", Verb::Post, "/access/tfa/root@pam", of_root),
        Err(ApiError::permission("")),
        "root@pam's are its own"
    );
    assert!(add(&lab, "bob@pve", totp(json!({"password": PASSWORD}))).is_ok());
    assert!(lab.get("/access/users/alice@pve")["keys"] == "x");
}

#[test]
fn a_factor_that_does_not_fit_is_refused() {
    let lab = lab();
    let code = code(&lab);
    for (params, text) in [
        (
            json!({"type": "totp", "totp": URI, "value": code}),
            "'description' is required for new entries",
        ),
        (
            json!({"type": "totp", "description": "d", "totp": URI}),
            "'totp' type requires both 'totp' and 'value' parameters",
        ),
        (
            json!({"type": "totp", "description": "d", "totp": URI, "value": "x"}),
            "failed to verify TOTP challenge",
        ),
        (
            json!({"type": "totp", "description": "d", "totp": URI, "value": code, "challenge": "c"}),
            "'challenge' parameter is invalid for 'totp' entries",
        ),
        (
            json!({"type": "totp", "description": "d", "totp": "x", "value": code}),
            "not an otpauth uri",
        ),
        (
            json!({"type": "recovery", "description": "d"}),
            "generating recovery tokens does not allow additional parameters",
        ),
        (
            json!({"type": "yubico", "description": "d", "value": "v"}),
            "no yubico otp configuration available for realm pve",
        ),
    ] {
        assert_eq!(add(&lab, "root@pam", params.clone()), Err(plain(text)), "{params}");
    }
    for kind in ["webauthn", "u2f"] {
        let text = format!("no {kind} configuration available");
        let params = json!({"type": kind, "description": "d"});
        assert_eq!(add(&lab, "root@pam", params), Err(plain(&text)));
    }
    // Trying is enough for the mark, and the mark alone asks for nothing.
    assert_eq!(lab.get("/access/users/alice@pve")["keys"], "x");
    assert_eq!(lab.read("priv/tfa.cfg"), "");
    let params = json!({"username": "alice@pve", "password": PASSWORD});
    assert!(
        lab.call("", Verb::Post, "/access/ticket", params)
            .unwrap()
            .get("cap")
            .is_some()
    );
}

/// The file must keep room for locks.
#[test]
fn nobody_fills_the_file_of_factors() {
    let lab = lab();
    let totp =
        |uri: &str| json!({"type": "totp", "description": "d", "totp": uri, "value": code(&lab), "password": PASSWORD});
    let long = format!("{URI}{}", "x".repeat(1024));
    assert_eq!(
        add(&lab, "alice@pve", totp(&long)),
        Err(ApiError::parameter("totp", "may only be 1024 characters long"))
    );
    for _ in 0..32 {
        add(&lab, "alice@pve", totp(URI)).unwrap();
    }
    assert_eq!(
        add(&lab, "alice@pve", totp(URI)),
        Err(plain("'alice@pve' has 32 TOTP factors already - remove one first"))
    );
}

#[test]
fn codes_and_recovery_keys_open_once() {
    let lab = lab();
    add_totp(&lab);
    let keys = add_recovery(&lab);
    assert_eq!(
        add(&lab, "root@pam", json!({"type": "recovery"})),
        Err(plain("user already has recovery keys"))
    );
    let ticket = half(&lab);
    assert!(
        ticket.starts_with("PVE:!tfa!{\"totp\"%3Atrue,\"recovery\"%3A[0,1,2,3,4,5,6,7,8,9]}:"),
        "{ticket}"
    );
    let right = format!("totp:{}", code(&lab));
    let login = answer(&lab, &ticket, &right).unwrap();
    assert!(login["ticket"].as_str().unwrap().starts_with("PVE:alice@pve:"));
    assert!(login.get("cap").is_some() && login.get("NeedTFA").is_none());
    assert_eq!(answer(&lab, &ticket, &right), refused());
    assert_eq!(answer(&lab, &ticket, &code(&lab)), refused(), "no kind, no answer");

    let key = format!("recovery:{}", keys[4]);
    assert!(answer(&lab, &ticket, &key).is_ok());
    assert_eq!(answer(&lab, &ticket, &key), refused());
    assert!(half(&lab).contains("[0,1,2,3,5,6,7,8,9]"));
    wait_for_next_code(&lab);
    let at_once = json!({"username": "alice@pve", "password": PASSWORD, "otp": format!("totp:{}", code(&lab))});
    assert!(
        lab.call("", Verb::Post, "/access/ticket", at_once)
            .unwrap()
            .get("cap")
            .is_some()
    );
    // A whole ticket is renewed without a second factor.
    let ticket = login["ticket"].clone();
    let renewal = json!({"username": "alice@pve", "password": ticket});
    assert!(
        lab.call("", Verb::Post, "/access/ticket", renewal)
            .unwrap()
            .get("cap")
            .is_some()
    );
}

#[test]
fn eight_wrong_codes_lock_and_somebody_unlocks() {
    let lab = lab();
    let unlock = |caller: &str| lab.call(caller, Verb::Put, LOCKED, json!({}));
    assert_eq!(unlock("root@pam"), Err(plain("no such user")));
    add_totp(&lab);
    let ticket = half(&lab);
    for _ in 0..8 {
        assert_eq!(answer(&lab, &ticket, "totp:000000"), refused());
    }
    assert_eq!(answer(&lab, &ticket, &format!("totp:{}", code(&lab))), refused());
    let rows = lab.get("/access/tfa");
    assert_eq!(
        (&rows[0]["userid"], &rows[0]["totp-locked"]),
        (&json!("alice@pve"), &json!(1))
    );
    assert_eq!(lab.get("/access/users")[0]["totp-locked"], 1);
    assert_eq!(
        unlock("alice@pve"),
        Err(ApiError::permission("")),
        "not her own business"
    );
    assert_eq!(unlock("bob@pve"), Ok(json!(1)), "he is over a group of hers");
    assert_eq!(unlock("bob@pve"), Ok(json!(0)));
    assert!(answer(&lab, &ticket, &format!("totp:{}", code(&lab))).is_ok());
}

#[test]
fn factors_are_listed_changed_and_removed() {
    let lab = lab();
    let id = add_totp(&lab);
    add_recovery(&lab);
    let created = lab.clock.now();
    let recovery = json!({"type": "recovery", "id": "recovery", "created": created});
    let phone = json!({"type": "totp", "id": id, "created": created, "description": "phone"});
    assert_eq!(lab.get(ALICE), json!([recovery, phone]));
    assert_eq!(
        lab.get("/access/tfa"),
        json!([{"userid": "alice@pve", "entries": [recovery, phone]}])
    );
    assert_eq!(
        lab.call("carol@corp", Verb::Get, "/access/tfa", json!({})),
        Ok(json!([]))
    );
    assert_eq!(lab.get("/access/tfa/bob@pve"), json!([]));
    let one = format!("{ALICE}/{id}");
    assert_eq!(lab.get(&one), phone);
    let none = lab.root(Verb::Get, &format!("{ALICE}/nix"), json!({})).unwrap_err();
    assert_eq!((none.status, none.message.trim_end()), (404, "No such tfa entry 'nix'"));

    let put = |id: &str, params| lab.root(Verb::Put, &format!("{ALICE}/{id}"), params);
    assert_eq!(
        put(&id, json!({"enable": 0, "description": "old phone"})),
        Ok(Value::Null)
    );
    let changed = json!({"type": "totp", "id": id, "created": created, "description": "old phone", "enable": 0});
    assert_eq!(lab.get(&one), changed);
    assert_eq!(put("recovery", json!({"enable": 0})), Err(plain("no such entry")));
    assert_eq!(put("nix", json!({})), Err(plain("no such entry")));

    let delete = |caller: &str, id: &str, params| lab.call(caller, Verb::Delete, &format!("{ALICE}/{id}"), params);
    assert_eq!(
        delete("alice@pve", &id, json!({})),
        Err(ApiError::parameter("password", "password is required to modify user"))
    );
    assert_eq!(delete("alice@pve", &id, json!({"password": PASSWORD})), Ok(Value::Null));
    assert_eq!(delete("root@pam", &id, json!({})), Err(plain("no such entry")));
    assert_eq!(lab.get("/access/users/alice@pve")["keys"], "x");
    assert_eq!(delete("root@pam", "recovery", json!({})), Ok(Value::Null));
    assert_eq!(
        lab.get("/access/users/alice@pve").get("keys"),
        None,
        "the last one takes the mark with it"
    );
    assert_eq!(lab.read("priv/tfa.cfg"), "{\"users\":{}}");
}

/// Reference 02 §12.4.
#[test]
fn the_kinds_of_factors_are_told_in_one_word_or_several() {
    let lab = lab();
    let kinds = |params| lab.root(Verb::Get, "/access/users/alice@pve/tfa", params).unwrap();
    assert_eq!(kinds(json!({})), json!({}));
    add_recovery(&lab);
    assert_eq!(kinds(json!({})), json!({"user": "incompatible"}));
    add_totp(&lab);
    assert_eq!(kinds(json!({})), json!({"user": "oath"}));
    lab.root(Verb::Put, "/access/domains/pve", json!({"tfa": "type=oath"}))
        .unwrap();
    assert_eq!(
        kinds(json!({"multiple": 1})),
        json!({"realm": "oath", "user": ["recovery", "totp"]})
    );
    assert_eq!(
        lab.root(Verb::Get, "/access/users/carol@corp/tfa", json!({})),
        Err(plain("auth domain 'corp' does not exist"))
    );
}

#[test]
fn a_deleted_user_leaves_nothing_that_a_namesake_could_use() {
    let lab = lab();
    add_totp(&lab);
    let token = lab
        .root(Verb::Post, "/access/users/alice@pve/token/more", json!({}))
        .unwrap();
    let secret = token["value"].as_str().unwrap();
    assert!(lab.read("priv/token.cfg").contains(secret));
    lab.root(Verb::Post, "/access/users/bob@pve/token/his", json!({}))
        .unwrap();
    assert_eq!(answer(&lab, &half(&lab), "totp:0"), refused());
    let counters = lab.context.site.path("/run/pve-private/tfa-challenges/alice@pve");
    assert!(counters.exists());

    assert_eq!(
        lab.root(Verb::Delete, "/access/users/alice@pve", json!({})),
        Ok(Value::Null)
    );
    for file in ["user.cfg", "priv/tfa.cfg", "priv/token.cfg", "priv/shadow.cfg"] {
        assert!(!lab.read(file).contains("alice"), "{file}: {}", lab.read(file));
    }
    assert!(lab.read("priv/token.cfg").contains("bob@pve!his "));
    assert!(!counters.exists());
}
