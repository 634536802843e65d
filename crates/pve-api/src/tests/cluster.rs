//! The view of the cluster: its configuration, and what nodes tell of themselves.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::time::Instant;

use pve_cfs::{Cfs, Priority};
use pve_contract::Verb;
use pve_rest::ApiError;
use serde_json::{Value, json};

use super::{Lab, refused};

const COROSYNC: &str = "totem {\n  cluster_name: lab\n  config_version: 2\n  interface {\n    linknumber: 0\n  }\n}\n\n\
    nodelist {\n  node {\n    name: pve1\n    nodeid: 1\n    quorum_votes: 1\n    ring0_addr: 127.0.0.1\n  }\n}\n";

#[test]
fn a_node_that_is_alone_has_no_cluster_configuration() {
    let lab = Lab::new();
    let get = |path: &str| lab.get("root@pam", path, &[]);
    assert_eq!(
        get("/cluster/config"),
        json!([{"name": "nodes"}, {"name": "totem"}, {"name": "join"}, {"name": "qdevice"}, {"name": "apiversion"}])
    );
    assert_eq!(get("/cluster/config/apiversion"), json!(1));
    assert_eq!(get("/cluster/config/nodes"), json!([]));
    assert_eq!(get("/cluster/config/totem"), Value::Null);
    assert_eq!(get("/cluster/config/qdevice"), json!({}));
    let ApiError { status, message, .. } = lab
        .call("root@pam", Verb::Get, "/cluster/config/join", &[])
        .unwrap_err();
    assert_eq!(
        (status, message.trim_end()),
        (424, "node is not in a cluster, no join info available!")
    );
}

#[test]
fn a_cluster_tells_what_a_node_needs_to_join() {
    let lab = Lab::new();
    let cfs = Cfs::new(&lab.context);
    cfs.write("corosync.conf", COROSYNC.as_bytes()).unwrap();
    pve_node::updatecerts(&lab.context).unwrap();
    let get = |path: &str| lab.get("root@pam", path, &[]);
    let node = json!({"name": "pve1", "nodeid": "1", "quorum_votes": "1", "ring0_addr": "127.0.0.1"});
    let mut row = node.clone();
    row["node"] = "pve1".into();
    assert_eq!(get("/cluster/config/nodes"), json!([row]));
    let totem = json!({"cluster_name": "lab", "config_version": "2", "interface": {"0": {"linknumber": "0"}}});
    assert_eq!(get("/cluster/config/totem"), totem);
    let mut member = node;
    member["pve_addr"] = "127.0.0.1".into();
    member["pve_fp"] = pve_node::fingerprint(&cfs, "pve1").unwrap().unwrap().into();
    assert_eq!(
        get("/cluster/config/join"),
        json!({"nodelist": [member], "preferred_node": "pve1", "totem": totem,
            "config_digest": pve_schema::digest::of(COROSYNC.as_bytes())})
    );
    assert_eq!(
        refused(lab.call("root@pam", Verb::Get, "/cluster/config/join", &[("node", "pve7")])),
        (500, "unknown node 'pve7'\n".to_owned())
    );
    cfs.write("corosync.conf", b"totem {\n}\n}\n").unwrap();
    assert_eq!(
        refused(lab.call("root@pam", Verb::Get, "/cluster/config/totem", &[])),
        (500, "parse error - uncexpected '}'\n".to_owned())
    );
}

#[test]
fn the_daemon_of_an_external_vote_is_asked_and_not_waited_for_without_end() {
    let lab = Lab::new();
    let socket = lab.context.site.path("/var/run/corosync-qdevice/corosync-qdevice.sock");
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let daemon = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = String::new();
        stream.read_to_string(&mut question).unwrap();
        let answer = "Qdevice information\n-------------------\nModel:\t\t\tNet\nState:\t\t\tConnected\n    State:\tinner\n\
            QNetd host:\t\t10.0.0.1:5403\nSecret:\tx\n";
        stream.write_all(answer.as_bytes()).unwrap();
        drop(stream);
        // The second one is taken and never answered.
        let second = listener.accept().unwrap();
        (question, second, listener)
    });
    let get = || lab.get("root@pam", "/cluster/config/qdevice", &[]);
    assert_eq!(
        get(),
        json!({"Model": "Net", "State": "Connected", "QNetd host": "10.0.0.1:5403"})
    );
    let began = Instant::now();
    assert_eq!(get(), json!({}));
    assert!(began.elapsed().as_secs() < 20);
    assert_eq!(daemon.join().unwrap().0, "status verbose\n");
}

