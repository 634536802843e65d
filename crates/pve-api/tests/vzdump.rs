//! `/nodes/{node}/vzdump` through its handlers, tasks as real processes. The VMs have no disks: what is in an archive is
//! tested where it is made.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

mod common;

use std::fs;
use std::process::ExitCode;

use libtest_mimic::Arguments;
use pve_cfs::Cfs;
use pve_contract::{Verb, find};
use pve_rest::{ApiResult, Registry};
use pve_schema::ids::Upid;
use pve_schema::{Context, Param, Params};
use pve_task::{Kinds, VERB, child_main};
use serde_json::{Value, json};

const PATH: &str = "/nodes/{node}/vzdump";
const DEFAULTS: &str = "/nodes/{node}/vzdump/defaults";
const EXTRACT: &str = "/nodes/{node}/vzdump/extractconfig";
const USERS: &str = "user:joe@pve:1:0::::::\nuser:eve@pve:1:0::::::\nrole:Backup:VM.Backup,Datastore.AllocateSpace:\n\
    acl:1:/vms/100:joe@pve:Backup:\nacl:1:/storage/st:joe@pve:Backup:\n";
const STORAGES: &str = "dir: st\n\tpath BASE\n\tcontent backup\n\tprune-backups keep-last=2\n\n\
    dir: none\n\tpath BASE\n\tcontent iso\n";

struct Lab {
    dir: tempfile::TempDir,
    context: Context,
    registry: Registry,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let context = pve_testing::context(dir.path().join("root"), "pve1");
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        cfs.write("user.cfg", USERS.as_bytes()).unwrap();
        let base = dir.path().join("base");
        fs::create_dir_all(&base).unwrap();
        let storages = STORAGES.replace("BASE", &base.display().to_string());
        cfs.write("storage.cfg", storages.as_bytes()).unwrap();
        for vmid in [100, 101] {
            let config = format!("memory: 32\nname: vm{vmid}\n");
            cfs.write(&format!("nodes/pve1/qemu-server/{vmid}.conf"), config.as_bytes())
                .unwrap();
        }
        let mut registry = Registry::new();
        pve_api::register(&mut registry);
        Self { dir, context, registry }
    }

    fn call(&self, caller: &str, verb: Verb, path: &str, params: &[(&str, &str)]) -> ApiResult {
        let method = find(path, verb).unwrap();
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), Param::Text((*value).to_owned()));
        let mut params: Params = params.iter().map(pair).collect();
        params.insert("node", Param::Text("pve1".to_owned()));
        common::run(
            &self.context,
            &self.registry,
            method,
            Some(caller.parse().unwrap()),
            params,
        )
    }

    fn root(&self, verb: Verb, path: &str, params: &[(&str, &str)]) -> Value {
        self.call("root@pam", verb, path, params).unwrap().data
    }

    /// Waits for a task's end; its log and status.
    fn wait(&self, upid: &Value) -> (Upid, String, String) {
        let upid: Upid = upid.as_str().unwrap().parse().unwrap();
        let (log, status) = common::ended(&self.context, &upid);
        (upid, log, status)
    }

    fn archive(&self, vmid: u32) -> String {
        let prefix = format!("vzdump-qemu-{vmid}-");
        let names = fs::read_dir(self.dir.path().join("base/dump")).unwrap();
        let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let is_archive = |name: &String| name.starts_with(&prefix) && name.ends_with(".vma.zst");
        names.find(is_archive).expect("an archive")
    }
}

fn a_backup_is_a_task_and_tells_its_config() {
    let lab = Lab::new();
    let options = [("vmid", "100"), ("storage", "st"), ("compress", "zstd")];
    let upid = lab.call("joe@pve", Verb::Post, PATH, &options).unwrap().data;
    let (upid, log, status) = lab.wait(&upid);
    assert_eq!(status, "OK", "{log}");
    assert_eq!((upid.worker_type.as_str(), upid.id.as_str()), ("vzdump", "100"));
    assert!(log.contains("--node pve1") && log.contains("keep-last=2"), "{log}");

    let volume = format!("st:backup/{}", lab.archive(100));
    let config = lab.root(Verb::Get, EXTRACT, &[("volume", &volume)]);
    assert_eq!(config, json!("memory: 32\nname: vm100\n"));
    assert!(lab.call("joe@pve", Verb::Get, EXTRACT, &[("volume", &volume)]).is_ok());
    let (status, _) = common::refusal(lab.call("eve@pve", Verb::Get, EXTRACT, &[("volume", &volume)]));
    assert_eq!(status, 403);
    let path = lab.dir.path().join("base/dump").join(lab.archive(100));
    let path = path.display().to_string();
    assert_eq!(lab.root(Verb::Get, EXTRACT, &[("volume", &path)]), config);
    assert!(lab.call("joe@pve", Verb::Get, EXTRACT, &[("volume", &path)]).is_err());
    let gone = ("volume", "st:backup/vzdump-qemu-100-2020_01_01-00_00_00.vma");
    assert!(lab.call("root@pam", Verb::Get, EXTRACT, &[gone]).is_err());
    let odd = lab.dir.path().join("odd.vma.xz").display().to_string();
    let (_, text) = common::refusal(lab.call("root@pam", Verb::Get, EXTRACT, &[("volume", &odd)]));
    assert_eq!(text, format!("ERROR: couldn't determine archive info from '{odd}'\n"));

    // Several guests have no number in the task's name.
    let all = lab.root(Verb::Post, PATH, &[("all", "1"), ("storage", "st")]);
    let (upid, log, status) = lab.wait(&all);
    assert_eq!((status.as_str(), upid.id.as_str()), ("OK", ""), "{log}");
}

