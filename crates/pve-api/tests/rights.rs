//! Upstream's rules that administrators should know of (docs/access.md, "Worth knowing"), held on purpose.

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

mod common;
mod site;

use pve_contract::Verb;
use pve_rest::ApiError;
use serde_json::{Value, json};
use site::{Lab, plain};

fn grant(lab: &Lab, path: &str, role: &str, user: &str) {
    let params = json!({"path": path, "roles": role, "users": user});
    lab.root(Verb::Put, "/access/acl", params).unwrap();
}

#[test]
fn who_may_change_users_may_become_one_of_the_realm_but_never_root() {
    let lab = Lab::new();
    grant(&lab, "/", "Administrator", "alice@pve");
    grant(&lab, "/access", "PVEUserAdmin", "bob@pve");
    let password = |user: &str, password: &str| json!({"userid": user, "password": password});
    lab.root(Verb::Put, "/access/password", password("bob@pve", "bob's password"))
        .unwrap();

    let put = |user: &str| {
        let mut params = password(user, "taken over!");
        params["confirmation-password"] = json!("bob's password");
        lab.call("bob@pve", Verb::Put, "/access/password", params)
    };
    assert_eq!(put("alice@pve"), Ok(Value::Null), "an administrator of the realm pve");
    let login = json!({"username": "alice@pve", "password": "taken over!"});
    assert!(lab.call("", Verb::Post, "/access/ticket", login).is_ok());
    // Realm.AllocateUser on /access reaches the realm pam, where passwords are out of reach all the same.
    lab.root(Verb::Post, "/access/users", json!({"userid": "daemon@pam"}))
        .unwrap();
    for user in ["root@pam", "daemon@pam"] {
        assert_eq!(put(user), Err(ApiError::permission("")), "{user}");
    }
    // The record of root@pam can be changed, what proves its identity cannot.
    let change = json!({"email": "else@lab.example"});
    assert_eq!(
        lab.call("bob@pve", Verb::Put, "/access/users/root@pam", change),
        Ok(Value::Null)
    );
    let factor = json!({"type": "recovery", "password": "bob's password"});
    assert_eq!(
        lab.call("bob@pve", Verb::Post, "/access/tfa/root@pam", factor),
        Err(ApiError::permission(""))
    );
    // Deleting it does not get rid of it.
    assert_eq!(
        lab.call("bob@pve", Verb::Delete, "/access/users/root@pam", json!({})),
        Ok(Value::Null)
    );
    assert_eq!(lab.get("/access/users/root@pam")["enable"], 1);
}

#[test]
fn over_a_group_one_changes_its_members_alone() {
    let lab = Lab::new();
    let put = |user: &str| {
        let params = json!({"comment": "x", "groups": "ops"});
        lab.call("bob@pve", Verb::Put, &format!("/access/users/{user}"), params)
    };
    assert_eq!(put("alice@pve"), Ok(Value::Null));
    assert_eq!(put("carol@corp"), Err(ApiError::permission("")));
    assert_eq!(put("root@pam"), Err(ApiError::permission("")));
    assert_eq!(
        lab.call("bob@pve", Verb::Put, "/access/users/zed@pve", json!({"groups": "ops"})),
        Err(plain("no such user ('zed@pve')"))
    );
}

#[test]
fn this_node_by_its_other_name_is_a_path_of_its_own() {
    let lab = Lab::new();
    let status = |node: &str| {
        let access = pve_access::AccessControl::load(&lab.context).unwrap();
        let method = pve_contract::find("/nodes/{node}/status", Verb::Get).unwrap();
        let params = |name: &str| (name == "node").then(|| node.to_owned());
        access
            .check(
                method.permissions.as_ref(),
                Some(&"carol@corp".parse().unwrap()),
                &params,
            )
            .map_err(|error| error.to_string())
    };
    let missing = |node: &str| Err(format!("Permission check failed (/nodes/{node}, Sys.Audit)"));
    grant(&lab, "/nodes/node1", "PVEAuditor", "carol@corp");
    assert_eq!((status("node1"), status("localhost")), (Ok(()), missing("localhost")));
    grant(&lab, "/nodes", "PVEAuditor", "carol@corp");
    lab.root(
        Verb::Put,
        "/access/acl",
        json!({"path": "/nodes/node1", "roles": "NoAccess", "users": "carol@corp"}),
    )
    .unwrap();
    assert_eq!((status("node1"), status("localhost")), (missing("node1"), Ok(())));
    grant(&lab, "/nodes/localhost", "NoAccess", "carol@corp");
    assert_eq!(status("localhost"), missing("localhost"));
}