#[test]
fn resources_show_states_of_the_manager_and_networks() {
    let lab = Lab::new();
    let cfs = Cfs::new(&lab.context);
    cfs.create("qemu-server/100.conf", b"").unwrap();
    cfs.create("lxc/101.conf", b"").unwrap();
    let status = br#"{"node_status":{"pve1":"maintenance"},"service_status":{"vm:100":{"state":"freeze"}}}"#;
    cfs.write("ha/manager_status", status).unwrap();
    cfs.write("ha/resources.cfg", b"vm: 100\n\nct: 101\n\tstate stopped\n")
        .unwrap();
    let network = json!({"zone/z": {"network": "z", "network-type": "zone", "type": "network", "status": "pending",
        "zone-type": "vlan"}});
    cfs.status().set("kv/network", network.to_string().as_bytes()).unwrap();
    cfs.status()
        .set("kv/sdn", br#"{"z":{"status":"pending","zone-type":"vlan"}}"#)
        .unwrap();
    let row = |rows: &Value, id: &str| {
        let found = rows.as_array().unwrap().iter().find(|row| row["id"] == id);
        found.cloned().unwrap_or_default()
    };
    let all = lab.get("aud@pve", "/cluster/resources", &[]);
    assert_eq!(row(&all, "qemu/100")["hastate"], "freeze");
    assert_eq!(row(&all, "lxc/101")["hastate"], "stopped");
    assert_eq!(row(&all, "node/pve1")["hastate"], "maintenance");
    assert_eq!(row(&all, "network/pve1/zone/z")["status"], "pending");
    // A node that tells of networks has no rows of zones besides.
    assert_eq!(row(&all, "sdn/pve1/z"), Value::Null);
    assert_eq!(lab.get("aud@pve", "/cluster/resources", &[("type", "sdn")]), json!([]));
    cfs.status().unset("kv/network").unwrap();
    let sdn = lab.get("aud@pve", "/cluster/resources", &[("type", "sdn")]);
    assert_eq!(
        sdn,
        json!([{"id": "sdn/pve1/z", "sdn": "z", "node": "pve1", "type": "sdn", "status": "pending",
            "zone-type": "vlan"}])
    );
    let all = lab.get("aud@pve", "/cluster/resources", &[]);
    let last: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .take(2)
        .map(|row| row["type"].clone())
        .collect();
    assert_eq!(last, ["network", "sdn"]);
    assert_eq!(lab.get("eve@pve", "/cluster/resources", &[("type", "sdn")]), json!([]));
}

#[test]
fn the_log_shows_what_the_caller_may_read() {
    let lab = Lab::new();
    let log = Cfs::new(&lab.context).cluster_log();
    log.log(
        Priority::Warning,
        "pvedaemon",
        "joe@pve",
        "say \"hi\"\n\tgr\u{fc}n \u{7f}",
    );
    log.log(Priority::Info, "pvedaemon", "root@pam", "two");
    let rows = |who: &str, max: &[(&str, &str)]| lab.get(who, "/cluster/log", max);
    let all = rows("root@pam", &[]);
    let messages: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["msg"].as_str().unwrap())
        .collect();
    assert_eq!(
        messages,
        ["two", "say \"hi\"#010#009gr\u{fc}n #127", "starting cluster log"]
    );
    let entry = &all[1];
    assert_eq!(
        (
            &entry["uid"],
            &entry["id"],
            &entry["pri"],
            &entry["user"],
            &entry["node"]
        ),
        (
            &json!("2"),
            &json!("2:pve1"),
            &json!(4),
            &json!("joe@pve"),
            &json!("pve1")
        )
    );
    assert!(entry["time"].is_i64() && entry["pid"].is_u64());
    assert_eq!(rows("root@pam", &[("max", "1")]).as_array().unwrap().len(), 1);
    assert_eq!(rows("joe@pve", &[]).as_array().unwrap().len(), 1);
    assert_eq!(rows("eve@pve", &[]), json!([]));
}

