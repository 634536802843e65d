//! `/storage` and `/nodes/{node}/storage` through their handlers, tasks as real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::Arguments;
use pve_cfs::{Cfs, FileLock};
use pve_contract::{Verb, find};
use pve_rest::{ApiResult, Registry};
use pve_schema::ids::Upid;
use pve_schema::{Context, Param, Params};
use pve_task::{Kinds, VERB, child_main};
use pve_testing::PATIENCE;
use serde_json::{Value, json};

const USERS: &str = "user:joe@pve:1:0::::::\nuser:eve@pve:1:0::::::\nacl:1:/storage/st:joe@pve:PVEDatastoreUser:\n";
const NODE: &str = "/nodes/{node}/storage";
const CONTENT: &str = "/nodes/{node}/storage/{storage}/content";
const VOLUME: &str = "/nodes/{node}/storage/{storage}/content/{volume}";
const UPLOAD: &str = "/nodes/{node}/storage/{storage}/upload";

struct Lab {
    dir: tempfile::TempDir,
    context: Context,
    registry: Registry,
}

impl Lab {
    fn new(storage_cfg: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let context = pve_testing::context(dir.path().join("root"), "pve1");
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        cfs.write("user.cfg", USERS.as_bytes()).unwrap();
        fs::create_dir_all(context.site.path("/var/tmp")).unwrap();
        fs::create_dir_all(dir.path().join("base")).unwrap();
        let base = dir.path().join("base").display().to_string();
        cfs.write("storage.cfg", storage_cfg.replace("BASE", &base).as_bytes())
            .unwrap();
        let mut registry = Registry::new();
        pve_api::register(&mut registry);
        Self { dir, context, registry }
    }

    fn base(&self, name: &str) -> PathBuf {
        self.dir.path().join("base").join(name)
    }

    fn file(&self, name: &str, content: &str) {
        let path = self.base(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn call(&self, caller: &str, verb: Verb, path: &str, params: &str) -> ApiResult {
        let method = find(path, verb).unwrap();
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), Param::Text(value.replace('+', " ")))
        };
        let mut params: Params = params.split_whitespace().map(pair).collect();
        if path.contains("{node}") && !params.has("node") {
            params.insert("node", Param::Text("pve1".to_owned()));
        }
        common::run(
            &self.context,
            &self.registry,
            method,
            Some(caller.parse().unwrap()),
            params,
        )
    }

    fn root(&self, verb: Verb, path: &str, params: &str) -> Value {
        self.call("root@pam", verb, path, params).unwrap().data
    }

    /// Waits for a task's end; its log and status.
    fn wait(&self, upid: &Value) -> (String, String) {
        let upid: Upid = upid.as_str().unwrap().parse().unwrap();
        common::ended(&self.context, &upid)
    }
}

fn ids(rows: &Value, key: &str) -> Vec<String> {
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| row[key].as_str().unwrap().to_owned()).collect()
}

const ST: &str = "dir: st\n\tpath BASE\n\tcontent images,iso,vztmpl,backup\n\tmax-protected-backups 1\n\n\
    lvm: vg\n\tvgname vgx\n\ndir: off\n\tpath BASE\n\tdisable\n\ndir: far\n\tpath BASE\n\tnodes pve2\n\n\
    nfs: nas\n\tserver s\n\texport /e\n\tdisable\n";

fn configured_storages_are_shown_to_those_who_may_see_them() {
    let lab = Lab::new(ST);
    let rows = lab.root(Verb::Get, "/storage", "");
    assert_eq!(ids(&rows, "storage"), ["local", "st", "vg", "off", "far", "nas"]);
    assert_eq!(
        ids(&lab.call("joe@pve", Verb::Get, "/storage", "").unwrap().data, "storage"),
        ["st"]
    );
    assert_eq!(lab.call("eve@pve", Verb::Get, "/storage", "").unwrap().data, json!([]));
    assert_eq!(ids(&lab.root(Verb::Get, "/storage", "type=nfs"), "storage"), ["nas"]);
    let nas = lab.root(Verb::Get, "/storage/{storage}", "storage=nas");
    let digest = &rows[0]["digest"];
    assert_eq!(
        nas,
        json!({"storage": "nas", "type": "nfs", "server": "s", "export": "/e", "path": "/mnt/pve/nas", "shared": 1,
            "disable": 1, "content": "images", "digest": digest})
    );
    assert_eq!(rows[1]["max-protected-backups"], 1);
    assert_eq!(
        common::refusal(lab.call("root@pam", Verb::Get, "/storage/{storage}", "storage=none")),
        (500, "storage 'none' does not exist\n".to_owned())
    );
}

