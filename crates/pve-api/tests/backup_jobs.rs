//! `/cluster/jobs`, `/cluster/backup` and `/cluster/backup-info`: calls as clients send them, permissions and parameter
//! checks included (reference 05 §2 to §5, vectors §18.1).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

mod common;

use std::sync::Arc;

use pve_access::AccessControl;
use pve_cfs::Cfs;
use pve_contract::{Verb, check_call, route};
use pve_jobs::{JobKind, StateStore};
use pve_rest::{ApiResult, Registry};
use pve_schema::Context;
use pve_schema::clock::ManualClock;
use pve_schema::ids::AuthId;
use serde_json::{Value, json};

/// 2026-11-22 00:00:00 UTC, a Sunday.
const NOW: i64 = 1_795_305_600;

/// `ops` may change jobs on storage `nas`, `aud` may look, `joe` may neither; guest 100 and pool `p` are `joe`'s.
const USERS: &str = "user:root@pam:1:0::::::\nuser:ops@pve:1:0::::::\nuser:aud@pve:1:0::::::\nuser:joe@pve:1:0::::::\n\
    pool:p::101,200:local:\n\
    role:Jobs:Sys.Modify,Sys.Audit:\nrole:Store:Datastore.Allocate:\nrole:Limits:Sys.Audit:\n\
    acl:1:/:ops@pve:Jobs:\nacl:1:/storage/nas:ops@pve:Store:\n\
    acl:1:/:aud@pve:Limits:\nacl:1:/vms/100:aud@pve:PVEVMUser:\nacl:1:/vms/777:aud@pve:PVEVMUser:\n";

struct Lab {
    directory: tempfile::TempDir,
    context: Context,
    registry: Registry,
}

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let context = pve_testing::context(directory.path(), "pve1");
        let context = context.with_clock(Arc::new(ManualClock::at(NOW)));
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        cfs.write("user.cfg", USERS.as_bytes()).unwrap();
        let mut registry = Registry::new();
        pve_api::register(&mut registry);
        Self {
            directory,
            context,
            registry,
        }
    }

    fn call(&self, caller: &str, verb: Verb, path: &str, params: Value) -> ApiResult {
        let found = route(verb, path).unwrap();
        let caller: AuthId = caller.parse().unwrap();
        let access = AccessControl::load(&self.context)?;
        let sent = |name: &str| params.get(name).and_then(Value::as_str).map(str::to_owned);
        access.check(found.method.permissions.as_ref(), Some(&caller), &sent)?;
        let raw = params.as_object().unwrap().clone();
        let params = check_call(found.method, found.uri_params, raw)?;
        common::run(&self.context, &self.registry, found.method, Some(caller), params)
    }

    fn get(&self, path: &str) -> Value {
        self.get_as("root@pam", path)
    }

    fn get_as(&self, caller: &str, path: &str) -> Value {
        self.call(caller, Verb::Get, path, json!({})).unwrap().data
    }

    /// Makes a job; the answer must be empty.
    fn post(&self, params: Value) {
        let reply = self.call("root@pam", Verb::Post, "/cluster/backup", params).unwrap();
        assert_eq!(reply.data, Value::Null);
    }

    fn put(&self, id: &str, params: Value) {
        let path = format!("/cluster/backup/{id}");
        let reply = self.call("root@pam", Verb::Put, &path, params).unwrap();
        assert_eq!(reply.data, Value::Null);
    }

    /// Status and text of a refusal: `name: text` for a parameter's.
    fn refused(&self, caller: &str, verb: Verb, path: &str, params: Value) -> (u16, String) {
        let (status, text) = common::refusal(self.call(caller, verb, path, params));
        (status, text.trim_end_matches('\n').to_owned())
    }

    fn file(&self) -> String {
        Cfs::new(&self.context)
            .read_text("jobs.cfg")
            .unwrap()
            .unwrap_or_default()
    }

    fn state(&self, id: &str) -> Option<String> {
        let path = format!("var/lib/pve-manager/jobs/vzdump-{id}.json");
        std::fs::read_to_string(self.directory.path().join(path)).ok()
    }
}