#[test]
fn a_subscription_that_nobody_has_is_said_so() {
    let lab = Lab::new();
    let path = "/nodes/{node}/subscription";
    let url = "https://www.proxmox.com/en/proxmox-virtual-environment/pricing";
    let none = json!({"status": "notfound", "message": "There is no subscription key", "url": url});
    assert_eq!(lab.get("eve@pve", path, &[]), none);
    let known = lab.get("aud@pve", path, &[]);
    let id = known["serverid"].as_str().unwrap();
    assert!(
        id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()),
        "{id}"
    );
    let file = lab.context.site.path("/etc/subscription");
    fs::write(&file, "pve1c-0123456789\n").unwrap();
    let new = lab.get("aud@pve", path, &[]);
    assert_eq!(
        (&new["status"], &new["key"]),
        (&json!("new"), &json!("pve1c-0123456789"))
    );
    fs::write(&file, "pve1c-0123456789\nc2ln\ne30=\n").unwrap();
    let signed = lab.get("eve@pve", path, &[]);
    assert_eq!(
        signed,
        json!({"status": "invalid", "message": "online subscription check is not available", "url": url})
    );
}

#[test]
fn replication_jobs_are_those_of_the_nodes_guests() {
    let lab = Lab::new();
    let cfs = Cfs::new(&lab.context);
    cfs.create("qemu-server/100.conf", b"").unwrap();
    cfs.create("lxc/101.conf", b"").unwrap();
    cfs.make_dir("nodes/pve2/qemu-server").unwrap();
    cfs.create("nodes/pve2/qemu-server/102.conf", b"").unwrap();
    let jobs: String = (100..=102)
        .map(|vmid| format!("local: {vmid}-0\n\ttarget pve2\n\n"))
        .collect();
    cfs.write("replication.cfg", jobs.as_bytes()).unwrap();
    let state = lab.context.site.path("/var/lib/pve-manager/pve-replication-state.json");
    fs::create_dir_all(state.parent().unwrap()).unwrap();
    fs::write(
        &state,
        r#"{"100":{"local/pve2":{"last_sync":900,"last_try":900,"fail_count":0,"duration":1.5}}}"#,
    )
    .unwrap();
    let list = |who: &str, params: &[(&str, &str)]| lab.get(who, "/nodes/{node}/replication", params);
    let all = list("aud@pve", &[]);
    let ids: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (&row["id"], &row["vmtype"]))
        .collect();
    assert_eq!(
        ids,
        [(&json!("100-0"), &json!("qemu")), (&json!("101-0"), &json!("lxc"))]
    );
    assert_eq!(
        (&all[0]["last_sync"], &all[0]["duration"], &all[0]["next_sync"]),
        (&json!(900), &json!(1.5), &json!(1800))
    );
    assert_eq!(list("aud@pve", &[("guest", "101")]).as_array().unwrap().len(), 1);
    assert_eq!(list("eve@pve", &[]), json!([]));
    let status = |who: &str, id: &str| lab.call(who, Verb::Get, "/nodes/{node}/replication/{id}/status", &[("id", id)]);
    assert_eq!(status("aud@pve", "100-0").unwrap().data, all[0]);
    assert_eq!(
        refused(status("eve@pve", "100-0")),
        (403, "Permission check failed (/vms/100, VM.Audit)\n".to_owned())
    );
    assert_eq!(
        refused(status("aud@pve", "100-7")),
        (500, "no such replication job '100-7'\n".to_owned())
    );
    let log = lab.get("aud@pve", "/nodes/{node}/replication/{id}/log", &[("id", "100-0")]);
    assert_eq!(
        log,
        json!([{"n": 1, "t": "unable to open file - No such file or directory"}])
    );
}