fn storages_are_made_changed_and_removed() {
    let lab = Lab::new("");
    let base = lab.base("new").display().to_string();
    let made = lab.root(
        Verb::Post,
        "/storage",
        &format!("type=dir storage=s2 path={base} content=iso"),
    );
    assert_eq!(made, json!({"storage": "s2", "type": "dir"}));
    assert!(lab.base("new/template/iso").is_dir());
    lab.root(
        Verb::Put,
        "/storage/{storage}",
        "storage=s2 content=iso,backup shared=1",
    );
    let row = lab.root(Verb::Get, "/storage/{storage}", "storage=s2");
    assert_eq!((&row["content"], &row["shared"]), (&json!("backup,iso"), &json!(1)));
    assert_eq!(
        common::refusal(lab.call("root@pam", Verb::Post, "/storage", "type=lvm storage=s3 vgname=vgx")),
        (
            501,
            "create storage failed: storage type 'lvm' is not supported by this build yet\n".to_owned()
        )
    );
    assert_eq!(
        common::refusal(lab.call("root@pam", Verb::Put, "/storage/{storage}", "storage=s2 digest=x")),
        (
            500,
            "update storage failed: detected modified configuration - file changed by other user? Try again.\n"
                .to_owned()
        )
    );
    assert_eq!(lab.root(Verb::Delete, "/storage/{storage}", "storage=s2"), Value::Null);
    assert_eq!(ids(&lab.root(Verb::Get, "/storage", ""), "storage"), ["local"]);
}

fn a_node_tells_how_full_its_storages_are() {
    let lab = Lab::new(ST);
    let rows = lab.root(Verb::Get, NODE, "");
    assert_eq!(ids(&rows, "storage"), ["local", "st", "vg", "off", "far", "nas"]);
    let flags: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (&row["enabled"], &row["active"]))
        .collect();
    let flag = |enabled: i64, active: i64| (json!(enabled), json!(active));
    let expected = [flag(1, 1), flag(1, 1), flag(1, 0), flag(0, 0), flag(0, 0), flag(0, 0)];
    assert_eq!(flags, expected.iter().map(|(e, a)| (e, a)).collect::<Vec<_>>());
    assert!(rows[1]["total"].as_u64().unwrap() > 0 && rows[1]["used_fraction"].as_f64().unwrap() <= 1.0);
    assert!(rows[1].get("format").is_none());

    assert_eq!(
        ids(&lab.root(Verb::Get, NODE, "content=iso,vztmpl"), "storage"),
        ["local", "st"]
    );
    assert_eq!(
        ids(&lab.root(Verb::Get, NODE, "enabled=1 storage=off"), "storage"),
        [""; 0]
    );
    assert_eq!(ids(&lab.root(Verb::Get, NODE, "target=pve2"), "storage"), [""; 0]);
    assert_eq!(
        ids(&lab.call("joe@pve", Verb::Get, NODE, "").unwrap().data, "storage"),
        ["st"]
    );
    let row = &lab.root(Verb::Get, NODE, "storage=st format=1")[0];
    assert_eq!(
        row["formats"],
        json!({"default": "raw", "supported": ["qcow2", "raw", "subvol", "vmdk"]})
    );
    assert_eq!(row["format"][1], "raw");
    assert_eq!(
        common::refusal(lab.call("root@pam", Verb::Get, NODE, "storage=none")),
        (400, "storage: No such storage.".to_owned())
    );
    let one = lab.root(Verb::Get, "/nodes/{node}/storage/{storage}/status", "storage=st");
    assert_eq!(
        (&one["type"], &one["active"], one.get("storage")),
        (&json!("dir"), &json!(1), None)
    );
    let index = lab.root(Verb::Get, "/nodes/{node}/storage/{storage}", "storage=st");
    assert_eq!(
        (ids(&index, "subdir").len(), &index[0]["subdir"]),
        (11, &json!("content"))
    );
}

