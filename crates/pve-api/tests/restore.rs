//! `POST /nodes/{node}/qemu` with an archive: the call, and the task as a real process.

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
use pve_backup::vma::{Header, Writer};
use pve_cfs::Cfs;
use pve_contract::{Verb, find};
use pve_rest::Registry;
use pve_schema::ids::Upid;
use pve_schema::{Context, Param, Params};
use pve_task::{Kinds, TaskList, VERB, child_main, process};
use pve_testing::wait_for;

const USERS: &str = "user:root@pam:1:0::::::\nuser:bob@pve:1:0::::::\nrole:Back:VM.Backup:\npool:p1:::\n\
    acl:1:/vms/105:bob@pve:Back:\nacl:1:/storage/local:bob@pve:PVEDatastoreUser:\n";
const ARCHIVE: &str = "vzdump-qemu-105-2026_01_02-03_04_05.vma";
const CONFIG: &str = "nodes/pve1/qemu-server/105.conf";

struct Lab {
    _directory: tempfile::TempDir,
    context: Context,
    registry: Registry,
}

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let context = pve_testing::context(directory.path(), "pve1");
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        cfs.write("user.cfg", USERS.as_bytes()).unwrap();
        let storages = "dir: local\n\tpath /var/lib/vz\n\tcontent images,backup\n";
        cfs.write("storage.cfg", storages.as_bytes()).unwrap();
        fs::create_dir_all(context.site.path("/var/lib/vz/dump")).unwrap();
        let mut registry = Registry::new();
        pve_api::register(&mut registry);
        Self {
            _directory: directory,
            context,
            registry,
        }
    }

    fn store(&self, config: &str, disk: &[u8]) {
        let mut header = Header::new([1; 16], 0);
        header.add_config("qemu-server.conf", config.as_bytes()).unwrap();
        let id = header.add_device("drive-scsi0", disk.len() as u64).unwrap();
        let mut writer = Writer::new(Vec::new(), header).unwrap();
        writer.device(id, &mut &*disk).unwrap();
        let path = self.context.site.path(format!("/var/lib/vz/dump/{ARCHIVE}"));
        fs::write(path, writer.finish().unwrap().0).unwrap();
    }

    fn restore(&self, caller: &str, params: &[(&str, &str)]) -> Upid {
        let archive = format!("local:backup/{ARCHIVE}");
        let mut checked = Params::new();
        for (name, value) in [("node", "pve1"), ("vmid", "105"), ("archive", &archive)]
            .iter()
            .chain(params)
        {
            checked.insert(*name, Param::Text((*value).to_owned()));
        }
        let method = find("/nodes/{node}/qemu", Verb::Post).unwrap();
        let caller = Some(caller.parse().unwrap());
        let reply = common::run(&self.context, &self.registry, method, caller, checked).unwrap();
        reply.data.as_str().unwrap().parse().unwrap()
    }

    fn log(&self, upid: &Upid) -> String {
        fs::read_to_string(TaskList::new(&self.context).log_path(upid)).unwrap_or_default()
    }

    fn config(&self) -> String {
        Cfs::new(&self.context).read_text(CONFIG).unwrap().unwrap()
    }
}

const SIMPLE: &str = "name: back\nscsi0: local:105/vm-105-disk-0.raw\n#qmdump#map:scsi0:drive-scsi0:local:raw:\n";

fn a_vm_comes_back_in_a_task() {
    let lab = Lab::new();
    let disk = vec![7; 100_352];
    lab.store(SIMPLE, &disk);
    let upid = lab.restore("root@pam", &[("cores", "2"), ("pool", "p1"), ("unique", "1")]);
    assert_eq!((upid.worker_type.as_str(), upid.id.as_str()), ("qmrestore", "105"));
    let (log, status) = common::ended(&lab.context, &upid);
    assert_eq!(status, "OK", "{log}");
    assert!(
        log.contains("\nnew volume ID is 'local:105/vm-105-disk-0.raw'\n"),
        "{log}"
    );
    assert!(
        lab.config()
            .starts_with("cores: 2\nname: back\nscsi0: local:105/vm-105-disk-0.raw,size=98K\n")
    );
    let image = lab.context.site.path("/var/lib/vz/images/105/vm-105-disk-0.raw");
    assert_eq!(fs::read(image).unwrap(), disk);
}

fn who_may_back_up_may_restore_over_the_same_vm() {
    let lab = Lab::new();
    lab.store(SIMPLE, &[7; 4096]);
    Cfs::new(&lab.context).write(CONFIG, b"name: old\n").unwrap();
    let (log, status) = common::ended(&lab.context, &lab.restore("bob@pve", &[("force", "1")]));
    assert_eq!(status, "OK", "{log}");
    assert!(lab.config().contains("name: back"));
    // What the archive brings is checked as his, in the task.
    lab.store(&format!("args: -S\n{SIMPLE}"), &[7; 4096]);
    let before = lab.config();
    let (log, status) = common::ended(&lab.context, &lab.restore("bob@pve", &[("force", "1")]));
    assert_eq!(status, "only root can set 'args' config", "{log}");
    assert_eq!(lab.config(), before);
}

fn a_stopped_restore_cleans_up_behind_itself() {
    let lab = Lab::new();
    lab.store(SIMPLE, &vec![7; 20 << 20]);
    // Twenty seconds for what is to take two.
    let upid = lab.restore("root@pam", &[("bwlimit", "1024")]);
    wait_for("the first percent", || lab.log(&upid).contains("progress 1%"));
    assert_eq!(lab.config(), "lock: create\nmemory: 128\n");
    process::stop(&upid);
    let (log, status) = common::ended(&lab.context, &upid);
    // What all tasks of this suite that were stopped end with.
    assert_eq!(status, "received interrupt", "{log}");
    assert!(log.starts_with("applying read rate limit: 1024\n"), "{log}");
    assert!(
        log.contains("temporary volume 'local:105/vm-105-disk-0.raw' successfully removed"),
        "{log}"
    );
    assert!(
        !lab.context
            .site
            .path("/var/lib/vz/images/105/vm-105-disk-0.raw")
            .exists()
    );
    assert_eq!(lab.config(), "memory: 128\n");
}

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|verb| verb == VERB) {
        let mut kinds = Kinds::new();
        pve_api::register_tasks(&mut kinds);
        return child_main(&kinds);
    }
    libtest_mimic::run(
        &Arguments::from_args(),
        pve_testing::trials![
            a_vm_comes_back_in_a_task,
            who_may_back_up_may_restore_over_the_same_vm,
            a_stopped_restore_cleans_up_behind_itself,
        ],
    )
    .exit_code()
}
