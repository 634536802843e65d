//! `/pools` as a client sees it, from route to reply (reference 02 §14, 10c §10).

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

mod common;
mod site;

use pve_contract::Verb;
use pve_rest::ApiError;
use serde_json::{Value, json};
use site::{Lab, plain};

fn lab() -> Lab {
    let lab = Lab::new();
    for vmid in [100, 101] {
        lab.cfs
            .create(&format!("qemu-server/{vmid}.conf"), b"name: x\n")
            .unwrap();
    }
    lab.cfs
        .write(
            "storage.cfg",
            b"dir: local\n\tpath /var/lib/vz\n\tcontent iso\n\ndir: far\n\tpath /far\n\tnodes other\n",
        )
        .unwrap();
    lab
}

fn put(lab: &Lab, caller: &str, params: Value) -> Result<Value, ApiError> {
    lab.call(caller, Verb::Put, "/pools", params)
}

fn pool_line(lab: &Lab, name: &str) -> Option<String> {
    let head = format!("pool:{name}:");
    let text = lab.read("user.cfg");
    text.lines().find(|line| line.starts_with(&head)).map(str::to_owned)
}

#[test]
fn pools_are_listed_for_who_may_see_them() {
    let lab = lab();
    assert_eq!(
        lab.get("/pools"),
        json!([{"poolid": "dev"}, {"poolid": "prod"}, {"poolid": "prod/web", "comment": "web tier"}])
    );
    // A role with Pool.Audit on `/` by the group, VM roles alone on /pool/prod, nothing at all.
    let ids = |caller: &str| {
        let rows = lab.call(caller, Verb::Get, "/pools", json!({})).unwrap();
        rows.as_array()
            .unwrap()
            .iter()
            .map(|row| row["poolid"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("bob@pve"), ["dev", "prod", "prod/web"]);
    assert_eq!(ids("alice@pve"), ["dev"]);
    assert!(ids("carol@corp").is_empty());
    assert_eq!(
        lab.call("carol@corp", Verb::Get, "/pools", json!({"poolid": "dev"})),
        Err(ApiError::permission("/pool/dev, Pool.Audit"))
    );
}

#[test]
fn one_pool_comes_with_its_members() {
    let lab = lab();
    let guest = |vmid: u32| {
        let id = format!("qemu/{vmid}");
        json!({"id": id, "vmid": vmid, "node": "node1", "type": "qemu", "status": "unknown"})
    };
    let local = json!({
        "id": "storage/node1/local", "storage": "local", "node": "node1", "type": "storage", "plugintype": "dir",
        "content": "iso", "shared": 0, "status": "unknown",
    });
    let web = |params: Value| lab.root(Verb::Get, "/pools", params).unwrap();
    // 1000 and nfs-a exist nowhere.
    assert_eq!(
        web(json!({"poolid": "prod/web"})),
        json!([{"poolid": "prod/web", "comment": "web tier", "members": [guest(100), guest(101), local]}])
    );
    assert_eq!(
        web(json!({"poolid": "prod/web", "type": "storage"}))[0]["members"],
        json!([local])
    );
    assert_eq!(
        web(json!({"poolid": "prod/web", "type": "lxc"}))[0]["members"],
        json!([])
    );
    assert_eq!(lab.get("/pools/dev"), json!({"members": []}));
    assert_eq!(
        lab.root(Verb::Get, "/pools", json!({"poolid": "nix"})),
        Err(plain("pool 'nix' does not exist"))
    );
    assert_eq!(
        lab.root(Verb::Get, "/pools/nix", json!({})),
        Err(plain("pool 'nix' does not exist"))
    );
    assert_eq!(
        lab.root(Verb::Get, "/pools", json!({"type": "qemu"})),
        Err(ApiError::parameter("poolid", "missing property required by 'type'"))
    );
    // No node of the cluster may use it, so it has no row.
    put(&lab, "root@pam", json!({"poolid": "dev", "storage": "far"})).unwrap();
    assert_eq!(lab.get("/pools/dev"), json!({"members": []}));
}

#[test]
fn pools_are_made_below_pools() {
    let lab = lab();
    let post = |id: &str| lab.root(Verb::Post, "/pools", json!({"poolid": id, "comment": "a: b"}));
    for (id, text) in [
        ("prod", "pool 'prod' already exists"),
        ("nix/web", "parent 'nix' of pool 'nix/web' does not exist"),
        ("prod/1st", "pool name must start with a letter"),
        ("9", "pool name must start with a letter"),
    ] {
        assert_eq!(post(id), Err(plain(&format!("create pool failed: {text}"))), "{id}");
    }
    assert_eq!(
        post("a/b/c/d").unwrap_err().errors["poolid"].trim_end(),
        "invalid format - pool name 'a/b/c/d' nested too deeply (max levels = 3)"
    );
    for id in ["new", "new/sub", "new/sub/leaf"] {
        assert_eq!(post(id), Ok(Value::Null), "{id}");
    }
    assert_eq!(
        pool_line(&lab, "new/sub/leaf").as_deref(),
        Some("pool:new/sub/leaf:a%3A b:::")
    );
    // Rights on a pool hold below it.
    let grant = json!({"path": "/pool/prod", "roles": "PVEPoolAdmin", "users": "carol@corp"});
    lab.root(Verb::Put, "/access/acl", grant).unwrap();
    let carol = |id: &str| lab.call("carol@corp", Verb::Post, "/pools", json!({"poolid": id}));
    assert_eq!(carol("prod/db"), Ok(Value::Null));
    assert_eq!(carol("mine"), Err(ApiError::permission("/pool/mine, Pool.Allocate")));
}

#[test]
fn members_join_and_leave() {
    let lab = lab();
    let root = |params| put(&lab, "root@pam", params);
    for (params, text) in [
        (json!({"poolid": "nix"}), "pool 'nix' does not exist"),
        (
            json!({"poolid": "dev", "vms": "102"}),
            "VM 102 is already a pool member",
        ),
        (
            json!({"poolid": "dev", "vms": "103", "delete": 1}),
            "VM 103 is not a pool member",
        ),
        (
            json!({"poolid": "dev", "vms": "103,100"}),
            "VM 100 belongs already to pool 'prod/web' and 'allow-move' is not set",
        ),
        (
            json!({"poolid": "prod/web", "storage": "local"}),
            "Storage 'local' is already a pool member",
        ),
        (
            json!({"poolid": "dev", "storage": "local", "delete": 1}),
            "Storage 'local' is not a pool member",
        ),
    ] {
        assert_eq!(
            root(params.clone()),
            Err(plain(&format!("update pools failed: {text}"))),
            "{params}"
        );
    }
    assert_eq!(
        pool_line(&lab, "dev").as_deref(),
        Some("pool:dev::102,100::"),
        "nothing is saved if anything fails"
    );
    root(json!({"poolid": "dev", "vms": "103,100", "storage": "local", "allow-move": 1, "comment": "c"})).unwrap();
    assert_eq!(pool_line(&lab, "dev").as_deref(), Some("pool:dev:c:100,102,103:local:"));
    assert_eq!(
        pool_line(&lab, "prod/web").as_deref(),
        Some("pool:prod/web:web tier:1000,101:local,nfs-a:")
    );
    let deprecated = lab.root(
        Verb::Put,
        "/pools/dev",
        json!({"vms": "102,103", "delete": 1, "comment": ""}),
    );
    assert_eq!(deprecated, Ok(Value::Null));
    assert_eq!(pool_line(&lab, "dev").as_deref(), Some("pool:dev::100:local:"));
}

#[test]
fn a_member_is_moved_by_who_may_change_it() {
    let lab = lab();
    let grant = |path: &str, role: &str| {
        let params = json!({"path": path, "roles": role, "users": "carol@corp"});
        lab.root(Verb::Put, "/access/acl", params).unwrap();
    };
    let move_it = json!({"poolid": "dev", "vms": "100", "allow-move": 1});
    let carol = |params: &Value| put(&lab, "carol@corp", params.clone());
    let refused = |what: &str| {
        let text = format!("update pools failed: 403 Permission check failed ({what})");
        Err(plain(&text))
    };
    assert_eq!(carol(&move_it), Err(ApiError::permission("/pool/dev, Pool.Allocate")));
    grant("/pool/dev", "PVEPoolAdmin");
    assert_eq!(carol(&move_it), refused("/vms/100, Permissions.Modify|VM.Allocate"));
    grant("/vms/100", "PVEVMAdmin");
    assert_eq!(carol(&move_it), refused("/pool/prod/web, Pool.Allocate"));
    grant("/pool/prod", "PVEPoolAdmin");
    assert_eq!(carol(&move_it), Ok(Value::Null));
    assert_eq!(
        carol(&json!({"poolid": "dev", "storage": "far"})),
        refused("/storage/far, Permissions.Modify|Datastore.Allocate")
    );
}

#[test]
fn an_empty_pool_goes_with_its_rights() {
    let lab = lab();
    let delete = |id: &str| lab.root(Verb::Delete, "/pools", json!({"poolid": id}));
    let refused = |text: &str| Err(plain(&format!("delete pool failed: {text}")));
    assert_eq!(delete("nix"), refused("pool 'nix' does not exist"));
    assert_eq!(
        delete("prod"),
        refused("pool 'prod' is not empty (contains pool 'prod/web')")
    );
    assert_eq!(
        delete("prod/web"),
        refused("pool 'prod/web' is not empty (contains VM 100)")
    );
    let leave = json!({"poolid": "prod/web", "vms": "100,101", "delete": 1});
    put(&lab, "root@pam", leave).unwrap();
    assert_eq!(
        delete("prod/web"),
        refused("pool 'prod/web' is not empty (contains storage 'local')")
    );
    put(
        &lab,
        "root@pam",
        json!({"poolid": "prod/web", "storage": "local", "delete": 1}),
    )
    .unwrap();
    assert_eq!(
        delete("prod/web"),
        Ok(Value::Null),
        "1000 and nfs-a do not exist any more"
    );
    assert!(lab.read("user.cfg").contains("/pool/prod:"));
    assert_eq!(lab.root(Verb::Delete, "/pools/prod", json!({})), Ok(Value::Null));
    assert!(!lab.read("user.cfg").contains("/pool/prod"));
}