fn missing(privilege: &str, path: &str) -> (u16, String) {
    (403, format!("Permission check failed ({path}, {privilege})"))
}

#[test]
fn schedules_are_told_in_advance() {
    let lab = Lab::new();
    assert_eq!(
        lab.get_as("joe@pve", "/cluster/jobs"),
        json!([{"subdir": "schedule-analyze"}, {"subdir": "realm-sync"}])
    );
    let analyze = |params: Value| {
        let reply = lab.call("joe@pve", Verb::Get, "/cluster/jobs/schedule-analyze", params);
        reply.unwrap().data
    };
    assert_eq!(
        analyze(json!({"schedule": "*-*-1 06:00 UTC", "starttime": "1785000000", "iterations": "1"})),
        json!([{"timestamp": 1_785_564_000, "utc": "Sat Aug  1 06:00:00 2026"}])
    );
    // C29: it stops where nothing comes any more.
    let times = |params: Value| -> Vec<i64> {
        let rows = analyze(params);
        let rows = rows.as_array().unwrap();
        rows.iter().map(|row| row["timestamp"].as_i64().unwrap()).collect()
    };
    assert_eq!(
        times(json!({"schedule": "2026-8-1/10 6:00 UTC", "starttime": "0"})),
        [1_785_564_000, 1_786_428_000, 1_787_292_000, 1_788_156_000]
    );
    let next_ten = times(json!({"schedule": "minutely"}));
    assert_eq!((next_ten.len(), next_ten[0], next_ten[9]), (10, NOW + 60, NOW + 600));
    let (status, text) = lab.refused(
        "joe@pve",
        Verb::Get,
        "/cluster/jobs/schedule-analyze",
        json!({"schedule": "8..5"}),
    );
    assert_eq!(status, 400);
    assert!(
        text.starts_with(
            "schedule: invalid format - invalid calendar event '8..5' - unable to parse calendar event at"
        ),
        "{text}"
    );
}

