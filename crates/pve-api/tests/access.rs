//! `/access` as a client sees it, from route to reply, on a site of its own (reference 02 §16, group F).

#![allow(clippy::unwrap_used)]

mod common;
mod site;

use pve_access::{AccessControl, Credentials};
use pve_contract::Verb;
use pve_rest::ApiError;
use serde_json::{Value, json};
use site::{Lab, plain};

/// Vectors 76 and 77.
#[test]
fn acls_are_for_what_exists() {
    let lab = Lab::new();
    let put = |params| lab.root(Verb::Put, "/access/acl", params);
    let bogus = |delete| json!({"path": "/bogus", "roles": "PVEAdmin", "users": "alice@pve", "delete": delete});
    let error = ApiError::parameter("path", "invalid ACL path '/bogus'");
    assert_eq!(put(bogus("0")), Err(error));
    assert_eq!(put(bogus("1")), Ok(Value::Null));
    assert_eq!(
        put(json!({"path": "/vms/100", "roles": "Nope", "users": "alice@pve"})),
        Err(plain("ACL update failed: role 'Nope' does not exist"))
    );
    let nobody = put(json!({"path": "/vms/100", "roles": "PVEAdmin"})).unwrap_err();
    assert_eq!(nobody.errors.len(), 3);
    for (members, text) in [
        (json!({"groups": "none"}), "group 'none' does not exist"),
        (json!({"users": "none@pve"}), "user 'none@pve' does not exist"),
        (
            json!({"tokens": "bob@pve!none"}),
            "no such token 'none' for user 'bob@pve'",
        ),
    ] {
        let mut params = members;
        params["path"] = json!("/vms");
        params["roles"] = json!("PVEAuditor");
        assert_eq!(put(params), Err(plain(&format!("ACL update failed: {text}"))));
    }
}

/// Vectors 78 and 79.
#[test]
fn rights_are_passed_on_by_who_holds_them() {
    let lab = Lab::new();
    let put = |caller, params| lab.call(caller, Verb::Put, "/access/acl", params);
    let change = |role: &str, propagate| {
        let params = json!({"path": "/vms/100", "roles": role, "users": "bob@pve", "propagate": propagate});
        put("alice@pve", params)
    };
    let refused = |text: &str| {
        let head = "ACL update failed: 400 Parameter verification failed.\nrole: Cannot add role";
        Err(plain(&format!("{head} {text}")))
    };
    assert_eq!(
        change("PVEAdmin", 0),
        refused("'PVEAdmin' - requires 'Permissions.Modify' or superset of privileges.")
    );
    assert_eq!(
        change("PVEVMAdmin", 1),
        refused("'PVEVMAdmin' with propagation - requires 'Permissions.Modify' or propagated superset of privileges.")
    );
    assert_eq!(
        change("NoAccess", 0),
        refused("'NoAccess' - requires 'Permissions.Modify'")
    );
    assert_eq!(change("PVEVMUser", 1), Ok(Value::Null));
    let params = json!({"path": "/vms/100", "roles": "PVEVMUser", "users": "alice@pve"});
    assert_eq!(
        put("bob@pve", params),
        Err(ApiError::permission("/vms/100, Permissions.Modify|VM.Allocate"))
    );

    let granted = json!({"path": "/vms/100", "type": "user", "ugid": "bob@pve", "roleid": "PVEVMUser", "propagate": 1});
    let is_granted = || lab.get("/access/acl").as_array().unwrap().contains(&granted);
    assert!(is_granted());
    assert_eq!(lab.get("/access/acl")[0]["path"], "/");
    let revoke = json!({"path": "vms/100/", "roles": "PVEVMUser", "users": "bob@pve", "delete": 1});
    assert_eq!(put("alice@pve", revoke), Ok(Value::Null));
    assert!(!is_granted());
}

