//! Handlers as the request path runs them: found in the registry, called with checked parameters, in a site of their own.

mod cluster;
#[path = "../tests/common/mod.rs"]
mod common;
mod containers;
mod facts;
mod figures;
mod purge;

use std::path::Path;
use std::{fs, io};

use pve_cfs::{Cfs, Priority};
use pve_contract::{Verb, find};
use pve_rest::{ApiResult, Registry};
use pve_schema::ids::Upid;
use pve_schema::{Context, Param, Params};
use pve_task::TaskList;
use serde_json::{Value, json};

struct Lab {
    dir: tempfile::TempDir,
    context: Context,
    registry: Registry,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let context = pve_testing::context(dir.path(), "pve1");
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        let users = "user:joe@pve:1:0::::::\nuser:eve@pve:1:0::::::\nuser:aud@pve:1:0::::::\n\
            token:joe@pve!tok:0:1::\nacl:1:/:aud@pve:PVEAuditor:\n";
        cfs.write("user.cfg", users.as_bytes()).unwrap();
        let mut registry = Registry::new();
        crate::register(&mut registry);
        Self { dir, context, registry }
    }

    fn call(&self, caller: &str, verb: Verb, path: &str, params: &[(&str, &str)]) -> ApiResult {
        let method = find(path, verb).unwrap();
        let mut checked: Params = params
            .iter()
            .map(|(k, v)| ((*k).to_owned(), Param::Text((*v).to_owned())))
            .collect();
        if path.contains("{node}") {
            checked.insert("node", Param::Text("pve1".to_owned()));
        }
        common::run(
            &self.context,
            &self.registry,
            method,
            Some(caller.parse().unwrap()),
            checked,
        )
    }

    fn get(&self, caller: &str, path: &str, params: &[(&str, &str)]) -> Value {
        self.call(caller, Verb::Get, path, params).unwrap().data
    }

    /// A task that ended: never had a process.
    fn task(&self, n: u32, user: &str, log: &str) -> Upid {
        let upid: Upid = format!(
            "UPID:pve1:0000BBEF:0012D687:{:08X}:qmstart:101:{user}:",
            1_700_000_000 + n
        )
        .parse()
        .unwrap();
        let list = TaskList::new(&self.context);
        let path = list.log_path(&upid);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, log).unwrap();
        list.refresh(Some(&upid)).unwrap();
        upid
    }
}

const TASK: &str = "/nodes/{node}/tasks/{upid}";
const STATUS: &str = "/nodes/{node}/tasks/{upid}/status";
const LOG: &str = "/nodes/{node}/tasks/{upid}/log";

fn refused(result: ApiResult) -> (u16, String) {
    let error = result.unwrap_err();
    let text = error.errors.get("upid").or_else(|| error.errors.get("vmid"));
    (error.status, text.cloned().unwrap_or(error.message))
}

