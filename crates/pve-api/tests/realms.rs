//! `/access/domains` as a client sees it, from route to reply (reference 02 §12.8).

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

mod common;
mod site;

use pve_contract::Verb;
use pve_rest::ApiError;
use serde_json::{Value, json};
use site::{Lab, plain};

const PASSWORD_FILE: &str = "priv/realm/corp.pw";

fn post(lab: &Lab, params: Value) -> Result<Value, ApiError> {
    lab.root(Verb::Post, "/access/domains", params)
}

fn put(lab: &Lab, realm: &str, params: Value) -> Result<Value, ApiError> {
    lab.root(Verb::Put, &format!("/access/domains/{realm}"), params)
}

fn with_corp() -> Lab {
    let lab = Lab::new();
    let params = json!({
        "realm": "corp", "type": "ldap", "server1": "10.0.0.1", "base_dn": "dc=lab", "user_attr": "uid",
        "password": "bind secret", "comment": "Lab: main",
    });
    assert_eq!(post(&lab, params), Ok(Value::Null));
    lab
}

/// Vector 91 and the other refusals, in their order.
#[test]
fn realms_that_cannot_be_made() {
    let lab = with_corp();
    let ldap = |more: Value| {
        let mut params = json!({"realm": "two", "type": "ldap", "server1": "h", "base_dn": "dc=x", "user_attr": "uid"});
        params
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        params
    };
    for (params, text) in [
        (
            ldap(json!({"realm": "corp", "type": "pam"})),
            "domain 'corp' already exists",
        ),
        (json!({"realm": "pve", "type": "pve"}), "domain 'pve' already exists"),
        (
            json!({"realm": "two", "type": "pam"}),
            "unable to create builtin type 'pam'",
        ),
        (
            json!({"realm": "sso", "type": "openid", "check-connection": 0}),
            "'check-connection' parameter can only be set for realms of type 'ldap' or 'ad'",
        ),
        (ldap(json!({"domain": "lab"})), "unexpected property 'domain'"),
        (
            json!({"realm": "two", "type": "ldap", "server1": "10.0.0.1"}),
            "missing value for required option 'base_dn'",
        ),
        (
            json!({"realm": "two", "type": "ad", "domain": "lab"}),
            "missing value for required option 'server1'",
        ),
        (
            json!({"realm": "sso", "type": "openid", "client-id": "pve"}),
            "missing value for required option 'issuer-url'",
        ),
        (
            ldap(json!({"check-connection": 1, "bind_dn": "cn=x"})),
            "missing password for realm two",
        ),
    ] {
        assert_eq!(
            post(&lab, params.clone()),
            Err(plain(&format!("add auth server failed: {text}"))),
            "{params}"
        );
    }
    let bad = ldap(json!({"realm": "1a", "tfa": "type=magic"}));
    let errors = post(&lab, bad).unwrap_err().errors;
    assert_eq!(
        errors["realm"].trim_end(),
        "invalid format - value does not look like a valid realm"
    );
    assert!(errors["tfa"].contains("type"), "{errors:?}");
    assert_eq!(
        lab.call("bob@pve", Verb::Post, "/access/domains", ldap(json!({}))),
        Err(ApiError::permission("/access/realm, Realm.Allocate"))
    );
}

#[test]
fn a_bind_password_has_a_file_of_its_own() {
    let lab = with_corp();
    assert_eq!(lab.read(PASSWORD_FILE), "bind secret");
    assert!(!lab.read("domains.cfg").contains("secret"));
    assert!(!lab.get("/access/domains/corp").to_string().contains("secret"));

    lab.cfs.write("priv/ldap/corp.pw", b"old").unwrap();
    assert_eq!(put(&lab, "corp", json!({"password": "another"})), Ok(Value::Null));
    assert_eq!(
        (lab.read(PASSWORD_FILE), lab.read("priv/ldap/corp.pw")),
        ("another".to_owned(), String::new())
    );
    assert_eq!(put(&lab, "corp", json!({"delete": "password"})), Ok(Value::Null));
    assert!(!lab.cfs.exists(PASSWORD_FILE).unwrap());

    put(&lab, "corp", json!({"password": "third"})).unwrap();
    assert_eq!(
        lab.root(Verb::Delete, "/access/domains/corp", json!({})),
        Ok(Value::Null)
    );
    assert!(!lab.cfs.exists(PASSWORD_FILE).unwrap());

    // A password for a realm that has none is left out; what an older realm left behind goes.
    lab.cfs.write("priv/realm/sso.pw", b"stale").unwrap();
    let sso = json!({
        "realm": "sso", "type": "openid", "issuer-url": "https://id", "client-id": "pve", "client-key": "k",
        "username-claim": "email",
    });
    post(&lab, sso).unwrap();
    assert!(!lab.cfs.exists("priv/realm/sso.pw").unwrap());
    assert_eq!(lab.get("/access/domains/sso")["client-key"], "k");
    assert_eq!(
        put(&lab, "sso", json!({"password": "x"})),
        Err(plain("update auth server failed: unexpected property 'password'"))
    );
}