/// Vectors 80 to 82.
#[test]
fn users_that_cannot_be_made() {
    let lab = Lab::new();
    assert_eq!(
        lab.get("/access/users/bob@pve"),
        json!({"enable": 1, "expire": 0, "groups": ["ops"], "tokens": null})
    );
    let post = |params| lab.root(Verb::Post, "/access/users", params);
    assert_eq!(
        post(json!({"userid": "alice@pve"})),
        Err(plain("create user failed: user 'alice@pve' already exists"))
    );
    assert_eq!(
        post(json!({"userid": "new@pve", "password": "short"}))
            .unwrap_err()
            .errors["password"],
        "value must be at least 8 characters long"
    );
    assert_eq!(
        post(json!({"userid": "new@corp", "password": "long enough"})),
        Err(plain("create user failed: auth domain 'corp' does not exist"))
    );
    assert_eq!(
        post(json!({"userid": "new@pve", "groups": "ops,nix"})),
        Err(plain("create user failed: no such group 'nix'"))
    );
    assert_eq!(
        lab.root(Verb::Get, "/access/users/new@pve", json!({})),
        Err(plain("no such user ('new@pve')"))
    );
}

#[test]
fn a_users_life() {
    let lab = Lab::new();
    let new = json!({
        "userid": "new@pve", "groups": "ops;empty", "comment": "", "firstname": "N", "password": "long enough",
    });
    assert_eq!(lab.root(Verb::Post, "/access/users", new), Ok(Value::Null));
    assert_eq!(
        lab.get("/access/users/new@pve"),
        json!({"enable": 1, "expire": 0, "firstname": "N", "groups": ["empty", "ops"], "tokens": null})
    );
    let params = json!({"username": "new@pve", "password": "long enough"});
    let login = lab.call("", Verb::Post, "/access/ticket", params).unwrap();
    assert_eq!(login["username"], "new@pve");
    assert!(login["ticket"].as_str().unwrap().starts_with("PVE:new@pve:"));
    assert!(login["CSRFPreventionToken"].as_str().unwrap().contains(':'));
    // A member of ops, which may look at everything.
    assert_eq!(login["cap"]["dc"], json!({"SDN.Audit": 1, "Sys.Audit": 1}));

    let put = |params| lab.root(Verb::Put, "/access/users/new@pve", params);
    let change = json!({"firstname": "", "expire": 5, "enable": 0, "groups": "ops", "append": 1});
    assert_eq!(put(change), Ok(Value::Null));
    assert_eq!(
        lab.get("/access/users/new@pve"),
        json!({"enable": 0, "expire": 5, "groups": ["empty", "ops"], "tokens": null})
    );
    assert_eq!(put(json!({"groups": ""})), Ok(Value::Null));
    assert_eq!(lab.get("/access/users/new@pve")["groups"], json!([]));
    assert_eq!(
        lab.root(Verb::Put, "/access/users/zed@pve", json!({})),
        Err(plain("update user failed: no such user ('zed@pve')"))
    );
    assert_eq!(
        lab.root(Verb::Delete, "/access/users/new@pve", json!({})),
        Ok(Value::Null)
    );
    assert_eq!(lab.cfs.read_text("priv/shadow.cfg").unwrap().as_deref(), Some(""));
}

#[test]
fn a_list_of_users_shows_what_the_caller_may_see() {
    let lab = Lab::new();
    let ids = |caller: &str, params| {
        let rows = lab.call(caller, Verb::Get, "/access/users", params).unwrap();
        let id = |row: &Value| row["userid"].as_str().unwrap().to_owned();
        rows.as_array().unwrap().iter().map(id).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ids("root@pam", json!({})), "alice@pve bob@pve carol@corp root@pam");
    assert_eq!(ids("root@pam", json!({"enabled": 0})), "carol@corp");
    assert_eq!(ids("carol@corp", json!({})), "carol@corp");
    let rows = lab.root(Verb::Get, "/access/users", json!({"full": 1})).unwrap();
    assert_eq!(
        rows[0],
        json!({
            "userid": "alice@pve", "enable": 1, "expire": 0, "firstname": "Alice", "lastname": "O'Neil",
            "email": "alice@lab.example", "comment": "team: blue", "keys": "x", "realm-type": "pve", "groups": "ops",
            "tokens": [
                {"tokenid": "ci", "privsep": 1, "expire": 0, "comment": "pipeline"},
                {"tokenid": "full", "privsep": 0, "expire": 1_893_456_000},
            ],
        })
    );
    assert_eq!((&rows[1]["tokens"], rows[2].get("realm-type")), (&Value::Null, None));
}