fn disks_are_made_looked_at_and_removed() {
    let lab = Lab::new(ST);
    let create = |params: &str| lab.call("joe@pve", Verb::Post, CONTENT, &format!("storage=st vmid=812 {params}"));
    let made = create("filename=vm-812-disk-0.qcow2 size=8M").unwrap().data;
    assert_eq!(made, "st:812/vm-812-disk-0.qcow2");
    assert_eq!(
        create("filename=vm-812-disk-1.raw size=4096 format=raw").unwrap().data,
        "st:812/vm-812-disk-1.raw"
    );
    assert_eq!(
        common::refusal(create("filename=x.raw size=1 format=qcow2")),
        (400, "format: different storage formats (qcow2 != raw)".to_owned())
    );
    let (code, text) = common::refusal(create("filename=vm-812-disk-1.raw size=1"));
    assert_eq!(
        (
            code,
            text.starts_with("disk image '"),
            text.ends_with("' already exists\n")
        ),
        (500, true, true)
    );

    for volume in ["st:812/vm-812-disk-0.qcow2", "812/vm-812-disk-0.qcow2"] {
        let info = lab.root(Verb::Get, VOLUME, &format!("storage=st volume={volume}"));
        let path = lab.base("images/812/vm-812-disk-0.qcow2").display().to_string();
        assert_eq!(
            (&info["path"], &info["size"], &info["format"]),
            (&json!(path), &json!(8 << 20), &json!("qcow2"))
        );
    }
    let mismatch = lab.call("root@pam", Verb::Get, VOLUME, "storage=st volume=local:iso/a.iso");
    assert_eq!(
        common::refusal(mismatch),
        (400, "volume: storage ID mismatch (st != local)".to_owned())
    );
    let none = lab.call("root@pam", Verb::Get, VOLUME, "storage=st volume=812/none.raw");
    assert_eq!(
        common::refusal(none),
        (
            500,
            "volume_size_info on 'st:812/none.raw' failed - no format\n".to_owned()
        )
    );

    // Without rights on the guest its disks are not told of.
    lab.file("template/iso/a.iso", "abc");
    let list = |caller: &str| {
        ids(
            &lab.call(caller, Verb::Get, CONTENT, "storage=st").unwrap().data,
            "volid",
        )
    };
    assert_eq!(list("joe@pve"), ["st:iso/a.iso"]);
    assert_eq!(list("root@pam").len(), 3);
    assert_eq!(
        ids(
            &lab.root(Verb::Get, CONTENT, "storage=st content=images vmid=812"),
            "volid"
        )
        .len(),
        2
    );

    let delete = |caller: &str, params: &str| lab.call(caller, Verb::Delete, VOLUME, &format!("storage=st {params}"));
    assert_eq!(
        common::refusal(delete("joe@pve", "volume=812/vm-812-disk-1.raw")),
        (
            403,
            "Permission check failed (/storage/st, Datastore.Allocate)\n".to_owned()
        )
    );
    let upid = delete("root@pam", "volume=812/vm-812-disk-1.raw").unwrap().data;
    assert!(upid.as_str().unwrap().contains(":imgdel:812@st:root@pam:"), "{upid}");
    assert_eq!(
        lab.wait(&upid),
        (
            "Removed volume 'st:812/vm-812-disk-1.raw'\nTASK OK\n".to_owned(),
            "OK".to_owned()
        )
    );
    assert_eq!(
        delete("root@pam", "volume=812/vm-812-disk-0.qcow2 delay=30")
            .unwrap()
            .data,
        Value::Null
    );
    assert!(!lab.base("images/812").exists());
}

fn a_removal_that_takes_longer_than_the_caller_waits_goes_on() {
    let lab = Lab::new(ST);
    lab.file("template/iso/a+b.iso", "abc");
    let lock = lab.context.site.path("/var/lock/pve-manager/pve-storage-st");
    let lock = FileLock::exclusive(&lock, PATIENCE).unwrap();
    let upid = lab.root(Verb::Delete, VOLUME, "storage=st volume=iso/a+b.iso delay=1");
    assert!(upid.as_str().unwrap().contains(":imgdel:st:"), "{upid}");
    drop(lock);
    assert_eq!(lab.wait(&upid).1, "OK");
}

fn backups_have_notes_and_protection() {
    let lab = Lab::new(ST);
    let names = [
        "vzdump-qemu-812-2026_02_03-04_05_06.vma",
        "vzdump-qemu-812-2026_02_04-04_05_06.vma",
    ];
    for name in names {
        lab.file(&format!("dump/{name}"), "x");
    }
    let volume = |at: usize| format!("storage=st volume=backup/{}", names[at]);
    lab.root(Verb::Put, VOLUME, &format!("{} notes=my+note protected=1", volume(0)));
    let info = lab.root(Verb::Get, VOLUME, &volume(0));
    assert_eq!((&info["notes"], &info["protected"]), (&json!("my note"), &json!(1)));
    assert_eq!(
        common::refusal(lab.call("root@pam", Verb::Put, VOLUME, &format!("{} protected=1", volume(1)))),
        (
            500,
            "The number of protected backups per guest is limited to 1 on storage 'st'\n".to_owned()
        )
    );
    let delete = |params: &str| lab.call("root@pam", Verb::Delete, VOLUME, &format!("{params} delay=30"));
    assert_eq!(
        common::refusal(delete(&volume(0))),
        (
            500,
            format!("cannot remove protected volume 'backup/{}' on 'st'\n", names[0])
        )
    );
    let prune = "/nodes/{node}/storage/{storage}/prunebackups";
    assert_eq!(
        common::refusal(lab.call("root@pam", Verb::Get, prune, "storage=st")),
        (500, "no prune-backups options configured for storage 'st'\n".to_owned())
    );
    lab.file("dump/vzdump-qemu-812-2026_02_05-04_05_06.vma", "");
    let rows = lab.root(Verb::Get, prune, "storage=st prune-backups=keep-last=1");
    assert_eq!(ids(&rows, "mark"), ["protected", "remove", "keep"]);
    let upid = lab.root(Verb::Delete, prune, "storage=st prune-backups=keep-last=1 vmid=812");
    assert!(upid.as_str().unwrap().contains(":prunebackups:812@st:"));
    assert_eq!(lab.wait(&upid).1, "OK");
    assert_eq!(
        ids(&lab.root(Verb::Get, CONTENT, "storage=st content=backup"), "volid").len(),
        2
    );
}