#[test]
fn a_realm_is_changed_as_long_as_nobody_else_did() {
    let lab = with_corp();
    let shown = lab.get("/access/domains/corp");
    assert_eq!(
        (&shown["comment"], &shown["type"]),
        (&json!("Lab: main"), &json!("ldap"))
    );
    let digest = shown["digest"].clone();
    for (realm, params, text) in [
        ("nix", json!({"comment": "x"}), "domain 'nix' does not exist"),
        ("corp", json!({}), "no options specified"),
        ("corp", json!({"digest": digest}), "no options specified"),
        ("corp", json!({"domain": "x"}), "unexpected property 'domain'"),
        (
            "corp",
            json!({"comment": "x", "digest": "0000"}),
            "detected modified configuration - file changed by other user? Try again.",
        ),
        (
            "corp",
            json!({"delete": "base_dn"}),
            "missing value for required option 'base_dn'",
        ),
    ] {
        assert_eq!(
            put(&lab, realm, params.clone()),
            Err(plain(&format!("update auth server failed: {text}")))
        );
    }
    let change = json!({
        "delete": "comment", "port": 1389, "digest": digest, "tfa": "type=oath",
        "sync-defaults-options": "scope=both,full=1",
    });
    assert_eq!(put(&lab, "corp", change), Ok(Value::Null));
    let section = "ldap: corp\n\tbase_dn dc=lab\n\tserver1 10.0.0.1\n\tuser_attr uid\n\tport 1389\n\
        \tsync-defaults-options scope=both,remove-vanished=entry;properties\n\ttfa type=oath\n\n";
    assert!(lab.read("domains.cfg").contains(section), "{}", lab.read("domains.cfg"));
    let rows = lab.get("/access/domains");
    assert_eq!(rows[0], json!({"realm": "corp", "type": "ldap", "tfa": "oath"}));
}