/// Vectors 85 and 86.
#[test]
fn roles() {
    let lab = Lab::new();
    let post = |params| lab.root(Verb::Post, "/access/roles", params);
    assert_eq!(
        post(json!({"roleid": "pveThing"})),
        Err(ApiError::parameter(
            "roleid",
            "cannot use role ID starting with the (case-insensitive) 'PVE' namespace"
        ))
    );
    assert_eq!(
        post(json!({"roleid": "NoAccess"})),
        Err(plain("create role failed: role 'NoAccess' already exists"))
    );
    let put = |role: &str, params| lab.root(Verb::Put, &format!("/access/roles/{role}"), params);
    assert_eq!(
        put("VMOperator", json!({"append": 1})),
        Err(ApiError::parameter("privs", "missing property required by 'append'"))
    );
    assert_eq!(
        put("VMOperator", json!({"append": 1, "privs": "VM.Audit"})),
        Ok(Value::Null)
    );
    assert_eq!(
        lab.get("/access/roles/VMOperator"),
        json!({"VM.Audit": 1, "VM.Console": 1, "VM.PowerMgmt": 1})
    );
    assert_eq!(put("VMOperator", json!({})), Ok(Value::Null));
    assert_eq!(lab.get("/access/roles/VMOperator"), json!({}));
    assert_eq!(
        put("PVEAdmin", json!({})),
        Err(plain("auto-generated role 'PVEAdmin' cannot be modified"))
    );
    assert_eq!(
        put("nix", json!({})),
        Err(plain("update role failed: role 'nix' does not exist"))
    );
    assert_eq!(lab.root(Verb::Delete, "/access/roles/Void", json!({})), Ok(Value::Null));
    let rows = lab.get("/access/roles");
    assert_eq!(rows.as_array().unwrap().len(), 18);
    assert_eq!(rows[1], json!({"roleid": "NoAccess", "privs": "", "special": 1}));
    assert_eq!(rows[17], json!({"roleid": "VMOperator", "privs": "", "special": 0}));
}

/// Vector 87, and a group's life.
#[test]
fn groups() {
    let lab = Lab::new();
    assert_eq!(
        lab.get("/access/groups"),
        json!([
            {"groupid": "empty", "users": ""},
            {"groupid": "ops", "users": "alice@pve,bob@pve,ghost@pve", "comment": "Ops team"},
        ])
    );
    assert_eq!(
        lab.call("carol@corp", Verb::Get, "/access/groups", json!({})),
        Ok(json!([]))
    );
    assert_eq!(
        lab.get("/access/groups/ops"),
        json!({"members": ["alice@pve", "bob@pve", "ghost@pve"], "comment": "Ops team"})
    );
    for (verb, path, params, text) in [
        (Verb::Get, "/access/groups/nix", json!({}), "group 'nix' does not exist"),
        (
            Verb::Post,
            "/access/groups",
            json!({"groupid": "ops"}),
            "create group failed: group 'ops' already exists",
        ),
        (
            Verb::Put,
            "/access/groups/nix",
            json!({"comment": "x"}),
            "update group failed: group 'nix' does not exist",
        ),
        (
            Verb::Delete,
            "/access/groups/nix",
            json!({}),
            "delete group failed: group 'nix' does not exist",
        ),
    ] {
        assert_eq!(lab.root(verb, path, params), Err(plain(text)));
    }
    lab.root(Verb::Put, "/access/groups/ops", json!({})).unwrap();
    assert_eq!(lab.get("/access/groups/ops")["comment"], "Ops team");
    lab.root(Verb::Delete, "/access/groups/ops", json!({})).unwrap();
    assert!(!lab.get("/access/acl").to_string().contains("\"ops\""));
}

