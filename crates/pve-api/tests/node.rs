//! A node's own options, waking another one, turning the machine off, and who may start and stop all guests: from route
//! to reply. What happens to guests is tested with real ones, end to end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

mod common;
mod site;

use pve_contract::Verb;
use pve_rest::ApiError;
use serde_json::{Value, json};
use site::Lab;

const USERS: &[u8] = b"user:joe@pve:1:0::::::\nuser:all@pve:1:0::::::\nuser:eve@pve:1:0::::::\n\
    acl:1:/vms/100:joe@pve:PVEVMAdmin:\nacl:1:/:all@pve:PVEVMAdmin:\n";
const CONFIG: &str = "/nodes/node1/config";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.cfs.write("user.cfg", USERS).unwrap();
    lab
}

fn text(error: &ApiError) -> (u16, String) {
    let first = error.errors.iter().next();
    let text = first.map_or(error.message.clone(), |(name, text)| format!("{name}: {text}"));
    (error.status, text.trim_end().to_owned())
}

fn refused(result: Result<Value, ApiError>) -> (u16, String) {
    text(&result.unwrap_err())
}

#[test]
fn options_are_shown_as_they_are_written() {
    let lab = lab();
    assert_eq!(lab.get(CONFIG), json!({}));
    lab.cfs.write("nodes/node1/config", b"").unwrap();
    assert_eq!(lab.get(CONFIG), json!({}));
    lab.cfs
        .write(
            "nodes/node1/config",
            b"# hello %3A\nstartall-onboot-delay: 20\nfoo: bar\n",
        )
        .unwrap();
    let all = lab.get("/nodes/localhost/config");
    assert_eq!(
        (&all["description"], &all["startall-onboot-delay"]),
        (&json!(" hello :\n"), &json!("20"))
    );
    assert_eq!(all["digest"].as_str().unwrap().len(), 40);
    let one = |property: &str| lab.root(Verb::Get, CONFIG, json!({ "property": property })).unwrap();
    assert_eq!(one("startall-onboot-delay"), json!({"startall-onboot-delay": "20"}));
    assert_eq!(one("wakeonlan"), json!({}));
    assert_eq!(refused(lab.call("eve@pve", Verb::Get, CONFIG, json!({}))).0, 403);
}

#[test]
fn options_are_changed_and_what_a_person_wrote_stays() {
    let lab = lab();
    let put = |params: Value| lab.root(Verb::Put, CONFIG, params);
    lab.cfs.write("nodes/node1/config", b"#by hand\nfoo: bar\n").unwrap();
    put(json!({"startall-onboot-delay": 7, "wakeonlan": "02:00:00:aa:bb:cc"})).unwrap();
    let written = "#by hand\nfoo: bar\nstartall-onboot-delay: 7\nwakeonlan: 02:00:00:aa:bb:cc\n";
    assert_eq!(lab.read("nodes/node1/config"), written);
    let digest = lab.get(CONFIG)["digest"].clone();
    put(json!({"delete": "wakeonlan", "digest": digest})).unwrap();
    let (status, stale) = refused(put(json!({"description": "x", "digest": digest})));
    assert!(status == 500 && stale.contains("file changed by other user"), "{stale}");
    assert_eq!(
        lab.read("nodes/node1/config"),
        "#by hand\nfoo: bar\nstartall-onboot-delay: 7\n"
    );
    for (params, expected) in [
        (
            json!({"startall-onboot-delay": 301}),
            "value must have a maximum value of 300",
        ),
        (
            json!({"wakeonlan": "02:00:00:AA:BB"}),
            "value does not look like a valid unicast MAC address",
        ),
        (
            json!({"wakeonlan": "03:00:00:AA:BB:CC"}),
            "value does not look like a valid unicast MAC address",
        ),
        (
            json!({"acmedomain0": "single"}),
            "value 'single' does not look like a valid domain name!",
        ),
        (
            json!({"acmedomain0": "a.b,alias=x"}),
            "value 'x' does not look like a valid alias name!",
        ),
        (json!({"acmedomain6": "a.example"}), "property is not defined in schema"),
    ] {
        let (status, text) = refused(put(params.clone()));
        assert!(status == 400 && text.contains(expected), "{params}: {text}");
    }
    assert_eq!(refused(lab.call("all@pve", Verb::Put, CONFIG, json!({}))).0, 403);
}

#[test]
fn who_cannot_be_woken_is_said() {
    let lab = lab();
    let wake = |node: &str| refused(lab.root(Verb::Post, &format!("/nodes/{node}/wakeonlan"), json!({})));
    let own = (500, "'node1' is local node, cannot wake my self!".to_owned());
    assert_eq!((wake("node1"), wake("localhost")), (own.clone(), own));
    assert_eq!(wake("node2"), (500, "no such cluster node 'node2'".to_owned()));
}

#[test]
fn a_lab_does_not_turn_its_machine_off() {
    let lab = lab();
    let path = "/nodes/node1/status";
    for command in ["reboot", "shutdown"] {
        let (status, text) = refused(lab.root(Verb::Post, path, json!({ "command": command })));
        assert!(status == 500 && text.starts_with("this is a lab below "), "{text}");
    }
    assert_eq!(refused(lab.root(Verb::Post, path, json!({"command": "halt"}))).0, 400);
    assert_eq!(
        refused(lab.call("joe@pve", Verb::Post, path, json!({"command": "reboot"}))).0,
        403
    );
}

#[test]
fn all_guests_are_for_those_who_may_all_or_each() {
    let lab = lab();
    for method in ["startall", "stopall"] {
        let path = format!("/nodes/node1/{method}");
        let call = |who: &str, params: Value| refused(lab.call(who, Verb::Post, &path, params));
        let denied = |path: &str| (403, format!("Permission check failed ({path}, VM.PowerMgmt)"));
        assert_eq!(call("eve@pve", json!({})), denied("/"));
        assert_eq!(call("joe@pve", json!({})), denied("/"));
        assert_eq!(call("joe@pve", json!({"vms": "100,101"})), denied("/vms/101"));
        assert_eq!(call("joe@pve", json!({"vms": ""})), denied("/"));
        assert_eq!(call("all@pve", json!({"max-workers": 65})).0, 400);
        assert_eq!(call("all@pve", json!({"vms": "100,x"})).0, 400);
    }
}