fn a_request_is_checked_before_its_task() {
    let lab = Lab::new();
    let call = |caller: &str, params: &[(&str, &str)]| lab.call(caller, Verb::Post, PATH, params);
    let on_st = ("storage", "st");
    for (caller, params, status, text) in [
        ("root@pam", vec![], 400, "vmid: property is missing"),
        (
            "root@pam",
            vec![("vmid", "100"), ("all", "1")],
            400,
            "all: option conflicts with option 'vmid'",
        ),
        (
            "root@pam",
            vec![("vmid", "100"), ("notes-template", "{{foo}} x"), on_st],
            400,
            "notes-template: found unknown: variable 'foo' at char 4",
        ),
        (
            "root@pam",
            vec![("vmid", "100"), ("stdout", "1")],
            400,
            "stdout: option is only allowed on the command line interface.",
        ),
        (
            "root@pam",
            vec![("vmid", "100"), ("fleecing", "1,storage=st")],
            501,
            "backup fleecing is not supported by this build yet\n",
        ),
        ("root@pam", vec![("pool", "p")], 500, "pool 'p' does not exist\n"),
        (
            "joe@pve",
            vec![("vmid", "100"), ("script", "/x"), on_st],
            400,
            "script: Only root may set this option.",
        ),
        (
            "joe@pve",
            vec![("vmid", "100"), ("bwlimit", "1"), on_st],
            403,
            "Permission check failed (/, Sys.Modify)\n",
        ),
        (
            "joe@pve",
            vec![("vmid", "100"), ("prune-backups", "keep-last=1"), on_st],
            403,
            "Permission check failed (/storage/st, Datastore.Allocate)\n",
        ),
        (
            "joe@pve",
            vec![("vmid", "100")],
            403,
            "Permission check failed (/storage/local, Datastore.AllocateSpace)\n",
        ),
        (
            "joe@pve",
            vec![("stop", "1"), on_st],
            403,
            "Permission check failed (/nodes/pve1, Sys.Modify)\n",
        ),
    ] {
        assert_eq!(
            common::refusal(call(caller, &params)),
            (status, text.to_owned()),
            "{params:?}"
        );
    }
    // What the caller may not back up fails inside the task, or is passed over if all are wanted.
    let (_, log, status) = lab.wait(&call("joe@pve", &[("vmid", "100,101"), on_st]).unwrap().data);
    assert_eq!(status, "Permission check failed (/vms/101, VM.Backup)", "{log}");
    assert!(
        log.contains("ERROR: Backup job failed - Permission check failed"),
        "{log}"
    );
    let (_, log, status) = lab.wait(&call("joe@pve", &[("all", "1"), on_st]).unwrap().data);
    assert_eq!(status, "OK", "{log}");
    assert!(log.contains("Backup of VM 100") && !log.contains("101"), "{log}");
}

fn defaults_come_from_schema_file_and_storage() {
    let lab = Lab::new();
    let dump = |storage: &str| lab.context.site.path(storage).display().to_string();
    let expected = json!({
        "all": 0, "bwlimit": 0, "compress": "0", "dumpdir": dump("/var/lib/vz/dump"), "fleecing": {"enabled": 0},
        "ionice": 7, "lockwait": 180, "mailnotification": "always", "mode": "snapshot", "notification-mode": "auto",
        "performance": {"max-workers": 16, "pbs-entries-max": 1_048_576}, "pigz": 0, "prune-backups": "keep-all=1",
        "quiet": 0, "remove": 1, "stdexcludes": 1, "stop": 0, "stopwait": 10, "storage": "local", "zstd": 1
    });
    assert_eq!(lab.root(Verb::Get, DEFAULTS, &[]), expected);
    let conf = "storage: st\nmode: stop\nionice: 3\nperformance: max-workers=4\nmailto: a@b.c d@e.f\n\
        prune-backups: keep-daily=9\nexclude-path: /a '/b c'\n";
    let path = lab.context.site.path("/etc/vzdump.conf");
    fs::write(path, conf).unwrap();
    let answer = lab.root(Verb::Get, DEFAULTS, &[]);
    for (key, value) in [
        ("storage", json!("st")),
        ("mode", json!("stop")),
        ("ionice", json!(3)),
        ("performance", json!({"max-workers": 4, "pbs-entries-max": 1_048_576})),
        ("mailto", json!("a@b.c,d@e.f")),
        ("exclude-path", json!("/a,/b c")),
        // The storage's own goes before the file's.
        ("prune-backups", json!("keep-last=2")),
    ] {
        assert_eq!(answer[key], value, "{key}");
    }
    let seen = lab.call("joe@pve", Verb::Get, DEFAULTS, &[]).unwrap().data;
    for hidden in ["mailto", "dumpdir", "ionice"] {
        assert!(seen.get(hidden).is_none(), "{hidden}");
    }
    let (status, _) = common::refusal(lab.call("eve@pve", Verb::Get, DEFAULTS, &[]));
    assert_eq!(status, 403);
    let (_, text) = common::refusal(lab.call("root@pam", Verb::Get, DEFAULTS, &[("storage", "none")]));
    assert_eq!(text, "can't use storage 'none' for backups - wrong content type\n");
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(VERB) {
        let mut kinds = Kinds::new();
        pve_api::register_tasks(&mut kinds);
        return child_main(&kinds);
    }
    let arguments = Arguments::from_args();
    let trials = pve_testing::trials![
        a_backup_is_a_task_and_tells_its_config,
        a_request_is_checked_before_its_task,
        defaults_come_from_schema_file_and_storage,
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}