/// Vectors 88 to 90.
#[test]
fn permissions_and_realms() {
    let lab = Lab::new();
    let get = |caller: &str, path: &str, params| lab.call(caller, Verb::Get, path, params);
    assert_eq!(
        get("alice@pve", "/access/permissions", json!({"path": "/vms/300"})),
        Ok(json!({"/vms/300": {}}))
    );
    assert_eq!(
        get("carol@corp", "/access/permissions", json!({"userid": "alice@pve"})),
        Err(ApiError::permission("/access, Sys.Audit"))
    );
    assert_eq!(get("carol@corp", "/access/permissions", json!({})), Ok(json!({})));
    let own = get("alice@pve", "/access/permissions", json!({"userid": "alice@pve!ci"})).unwrap();
    assert_eq!(own["/vms/200"], json!({"VM.Console": 0, "VM.PowerMgmt": 0}));
    assert_eq!(
        lab.get("/access/domains/pam"),
        json!({
            "type": "pam",
            "plugin": "PVE::Auth::PAM",
            "comment": "Linux PAM standard authentication",
            "digest": "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        })
    );
    assert_eq!(
        lab.root(Verb::Get, "/access/domains/corp", json!({})),
        Err(plain("domain 'corp' does not exist"))
    );
    assert_eq!(
        get("", "/access/domains", json!({})),
        Ok(json!([
            {"realm": "pam", "type": "pam", "comment": "Linux PAM standard authentication"},
            {"realm": "pve", "type": "pve", "comment": "Proxmox VE authentication server"},
        ]))
    );
    assert_eq!(lab.get("/access")[0], json!({"subdir": "users"}));
    assert_eq!(
        lab.get("/access/openid"),
        json!([{"subdir": "auth-url"}, {"subdir": "login"}])
    );
    assert_eq!(get("", "/access", json!({})), Err(ApiError::permission("user != null")));
}

#[test]
fn passwords_are_changed_by_who_may() {
    let lab = Lab::new();
    let put = |caller: &str, params| lab.call(caller, Verb::Put, "/access/password", params);
    let change = |user: &str| json!({"userid": user, "password": "first password"});
    assert_eq!(put("root@pam", change("bob@pve")), Ok(Value::Null));
    assert_eq!(
        put("root@pam", change("zed@pve")),
        Err(plain("no such user ('zed@pve')"))
    );
    assert_eq!(
        put("bob@pve", change("bob@pve")),
        Err(ApiError::parameter(
            "confirmation-password",
            "password is required to modify user"
        ))
    );
    let confirmed =
        |password: &str| json!({"userid": "bob@pve", "password": "second password", "confirmation-password": password});
    assert_eq!(
        put("bob@pve", confirmed("wrong password")),
        Err(plain("invalid credentials"))
    );
    assert_eq!(put("bob@pve", confirmed("first password")), Ok(Value::Null));
    assert_eq!(
        put("bob@pve", change("alice@pve")),
        Err(ApiError::permission("/access/realm/pve, Realm.AllocateUser"))
    );
    let log_in = |password: &str| {
        let params = json!({"username": "bob", "realm": "pve", "password": password});
        lab.call("", Verb::Post, "/access/ticket", params)
    };
    assert!(log_in("second password").is_ok());
    assert_eq!(
        log_in("first password"),
        Err(ApiError::status(401, "authentication failure\n"))
    );
}

/// Vectors 83 and 84, and a token's life.
#[test]
fn tokens_are_made_changed_and_deleted() {
    let lab = Lab::new();
    let path = "/access/users/bob@pve/token/ci";
    let secrets = || lab.cfs.read_text("priv/token.cfg").unwrap().unwrap_or_default();
    let least = lab
        .root(Verb::Post, "/access/users/bob@pve/token/t1", json!({}))
        .unwrap();
    assert_eq!(
        (&least["full-tokenid"], &least["info"], least.as_object().unwrap().len()),
        (&json!("bob@pve!t1"), &json!({"privsep": 1}), 3)
    );
    let is_uuid = |text: &str| {
        text.len() == 36
            && text
                .bytes()
                .all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    assert!(is_uuid(least["value"].as_str().unwrap()), "{least}");
    lab.root(Verb::Delete, "/access/users/bob@pve/token/t1", json!({}))
        .unwrap();
    lab.cfs.write("priv/token.cfg", b"alice@pve!ci s3cret\n").unwrap();

    let made = lab
        .root(Verb::Post, path, json!({"comment": "pipeline", "expire": 0}))
        .unwrap();
    let secret = made["value"].as_str().unwrap();
    assert_eq!(
        made,
        json!({
            "full-tokenid": "bob@pve!ci", "value": secret,
            "info": {"privsep": 1, "expire": 0, "comment": "pipeline"},
        })
    );
    assert_eq!(secrets(), format!("alice@pve!ci s3cret\nbob@pve!ci {secret}\n"));
    let access = AccessControl::load(&lab.context).unwrap();
    let header = Credentials::Token(format!("bob@pve!ci={secret}"));
    assert_eq!(access.authenticate(&header).unwrap().to_string(), "bob@pve!ci");

    assert_eq!(
        lab.root(Verb::Post, path, json!({})),
        Err(ApiError::parameter("tokenid", "Token already exists."))
    );
    assert_eq!(lab.get(path), json!({"privsep": 1, "expire": 0, "comment": "pipeline"}));
    assert_eq!(
        lab.get("/access/users/bob@pve/token"),
        json!([{"tokenid": "ci", "privsep": 1, "expire": 0, "comment": "pipeline"}])
    );

    let put = |params| lab.root(Verb::Put, path, params);
    assert_eq!(
        put(json!({"delete": "expire"})),
        Err(plain(
            "updating token info failed: 400 Parameter verification failed.\ndelete: unknown option 'expire'"
        ))
    );
    assert_eq!(
        put(json!({"delete": "comment", "privsep": 0, "expire": 1_893_456_000})),
        Ok(json!({"privsep": 0, "expire": 1_893_456_000}))
    );
    let renewed = put(json!({"regenerate": 1})).unwrap();
    assert_ne!(renewed["value"], made["value"]);
    assert_eq!(renewed["full-tokenid"], "bob@pve!ci");
    assert!(access.authenticate(&header).is_err(), "the old secret");

    let grant = json!({"path": "/vms/100", "roles": "PVEVMUser", "tokens": "bob@pve!ci"});
    lab.root(Verb::Put, "/access/acl", grant).unwrap();
    let other = "/access/users/bob@pve/token/none";
    let missing = || Err(plain("no such token 'none' for user 'bob@pve'"));
    assert_eq!(lab.root(Verb::Get, other, json!({})), missing());
    assert_eq!(lab.root(Verb::Delete, other, json!({})), missing());
    assert_eq!(lab.root(Verb::Delete, path, json!({})), Ok(Value::Null));
    assert_eq!(secrets(), "alice@pve!ci s3cret\n");
    lab.root(Verb::Post, path, json!({})).unwrap();
    assert!(
        !lab.get("/access/acl").to_string().contains("bob@pve!ci"),
        "no rights are inherited"
    );
}

/// Users make tokens for themselves, tokens do not.
#[test]
fn tokens_are_their_users_own() {
    let lab = Lab::new();
    let path = "/access/users/bob@pve/token/own";
    lab.call("bob@pve", Verb::Post, path, json!({})).unwrap();
    let refused = |caller| {
        lab.call(caller, Verb::Put, path, json!({"regenerate": 1}))
            .unwrap_err()
            .status
    };
    assert_eq!((refused("bob@pve!own"), refused("alice@pve")), (403, 403));
    let missing = lab
        .root(Verb::Post, "/access/users/zed@pve/token/own", json!({}))
        .unwrap_err();
    assert_eq!(missing.message, "no such user ('zed@pve')\n");
}