#[test]
fn indexes_are_constant() {
    let lab = Lab::new();
    let names = |path: &str| {
        let rows = lab.get("eve@pve", path, &[]);
        let rows = rows.as_array().unwrap().clone();
        rows.iter()
            .map(|row| row["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let cluster = names("/cluster");
    assert_eq!(
        (cluster.len(), cluster[0].as_str(), cluster[20].as_str()),
        (21, "acme", "sdn")
    );
    let node = names("/nodes/{node}");
    assert_eq!(
        (node.len(), node[0].as_str(), node[40].as_str()),
        (41, "aplinfo", "wakeonlan")
    );
    assert_eq!(names(TASK), ["log", "status"]);
}

#[test]
fn the_next_id_is_a_string() {
    let lab = Lab::new();
    let cfs = Cfs::new(&lab.context);
    cfs.create("qemu-server/100.conf", b"").unwrap();
    assert_eq!(lab.get("eve@pve", "/cluster/nextid", &[]), json!("101"));
    assert_eq!(lab.get("eve@pve", "/cluster/nextid", &[("vmid", "200")]), json!("200"));
    assert_eq!(
        refused(lab.call("eve@pve", Verb::Get, "/cluster/nextid", &[("vmid", "100")])),
        (400, "VM 100 already exists".to_owned())
    );
    cfs.write("datacenter.cfg", b"next-id: lower=100,upper=101\n").unwrap();
    assert_eq!(
        refused(lab.call("eve@pve", Verb::Get, "/cluster/nextid", &[])),
        (500, "unable to get any free VMID in range [100, 101]\n".to_owned())
    );
}

/// Reference 04 §8.2.
#[test]
fn options_are_objects_for_those_who_may_see_them() {
    let lab = Lab::new();
    let options = |who: &str| lab.get(who, "/cluster/options", &[]);
    assert_eq!(
        options("root@pam"),
        json!({"allowed-tags": [], "description": "", "mac_prefix": "BC:24:11"})
    );
    assert_eq!(options("eve@pve"), json!({"allowed-tags": []}));

    let set = [
        ("migration", "insecure,network=10.0.0.0/24"),
        ("replication", "type=secure"),
        ("next-id", "lower=200,upper=300"),
        ("registered-tags", "zeta;alpha"),
        ("user-tag-access", "user-allow=list,user-allow-list=mine"),
        ("tag-style", "shape=dense"),
        ("console", "applet"),
        ("max_workers", "3"),
        ("bwlimit", "clone=5"),
        ("description", "two\nlines"),
    ];
    lab.call("root@pam", Verb::Put, "/cluster/options", &set).unwrap();
    assert_eq!(
        options("root@pam"),
        json!({
            "allowed-tags": ["alpha", "mine", "zeta"],
            "bwlimit": "clone=5",
            "console": "html5",
            "description": "two\nlines\n",
            "mac_prefix": "BC:24:11",
            "max_workers": "3",
            "migration": {"type": "insecure", "network": "10.0.0.0/24"},
            "next-id": {"lower": "200", "upper": "300"},
            "registered-tags": ["alpha", "zeta"],
            "replication": {"type": "secure"},
            "tag-style": {"shape": "dense"},
            "user-tag-access": {"user-allow": "list", "user-allow-list": ["mine"]},
        })
    );
    assert_eq!(
        options("eve@pve"),
        json!({"allowed-tags": ["mine"], "console": "html5", "tag-style": {"shape": "dense"}})
    );
    assert_eq!(
        refused(lab.call(
            "root@pam",
            Verb::Put,
            "/cluster/options",
            &[("next-id", "lower=500,upper=200")]
        )),
        (500, "lower (500) <= upper (200) boundary rule broken\n".to_owned())
    );
    lab.call(
        "root@pam",
        Verb::Put,
        "/cluster/options",
        &[("delete", "description,migration")],
    )
    .unwrap();
    let left = options("root@pam");
    assert_eq!((&left["description"], left.get("migration")), (&json!(""), None));
}

#[test]
fn the_log_shows_others_only_to_those_who_may_see_it() {
    let lab = Lab::new();
    let log = Cfs::new(&lab.context).cluster_log();
    log.log(Priority::Info, "pvedaemon", "joe@pve", "hello");
    let all = lab.get("root@pam", "/cluster/log", &[]);
    assert_eq!(
        (all[0]["uid"].clone(), all[0]["id"].clone()),
        (json!("2"), json!("2:pve1"))
    );
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert_eq!(
        lab.get("root@pam", "/cluster/log", &[("max", "1")])
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(lab.get("joe@pve", "/cluster/log", &[])[0]["msg"], "hello");
    assert_eq!(lab.get("eve@pve", "/cluster/log", &[]), json!([]));
}

#[test]
fn tasks_are_listed_for_owners_and_auditors() {
    let lab = Lab::new();
    lab.task(0, "joe@pve", "TASK OK\n");
    lab.task(1, "joe@pve!tok", "TASK ERROR: no\n");
    lab.task(2, "root@pam", "TASK WARNINGS: 1\n");
    let list = |caller: &str, params: &[(&str, &str)]| {
        let reply = lab.call(caller, Verb::Get, "/nodes/{node}/tasks", params).unwrap();
        let statuses: Vec<_> = reply
            .data
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["status"].as_str().unwrap().to_owned())
            .collect();
        (statuses, reply.total.unwrap())
    };
    let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(list("root@pam", &[]), (texts(&["WARNINGS: 1", "no", "OK"]), 3));
    assert_eq!(list("aud@pve", &[]).1, 3);
    assert_eq!(list("joe@pve", &[]), (texts(&["no", "OK"]), 2));
    assert_eq!(list("joe@pve!tok", &[]), (texts(&["no"]), 1));
    assert_eq!(list("eve@pve", &[]).1, 0);
    assert_eq!(list("root@pam", &[("limit", "1"), ("start", "1")]), (texts(&["no"]), 3));
    assert_eq!(list("root@pam", &[("errors", "1")]), (texts(&["WARNINGS: 1", "no"]), 2));
    assert_eq!(list("root@pam", &[("statusfilter", "ok")]), (texts(&["OK"]), 1));

    let users = |caller: &str| {
        let rows = lab.get(caller, "/cluster/tasks", &[]);
        rows.as_array()
            .unwrap()
            .iter()
            .map(|row| row["user"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(users("root@pam"), ["root@pam", "joe@pve", "joe@pve"]);
    assert_eq!(users("joe@pve"), ["joe@pve", "joe@pve"]);
    assert!(users("joe@pve!tok").is_empty());
}

#[test]
fn a_task_tells_its_status() {
    let lab = Lab::new();
    let upid = lab.task(0, "joe@pve!tok", "TASK ERROR: it broke\n").to_string();
    let row = lab.get("joe@pve", STATUS, &[("upid", &upid)]);
    assert_eq!(
        row,
        json!({"upid": upid, "node": "pve1", "pid": 48111, "pstart": 1_234_567, "starttime": 1_700_000_000,
            "type": "qmstart", "id": "101", "user": "joe@pve", "tokenid": "tok", "status": "stopped",
            "exitstatus": "it broke"})
    );
    let get = |caller: &str, upid: &str| refused(lab.call(caller, Verb::Get, STATUS, &[("upid", upid)]));
    assert_eq!(get("root@pam", "x"), (400, "unable to parse worker upid".to_owned()));
    assert_eq!(
        get("root@pam", &upid.replace("101", "102")),
        (400, "no such task".to_owned())
    );
    assert_eq!(
        get("eve@pve", &upid),
        (403, "Permission check failed (/nodes/pve1, Sys.Audit)\n".to_owned())
    );
    let stop = |caller: &str| lab.call(caller, Verb::Delete, TASK, &[("upid", &upid)]);
    assert_eq!(stop("joe@pve").unwrap().data, Value::Null, "stopped already");
    assert_eq!(
        refused(stop("aud@pve")),
        (403, "Permission check failed (/nodes/pve1, Sys.Modify)\n".to_owned())
    );
}

#[test]
fn a_running_process_is_running_and_stopped_by_its_owner() {
    let lab = Lab::new();
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let pstart: u64 = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_ascii_whitespace()
        .nth(19)
        .unwrap()
        .parse()
        .unwrap();
    let upid = format!("UPID:pve1:{:08X}:{pstart:08X}:6553F100:x::joe@pve:", child.id());
    let path = TaskList::new(&lab.context).log_path(&upid.parse().unwrap());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "").unwrap();
    let row = lab.get("joe@pve", STATUS, &[("upid", &upid)]);
    assert_eq!((row["status"].as_str(), row.get("exitstatus")), (Some("running"), None));
    lab.call("joe@pve", Verb::Delete, TASK, &[("upid", &upid)]).unwrap();
    assert!(!child.wait().unwrap().success());
    let row = lab.get("joe@pve", STATUS, &[("upid", &upid)]);
    assert_eq!(
        (row["status"].as_str(), row["exitstatus"].as_str()),
        (Some("stopped"), Some("unexpected status"))
    );
}

#[test]
fn a_log_is_read_in_parts_or_saved_as_a_whole() {
    let lab = Lab::new();
    let upid = lab.task(0, "joe@pve", "l1\nl2\nTASK OK\n").to_string();
    let reply = lab
        .call(
            "joe@pve",
            Verb::Get,
            LOG,
            &[("upid", &upid), ("start", "1"), ("limit", "1")],
        )
        .unwrap();
    assert_eq!((reply.data, reply.total), (json!([{"n": 2, "t": "l2"}]), Some(3)));
    let saved = lab
        .call("joe@pve", Verb::Get, LOG, &[("upid", &upid), ("download", "1")])
        .unwrap();
    let saved = saved.download.unwrap();
    assert_eq!(
        (
            io::read_to_string(saved.content.into_reader()).unwrap().as_str(),
            saved.content_encoding
        ),
        ("l1\nl2\nTASK OK\n", None)
    );
    assert_eq!(
        saved.content_disposition.as_deref(),
        Some("attachment; filename=\"task-pve1-qmstart-2023-11-14T22:13:20Z.log\"")
    );
    assert_eq!(
        refused(lab.call(
            "joe@pve",
            Verb::Get,
            LOG,
            &[("upid", &upid), ("download", "1"), ("limit", "1")]
        )),
        (
            500,
            "'download' cannot be used together with 'start' or 'limit' parameters\n".to_owned()
        )
    );
    let long = "x".repeat(1100) + "\nTASK OK\n";
    let upid = lab.task(1, "joe@pve", &long).to_string();
    let saved = lab
        .call("joe@pve", Verb::Get, LOG, &[("upid", &upid), ("download", "1")])
        .unwrap();
    let saved = saved.download.unwrap();
    assert_eq!(saved.content_encoding.as_deref(), Some("gzip"));
    let text = io::read_to_string(flate2::read::GzDecoder::new(saved.content.into_reader())).unwrap();
    assert_eq!(text, long);
    let gone = upid.replace("101", "102");
    assert_eq!(
        lab.get("joe@pve", LOG, &[("upid", &gone)]),
        json!([{"n": 1, "t": "unable to open file - No such file or directory"}])
    );
}

#[test]
fn nodes_tell_of_themselves() {
    let lab = Lab::new();
    let cfs = Cfs::new(&lab.context);
    assert_eq!(
        lab.get("eve@pve", "/nodes", &[]),
        json!([{"id": "node/pve1", "node": "pve1", "type": "node", "status": "unknown", "ssl_fingerprint": null}])
    );
    cfs.status()
        .set("rrd/pve-node-9.0/pve1", b"10:::0.5:8:0.25:0:100:50:0:0:1000:500")
        .unwrap();
    let row = &lab.get("aud@pve", "/nodes", &[])[0];
    assert_eq!(
        (&row["status"], &row["cpu"], &row["mem"]),
        (&json!("online"), &json!(0.25), &json!(50))
    );
    assert!(lab.get("eve@pve", "/nodes", &[])[0].get("cpu").is_none());
    let record = Path::new("run/pve-cluster/status/rrd%2Fpve-node-9.0%2Fpve1");
    let file = fs::File::open(lab.dir.path().join(record)).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(310))
        .unwrap();
    assert_eq!(
        lab.get("aud@pve", "/nodes", &[])[0]["status"],
        "unknown",
        "an old record is none"
    );
}