fn an_upload_is_taken_from_the_spool() {
    let lab = Lab::new(ST);
    let spool = "/var/tmp/pveupload-00ff";
    let spooled = lab.context.site.path(spool);
    let upload = |params: &str| {
        fs::write(&spooled, "hello\n").unwrap();
        lab.call(
            "root@pam",
            Verb::Post,
            UPLOAD,
            &format!("storage=st tmpfilename={spool} {params}"),
        )
    };
    let sum = "checksum-algorithm=md5 checksum=B1946AC92492D2347C6235B4D2611184";
    let upid = upload(&format!("content=iso filename=C:\\isos\\my+cd.iso {sum}"))
        .unwrap()
        .data;
    let (log, status) = lab.wait(&upid);
    assert!(
        log.contains("calculating checksum...OK, checksum verified\n") && status == "OK",
        "{log}"
    );
    assert_eq!(
        fs::read_to_string(lab.base("template/iso/my_cd.iso")).unwrap(),
        "hello\n"
    );
    assert!(!spooled.exists());

    let upid = upload("content=iso filename=y.iso node=localhost").unwrap().data;
    assert_eq!(lab.wait(&upid).1, "OK");

    let upid = upload("content=iso filename=x.iso checksum-algorithm=md5 checksum=00")
        .unwrap()
        .data;
    let expected = "checksum mismatch: got 'b1946ac92492d2347c6235b4d2611184' != expect '00'";
    assert_eq!(lab.wait(&upid).1, expected);
    assert!(!spooled.exists() && !lab.base("template/iso/x.iso").exists());

    // There is no such node: what is at hand is not kept for it.
    let upid = upload("content=iso filename=x.iso node=pve2").unwrap().data;
    let (log, status) = lab.wait(&upid);
    assert!(
        status.starts_with("hostname lookup 'pve2' failed - "),
        "{status}\n{log}"
    );
    assert!(!spooled.exists());

    for (params, code, text) in [
        ("content=iso filename=x.txt", 400, "filename: wrong file extension"),
        (
            "content=import filename=x.ova",
            500,
            "storage 'st' does not support 'import' content\n",
        ),
    ] {
        assert_eq!(common::refusal(upload(params)), (code, text.to_owned()));
        assert!(!spooled.exists(), "{params}");
    }
    fs::write(&spooled, "").unwrap();
    let other = |storage: &str| {
        let params = format!("storage={storage} tmpfilename={spool} content=iso filename=x.iso");
        common::refusal(lab.call("root@pam", Verb::Post, UPLOAD, &params)).1
    };
    assert_eq!(other("vg"), "can't upload to storage type 'lvm'\n");
    assert_eq!(other("off"), "storage 'off' is disabled\n");
    assert_eq!(
        common::refusal(lab.call("root@pam", Verb::Post, UPLOAD, "storage=st content=iso filename=x.iso")).1,
        "missing temporary file name\n"
    );
}

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|verb| verb == VERB) {
        let mut kinds = Kinds::new();
        pve_storage::register_tasks(&mut kinds);
        return child_main(&kinds);
    }
    assert!(Path::new("/usr/bin/qemu-img").exists(), "qemu-utils is not installed");
    libtest_mimic::run(
        &Arguments::from_args(),
        pve_testing::trials![
            configured_storages_are_shown_to_those_who_may_see_them,
            storages_are_made_changed_and_removed,
            a_node_tells_how_full_its_storages_are,
            disks_are_made_looked_at_and_removed,
            a_removal_that_takes_longer_than_the_caller_waits_goes_on,
            backups_have_notes_and_protection,
            an_upload_is_taken_from_the_spool,
        ],
    )
    .exit_code()
}