#[test]
fn a_job_is_made_and_shown() {
    let lab = Lab::new();
    lab.post(json!({
        "id": "nightly", "schedule": "mon..fri 21:00 UTC", "all": 1, "comment": "50% done: ü", "exclude": "105,106",
        "exclude-path": ["/var/cache", "*.bak"], "prune-backups": "keep-weekly=4,keep-daily=7", "fleecing": "enabled=0",
        "performance": "max-workers=4", "storage": "nas", "mode": "snapshot", "compress": "zstd", "zstd": 2,
    }));
    assert_eq!(
        lab.file(),
        "vzdump: nightly\n\tcomment 50%25 done%3A %C3%BC\n\tschedule mon..fri 21:00 UTC\n\tall 1\n\tcompress zstd\n\
         \tenabled 1\n\texclude 105,106\n\texclude-path /var/cache\n\texclude-path *.bak\n\tfleecing enabled=0\n\
         \tmode snapshot\n\tperformance max-workers=4\n\tprune-backups keep-weekly=4,keep-daily=7\n\tstorage nas\n\
         \tzstd 2\n\n"
    );
    assert_eq!(
        lab.state("nightly").unwrap(),
        format!(r#"{{"config":{{"enabled":1,"schedule":"mon..fri 21:00 UTC"}},"state":"created","time":{NOW}}}"#)
    );
    let mut job = json!({
        "id": "nightly", "type": "vzdump", "enabled": 1, "schedule": "mon..fri 21:00 UTC", "all": 1,
        "comment": "50% done: ü", "exclude": "105,106", "exclude-path": ["/var/cache", "*.bak"],
        "prune-backups": {"keep-weekly": 4, "keep-daily": 7}, "fleecing": {"enabled": 0},
        "performance": {"max-workers": 4}, "storage": "nas", "mode": "snapshot", "compress": "zstd", "zstd": 2,
    });
    assert_eq!(lab.get_as("aud@pve", "/cluster/backup/nightly"), job);
    job["next-run"] = json!(NOW + 24 * 3600 + 21 * 3600);
    assert_eq!(lab.get_as("aud@pve", "/cluster/backup"), json!([job]));
    assert_eq!(
        lab.refused("root@pam", Verb::Get, "/cluster/backup/none", json!({})),
        (400, "id: No such job 'none'".to_owned())
    );
    assert_eq!(
        lab.refused(
            "root@pam",
            Verb::Post,
            "/cluster/backup",
            json!({"id": "nightly", "schedule": "daily", "all": 1})
        ),
        (500, "Job 'nightly' already exists".to_owned())
    );
}

#[test]
fn jobs_are_listed_in_the_order_of_the_file() {
    let lab = Lab::new();
    for id in ["zz", "aa"] {
        lab.post(json!({"id": id, "schedule": "2021-02-29", "all": 1}));
    }
    lab.post(json!({"schedule": "daily", "vmid": "100", "enabled": 0}));
    let jobs = lab.get("/cluster/backup");
    let ids: Vec<&str> = jobs
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids[..2], ["zz", "aa"]);
    assert!(jobs[0].get("next-run").is_none(), "it never comes");
    let parsed = uuid_like(ids[2]);
    assert!(parsed, "a job without a name gets one: {}", ids[2]);
    assert_eq!((&jobs[2]["enabled"], &jobs[2]["vmid"]), (&json!(0), &json!("100")));
    // What another job of that kind of file is called is taken, too; and jobs of other kinds are none of these.
    let cfs = Cfs::new(&lab.context);
    cfs.write(
        "jobs.cfg",
        b"realm-sync: rr\n\trealm corp\n\tschedule daily\n\tscope both\n\n",
    )
    .unwrap();
    assert_eq!(lab.get("/cluster/backup"), json!([]));
    assert_eq!(
        lab.refused("root@pam", Verb::Get, "/cluster/backup/rr", json!({})).1,
        "id: No such job 'rr'"
    );
    let params = json!({"id": "rr", "schedule": "daily", "all": 1});
    assert_eq!(
        lab.refused("root@pam", Verb::Post, "/cluster/backup", params).1,
        "Job 'rr' already exists"
    );
}

fn uuid_like(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || matches!(c, '0'..='9' | 'a'..='f'))
}

/// Reference 05 §4.1.
#[test]
fn a_start_time_becomes_a_schedule() {
    let lab = Lab::new();
    for (id, params, schedule) in [
        ("j1", json!({"starttime": "02:30"}), "02:30"),
        (
            "j2",
            json!({"starttime": "2:30", "dow": "mon,tue,wed,thu,fri,sat,sun"}),
            "2:30",
        ),
        ("j3", json!({"starttime": "02:30", "dow": "sat sun"}), "sat,sun 02:30"),
        ("j4", json!({"schedule": "daily"}), "daily"),
    ] {
        let mut params = params;
        params["id"] = json!(id);
        params["all"] = json!(1);
        lab.post(params);
        let job = lab.get(&format!("/cluster/backup/{id}"));
        assert_eq!(job["schedule"], schedule);
        assert!(job.get("starttime").is_none() && job.get("dow").is_none());
    }
    lab.put("j4", json!({"starttime": "04:00", "dow": "mon"}));
    assert_eq!(lab.get("/cluster/backup/j4")["schedule"], "mon 04:00");
    let refused = |verb, path: &str, params| lab.refused("root@pam", verb, path, params);
    let both = json!({"starttime": "02:30", "schedule": "daily", "all": 1});
    let text = "starttime: 'starttime' and 'schedule' cannot both be set".to_owned();
    assert_eq!(
        refused(Verb::Post, "/cluster/backup", both.clone()),
        (400, text.clone())
    );
    assert_eq!(refused(Verb::Put, "/cluster/backup/j1", both), (400, text));
    assert_eq!(
        refused(Verb::Post, "/cluster/backup", json!({"all": 1})),
        (400, "schedule: neither 'starttime' nor 'schedule' were set".to_owned())
    );
}