#[test]
fn one_realm_is_the_default() {
    let lab = with_corp();
    let default = || {
        let rows = lab.get("/access/domains");
        let rows = rows.as_array().unwrap().iter().filter(|row| row["default"] == 1);
        rows.map(|row| row["realm"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert!(default().is_empty());
    for realm in ["corp", "pve", "corp"] {
        put(&lab, realm, json!({"default": 1})).unwrap();
        assert_eq!(default(), [realm]);
    }
    assert_eq!(lab.get("/access/domains/corp")["default"], 1);
}

#[test]
fn the_realms_that_are_always_there_come_back() {
    let lab = with_corp();
    let text = lab.read("domains.cfg");
    assert!(
        text.contains("pve: pve\n\tcomment Proxmox VE authentication server\n\n"),
        "{text}"
    );
    put(&lab, "pam", json!({"comment": "The machine's"})).unwrap();
    assert_eq!(lab.get("/access/domains/pam")["comment"], "The machine's");
    assert!(!lab.read("domains.cfg").contains("plugin"));
    lab.root(Verb::Delete, "/access/domains/pam", json!({})).unwrap();
    assert_eq!(
        lab.get("/access/domains/pam")["comment"],
        "Linux PAM standard authentication"
    );
    lab.root(Verb::Delete, "/access/domains/corp", json!({})).unwrap();
    assert_eq!(
        lab.root(Verb::Delete, "/access/domains/corp", json!({})),
        Err(plain(
            "delete auth server failed: authentication domain 'corp' does not exist"
        ))
    );
    // Its users stay.
    assert!(lab.read("user.cfg").contains("user:carol@corp:"));
}

/// Vector 92, and who may.
#[test]
fn what_cannot_be_synchronised() {
    let lab = with_corp();
    let sync = |caller: &str, realm: &str| {
        let path = format!("/access/domains/{realm}/sync");
        lab.call(caller, Verb::Post, &path, json!({})).unwrap_err()
    };
    assert_eq!(
        sync("root@pam", "pam"),
        plain("Cannot sync realm type 'pam'! Only LDAP/AD realms can be synced.")
    );
    assert_eq!(
        sync("root@pam", "gone"),
        ApiError::parameter("realm", "Realm does not exist.")
    );
    assert_eq!(
        sync("root@pam", "corp"),
        ApiError::parameter(
            "scope",
            "Not passed as parameter and not defined in realm default sync options."
        )
    );
    assert_eq!(sync("bob@pve", "corp").status, 403);
}

#[test]
fn jobs_that_synchronise_are_made_changed_and_removed() {
    let lab = with_corp();
    let path = "/cluster/jobs/realm-sync/nightly";
    let job = json!({"realm": "corp", "schedule": "02:00", "scope": "both", "enable-new": 0});
    assert_eq!(lab.root(Verb::Post, path, job.clone()), Ok(Value::Null));
    assert_eq!(
        lab.root(Verb::Post, path, job.clone()),
        Err(plain("Job 'nightly' already exists"))
    );
    let stored = "realm-sync: nightly\n\trealm corp\n\tschedule 02:00\n\tscope both\n\tenable-new 0\n\tenabled 1\n\n";
    assert_eq!(lab.read("jobs.cfg"), stored);
    lab.cfs
        .write(
            "priv/jobs/realm-sync-nightly.json",
            br#"{"node":"n2","time":1700000000}"#,
        )
        .unwrap();
    let rows = lab.get("/cluster/jobs/realm-sync");
    assert_eq!(
        (&rows[0]["id"], &rows[0]["last-run"]),
        (&json!("nightly"), &json!(1_700_000_000))
    );
    assert!(rows[0]["next-run"].as_i64() > Some(1_700_000_000), "{rows}");
    lab.cfs.write("priv/jobs/realm-sync-nightly.json", b"{").unwrap();
    let rows = lab.get("/cluster/jobs/realm-sync");
    assert_eq!((&rows[0]["id"], rows[0].get("last-run")), (&json!("nightly"), None));
    assert_eq!(
        lab.get(path),
        json!({
            "id": "nightly", "type": "realm-sync", "realm": "corp", "schedule": "02:00", "scope": "both",
            "enable-new": 0, "enabled": 1,
        })
    );

    // PUT has no realm in its path nor among its parameters, so its right is looked for at a realm of no name.
    lab.root(
        Verb::Put,
        "/access/acl",
        json!({"path": "/access/realm/corp", "roles": "PVEUserAdmin", "users": "bob@pve"}),
    )
    .unwrap();
    lab.root(
        Verb::Put,
        "/access/acl",
        json!({"path": "/access/groups", "roles": "PVEUserAdmin", "users": "bob@pve"}),
    )
    .unwrap();
    let own = |verb, path: &str, params| lab.call("bob@pve", verb, path, params);
    assert_eq!(
        own(Verb::Put, path, json!({"schedule": "02:00", "scope": "users"}))
            .unwrap_err()
            .status,
        403
    );
    assert_eq!(own(Verb::Delete, path, json!({})).unwrap_err().status, 403);
    assert_eq!(
        lab.call("carol@pve", Verb::Get, path, json!({})).unwrap_err().status,
        403
    );
    assert_eq!(own(Verb::Post, "/cluster/jobs/realm-sync/own", job), Ok(Value::Null));
    lab.root(Verb::Delete, "/cluster/jobs/realm-sync/own", json!({}))
        .unwrap();

    lab.root(
        Verb::Put,
        path,
        json!({"schedule": "02:00", "scope": "users", "delete": "enable-new"}),
    )
    .unwrap();
    assert_eq!(
        lab.read("jobs.cfg"),
        stored.replace("both", "users").replace("\tenable-new 0\n", "")
    );
    let other = "/cluster/jobs/realm-sync/other";
    let missing = ApiError::parameter("id", "No such job 'other'");
    assert_eq!(
        lab.root(Verb::Put, other, json!({"schedule": "daily", "enabled": 0})),
        Err(plain("no such realm-sync job"))
    );
    assert_eq!(lab.root(Verb::Get, other, json!({})), Err(missing.clone()));
    assert_eq!(lab.root(Verb::Delete, other, json!({})), Err(missing));
    for (realm, text) in [
        ("pve", "Only LDAP/AD realms can be synced."),
        ("gone", "No such realm 'gone'"),
    ] {
        let job = json!({"realm": realm, "schedule": "daily", "scope": "users"});
        assert_eq!(
            lab.root(Verb::Post, other, job),
            Err(ApiError::parameter("realm", text))
        );
    }
    lab.root(Verb::Delete, path, json!({})).unwrap();
    assert_eq!(
        (lab.read("jobs.cfg"), lab.get("/cluster/jobs/realm-sync")),
        (String::new(), json!([]))
    );
    assert_eq!(lab.read("priv/jobs/realm-sync-nightly.json"), "");
}