/// Reference 05 §6.3, vectors S7 and S8.
#[test]
fn a_new_job_selects_guests_in_one_way() {
    let lab = Lab::new();
    let post = |params: Value| {
        let mut all = json!({"schedule": "daily"});
        all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
        lab.refused("root@pam", Verb::Post, "/cluster/backup", all)
    };
    let conflict = |name: &str| (400, format!("{name}: option conflicts with option 'vmid'"));
    assert_eq!(post(json!({})), (400, "vmid: property is missing".to_owned()));
    assert_eq!(post(json!({"all": 0})), (400, "vmid: property is missing".to_owned()));
    assert_eq!(post(json!({"vmid": "100", "all": 1})), conflict("all"));
    assert_eq!(post(json!({"vmid": "100", "exclude": "101"})), conflict("exclude"));
    assert_eq!(post(json!({"vmid": "100", "pool": "p"})), conflict("pool"));
    assert_eq!(lab.file(), "");
    lab.post(json!({"id": "x1", "schedule": "daily", "exclude": "101"}));
    let job = lab.get("/cluster/backup/x1");
    assert_eq!((&job["all"], &job["exclude"]), (&json!(1), &json!("101")));
}

/// Reference 05 §4.3.
#[test]
fn changes_settle_what_a_job_selects() {
    let lab = Lab::new();
    lab.post(json!({"id": "jj", "schedule": "daily", "all": 1, "exclude": "105", "comment": "c", "bwlimit": 5}));
    let selection = || {
        let job = lab.get("/cluster/backup/jj");
        ["vmid", "all", "exclude", "pool"].map(|key| job.get(key).map(ToString::to_string).unwrap_or_default())
    };
    lab.put("jj", json!({"vmid": "100,101"}));
    assert_eq!(selection(), ["\"100,101\"", "", "", ""]);
    lab.put("jj", json!({"pool": "p", "delete": "vmid"}));
    assert_eq!(selection(), ["", "", "", "\"p\""]);
    lab.put("jj", json!({"all": 1}));
    assert_eq!(selection(), ["", "1", "", ""]);
    lab.put("jj", json!({"exclude": "107", "delete": "all"}));
    assert_eq!(selection(), ["", "1", "\"107\"", ""]);
    lab.put("jj", json!({"pool": "p"}));
    assert_eq!(selection(), ["", "", "", "\"p\""]);
    assert_eq!(
        lab.refused("root@pam", Verb::Put, "/cluster/backup/jj", json!({"delete": "pool"})),
        (400, "vmid: property is missing".to_owned())
    );
    assert_eq!(
        selection(),
        ["", "", "", "\"p\""],
        "a change that fails changes nothing"
    );

    lab.put("jj", json!({"delete": "comment,bwlimit,repeat-missed"}));
    let job = lab.get("/cluster/backup/jj");
    assert!(job.get("comment").is_none() && job.get("bwlimit").is_none(), "{job}");
    let put = |params: Value| lab.refused("root@pam", Verb::Put, "/cluster/backup/jj", params);
    assert_eq!(put(json!({})), (500, "no options specified".to_owned()));
    for key in ["schedule", "enabled", "foo"] {
        let text = format!("400 Parameter verification failed.\ndelete: unknown option '{key}'");
        assert_eq!(put(json!({"delete": key})), (500, text));
    }
    assert_eq!(
        lab.refused("root@pam", Verb::Put, "/cluster/backup/none", json!({"mode": "stop"})),
        (500, "no such vzdump job".to_owned())
    );
}

/// Reference 05 §2.4, §4.3.
#[test]
fn a_change_of_schedule_counts_as_a_run() {
    let lab = Lab::new();
    lab.post(json!({"id": "jj", "schedule": "daily", "all": 1}));
    let states = StateStore::new(&lab.context);
    let updated = || states.load(JobKind::Vzdump, "jj").unwrap().unwrap().updated;
    lab.put("jj", json!({"mode": "stop"}));
    assert_eq!(updated(), None);
    lab.put("jj", json!({"schedule": "hourly"}));
    assert_eq!(updated(), Some(NOW));
    assert_eq!(
        lab.state("jj").unwrap(),
        format!(r#"{{"config":{{"enabled":1,"schedule":"hourly"}},"state":"created","time":{NOW},"updated":{NOW}}}"#)
    );
}

#[test]
fn a_removed_job_leaves_nothing() {
    let lab = Lab::new();
    lab.post(json!({"id": "jj", "schedule": "daily", "all": 1}));
    let delete = || lab.call("root@pam", Verb::Delete, "/cluster/backup/jj", json!({}));
    assert_eq!(delete().unwrap().data, Value::Null);
    assert_eq!((lab.file(), lab.state("jj")), (String::new(), None));
    let error = delete().unwrap_err();
    assert_eq!(
        (error.status, error.message.as_str(), error.errors.len()),
        (500, "400 Parameter verification failed.\nid: No such job 'jj'\n", 0)
    );
    assert_eq!(error.reason(), "400 Parameter verification failed.");
}

#[test]
fn everybody_may_do_what_the_contract_says() {
    let lab = Lab::new();
    lab.post(json!({"id": "jj", "schedule": "daily", "all": 1, "storage": "nas"}));
    let audit = missing("Sys.Audit", "/");
    for path in [
        "/cluster/backup",
        "/cluster/backup/jj",
        "/cluster/backup/jj/included_volumes",
        "/cluster/backup-info/not-backed-up",
    ] {
        assert_eq!(lab.refused("joe@pve", Verb::Get, path, json!({})), audit, "{path}");
        assert!(lab.call("aud@pve", Verb::Get, path, json!({})).is_ok(), "{path}");
    }
    let modify = missing("Sys.Modify", "/");
    for (verb, path, params) in [
        (Verb::Post, "/cluster/backup", json!({"schedule": "daily", "all": 1})),
        (Verb::Put, "/cluster/backup/jj", json!({"mode": "stop"})),
        (Verb::Delete, "/cluster/backup/jj", json!({})),
    ] {
        assert_eq!(lab.refused("aud@pve", verb, path, params), modify, "{path}");
    }
    let root_only = (403, "Permission check failed (user != root@pam)".to_owned());
    assert_eq!(
        lab.refused("ops@pve", Verb::Get, "/cluster/backup-info", json!({})),
        root_only
    );
    assert_eq!(lab.get("/cluster/backup-info"), json!([{"subdir": "not-backed-up"}]));
}

/// Reference 05 §4.2.
#[test]
fn options_and_storages_have_rights_of_their_own() {
    let lab = Lab::new();
    let post = |params: Value| {
        let mut all = json!({"schedule": "daily", "all": 1, "storage": "nas"});
        all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
        lab.refused("ops@pve", Verb::Post, "/cluster/backup", all)
    };
    for key in ["tmpdir", "dumpdir", "script"] {
        assert_eq!(
            post(json!({key: "/tmp/x"})),
            (400, format!("{key}: Only root may set this option."))
        );
    }
    let nas = "Datastore.Allocate";
    assert_eq!(post(json!({"storage": "other"})), missing(nas, "/storage/other"));
    let params = json!({"schedule": "daily", "all": 1});
    assert_eq!(
        lab.refused("ops@pve", Verb::Post, "/cluster/backup", params),
        missing(nas, "/storage/local")
    );
    assert_eq!(
        post(json!({"pool": "q"})),
        (403, "Permission check failed (pool 'q' does not exist)".to_owned())
    );
    assert_eq!(post(json!({"pool": "p"})), missing("VM.Backup", "/pool/p"));
    assert_eq!(
        post(json!({"fleecing": "enabled=1,storage=fast"})),
        missing("Datastore.AllocateSpace", "/storage/fast")
    );
    assert_eq!(
        post(json!({"notes-template": "{{foo}}"})),
        (
            400,
            "notes-template: found unknown: variable 'foo' at char 4".to_owned()
        )
    );
    let ours = json!({"id": "ours", "schedule": "daily", "all": 1, "storage": "nas", "bwlimit": 1});
    assert!(lab.call("ops@pve", Verb::Post, "/cluster/backup", ours).is_ok());

    let put = |id: &str, params: Value| lab.refused("ops@pve", Verb::Put, &format!("/cluster/backup/{id}"), params);
    assert_eq!(put("ours", json!({"storage": "other"})), missing(nas, "/storage/other"));
    assert_eq!(
        put("ours", json!({"delete": "storage"})),
        missing(nas, "/storage/local")
    );
    assert_eq!(
        put("ours", json!({"delete": "script"})),
        (400, "script: Only root may set this option.".to_owned())
    );
    lab.post(json!({"id": "other", "schedule": "daily", "all": 1, "storage": "other"}));
    assert_eq!(put("other", json!({"storage": "nas"})), missing(nas, "/storage/other"));
    lab.post(json!({"id": "dir", "schedule": "daily", "all": 1, "dumpdir": "/dump"}));
    assert_eq!(
        put("dir", json!({"mode": "stop"})),
        (500, "only root@pam may edit jobs with a 'dumpdir' option.".to_owned())
    );
    let ok = lab.call("ops@pve", Verb::Put, "/cluster/backup/ours", json!({"mode": "stop"}));
    assert_eq!(ok.unwrap().data, Value::Null);
}

/// Guests of two nodes: VMs 100 and 200, containers 101 and 201.
fn guests(lab: &Lab) {
    let cfs = Cfs::new(&lab.context);
    cfs.make_dir("nodes/pve2").unwrap();
    cfs.make_dir("nodes/pve2/qemu-server").unwrap();
    cfs.make_dir("nodes/pve2/lxc").unwrap();
    let vm = "name: web\nscsi0: local-lvm:vm-100-disk-0,size=4G\nscsi1: local-lvm:vm-100-disk-2,backup=0\n\
        virtio3: local-lvm:vm-100-disk-3,backup=1\nefidisk0: local-lvm:vm-100-disk-1,size=4M\n\
        ide2: local:iso/x.iso,media=cdrom\nide0: local-lvm:vm-100-cloudinit,media=cdrom\n\
        unused0: local-lvm:vm-100-disk-9\n\n[snap]\nscsi5: local-lvm:gone\n";
    let container = "hostname: mail\nrootfs: local-lvm:vm-101-disk-0,size=8G\nmp0: /srv,mp=/srv\n\
        mp1: local-lvm:vm-101-disk-1,mp=/a,backup=1\nmp10: local-lvm:vm-101-disk-2,mp=/b\n\
        mp2: /dev/sdb,mp=/c,backup=1\n";
    for (path, text) in [
        ("nodes/pve1/qemu-server/100.conf", vm),
        ("nodes/pve1/lxc/101.conf", container),
        (
            "nodes/pve2/qemu-server/200.conf",
            "bios: ovmf\nefidisk0: nas:vm-200-disk-0\n",
        ),
        ("nodes/pve2/lxc/201.conf", ""),
    ] {
        cfs.write(path, text.as_bytes()).unwrap();
    }
}

/// Reference 05 §4.4.
#[test]
fn the_volumes_of_a_job_are_told_with_reasons() {
    let lab = Lab::new();
    guests(&lab);
    lab.post(json!({"id": "jj", "schedule": "daily", "vmid": "777,201,200,101,100"}));
    let leaf = |id: &str, name: &str, included: u8, reason: &str| json!({"id": id, "name": name, "included": included, "reason": reason, "leaf": 1});
    let web = json!({"id": 100, "type": "qemu", "name": "web", "leaf": 0, "children": [
        leaf("100:scsi0", "local-lvm:vm-100-disk-0", 1, "backup=yes"),
        leaf("100:scsi1", "local-lvm:vm-100-disk-2", 0, "backup=no"),
        leaf("100:virtio3", "local-lvm:vm-100-disk-3", 1, "backup=no"),
        leaf("100:efidisk0", "local-lvm:vm-100-disk-1", 0, "efidisk but no OVMF BIOS"),
    ]});
    let mail = json!({"id": 101, "type": "lxc", "name": "mail", "leaf": 0, "children": [
        leaf("101:rootfs", "local-lvm:vm-101-disk-0", 1, "rootfs"),
        leaf("101:mp0", "/srv", 0, "not a volume"),
        leaf("101:mp1", "local-lvm:vm-101-disk-1", 1, "enabled"),
        leaf("101:mp2", "/dev/sdb", 0, "not a volume"),
        leaf("101:mp10", "local-lvm:vm-101-disk-2", 0, "disabled"),
    ]});
    let ovmf = json!({"id": 200, "type": "qemu", "leaf": 0, "children": [
        leaf("200:efidisk0", "nas:vm-200-disk-0", 1, "backup=yes"),
    ]});
    let empty = json!({"id": 201, "type": "lxc", "leaf": 1, "children": []});
    let unknown = json!({"id": 777, "type": "unknown", "leaf": 1});
    let path = "/cluster/backup/jj/included_volumes";
    assert_eq!(
        lab.get(path),
        json!({"children": [web.clone(), mail, ovmf, empty, unknown.clone()]})
    );
    assert_eq!(lab.get_as("aud@pve", path), json!({"children": [web, unknown]}));
    assert_eq!(
        lab.refused("aud@pve", Verb::Get, "/cluster/backup/x/included_volumes", json!({})),
        (400, "id: No such job 'x'".to_owned())
    );
}

#[test]
fn guests_that_no_job_backs_up_are_told() {
    let lab = Lab::new();
    guests(&lab);
    let path = "/cluster/backup-info/not-backed-up";
    let ids = || -> Vec<u64> {
        let rows = lab.get(path);
        rows.as_array()
            .unwrap()
            .iter()
            .map(|row| row["vmid"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(ids(), [100, 101, 200, 201]);
    assert_eq!(
        lab.get_as("aud@pve", path),
        json!([{"vmid": 100, "type": "qemu", "name": "web"}])
    );
    lab.post(json!({"id": "aa", "schedule": "daily", "pool": "p", "enabled": 0}));
    assert_eq!(ids(), [100, 201], "a job that is off counts");
    lab.post(json!({"id": "bb", "schedule": "daily", "all": 1, "node": "pve2"}));
    assert_eq!(ids(), [100], "a job of one node takes only its guests");
    lab.post(json!({"id": "cc", "schedule": "daily", "all": 1}));
    assert_eq!(lab.get(path), json!([]));
}

/// A file that a person broke: what can be used is used, and what cannot stays.
#[test]
fn a_broken_section_harms_no_other_job() {
    let lab = Lab::new();
    let broken = "# by hand\nvzdump: bad\n\tschedule 8..5\n\todd key\n\nvzdump: good\n\tschedule daily\n\tall 1\n\n";
    Cfs::new(&lab.context).write("jobs.cfg", broken.as_bytes()).unwrap();
    lab.put("good", json!({"comment": "x"}));
    assert_eq!(lab.get("/cluster/backup").as_array().unwrap().len(), 1);
    assert!(
        lab.file()
            .starts_with("# by hand\nvzdump: bad\n\tschedule 8..5\n\todd key\n"),
        "{}",
        lab.file()
    );
}
