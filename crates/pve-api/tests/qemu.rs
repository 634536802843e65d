//! Handlers of `/nodes/{node}/qemu` as the request path runs them: what is refused before any task, and what is shown.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use pve_cfs::Cfs;
use pve_contract::{Verb, find};
use pve_rest::{ApiResult, Registry};
use pve_schema::{Context, Param, Params};
use serde_json::{Value, json};

struct Lab {
    _directory: tempfile::TempDir,
    context: Context,
    registry: Registry,
}

impl Lab {
    fn new(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let context = pve_testing::context(directory.path(), "pve1");
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        let users = "user:root@pam:1:0::::::\nuser:joe@pve:1:0::::::\nuser:eve@pve:1:0::::::\npool:p1:::\n\
                     acl:1:/vms:joe@pve:PVEVMAdmin:\n";
        cfs.write("user.cfg", users.as_bytes()).unwrap();
        cfs.write("nodes/pve1/qemu-server/105.conf", config.as_bytes()).unwrap();
        let mut registry = Registry::new();
        pve_api::register(&mut registry);
        Self {
            _directory: directory,
            context,
            registry,
        }
    }

    fn call(&self, caller: &str, verb: Verb, below: &str, params: &[(&str, &str)]) -> ApiResult {
        let method = find(&format!("/nodes/{{node}}/qemu{below}"), verb).unwrap();
        let mut checked = Params::new();
        checked.insert("node", Param::Text("pve1".to_owned()));
        if below.contains("{vmid}") {
            checked.insert("vmid", Param::Text("105".to_owned()));
        }
        for (name, value) in params {
            checked.insert(*name, Param::Text((*value).to_owned()));
        }
        common::run(
            &self.context,
            &self.registry,
            method,
            Some(caller.parse().unwrap()),
            checked,
        )
    }

    fn get(&self, caller: &str, below: &str, params: &[(&str, &str)]) -> Value {
        self.call(caller, Verb::Get, below, params).unwrap().data
    }

    fn refused(&self, caller: &str, verb: Verb, below: &str, params: &[(&str, &str)]) -> (u16, String) {
        let (status, text) = common::refusal(self.call(caller, verb, below, params));
        (status, text.trim_end().to_owned())
    }
}

#[test]
fn everybody_sees_only_the_vms_that_are_his() {
    let lab = Lab::new("name: web\nmemory: 64\n");
    let rows = lab.get("joe@pve", "", &[]);
    assert_eq!((&rows[0]["vmid"], &rows[0]["name"]), (&json!(105), &json!("web")));
    assert_eq!(lab.get("eve@pve", "", &[("full", "1")]), json!([]));
    let current = lab.get("joe@pve", "/{vmid}/status/current", &[]);
    assert_eq!(
        (&current["status"], &current["ha"]),
        (&json!("stopped"), &json!({"managed": 0}))
    );
}

#[test]
fn configs_are_shown_as_they_are_and_as_they_will_be() {
    let lab = Lab::new("cores: 1\n\n[PENDING]\ncores: 2\n");
    assert_eq!(lab.get("joe@pve", "/{vmid}/config", &[])["cores"], 2);
    assert_eq!(lab.get("joe@pve", "/{vmid}/config", &[("current", "1")])["cores"], 1);
    let pending = lab.get("joe@pve", "/{vmid}/pending", &[]);
    let row = json!({"key": "cores", "value": 1, "pending": 2});
    assert!(pending.as_array().unwrap().contains(&row), "{pending}");
    let both = lab.call(
        "joe@pve",
        Verb::Get,
        "/{vmid}/config",
        &[("current", "1"), ("snapshot", "s1")],
    );
    let errors = both.unwrap_err().errors;
    let text = "cannot use 'snapshot' parameter with 'current'";
    assert_eq!((errors["current"].as_str(), errors["snapshot"].as_str()), (text, text));
    let missing = lab.refused("joe@pve", Verb::Get, "/{vmid}/config", &[("snapshot", "s1")]);
    assert_eq!(missing, (500, "snapshot 's1' does not exist".to_owned()));
}

#[test]
fn what_cannot_be_done_is_said_before_any_task() {
    let lab = Lab::new("protection: 1\n");
    let start = "/{vmid}/status/start";
    let root_only = |name: &str| (400, format!("{name}: Only root may use this option."));
    for name in ["skiplock", "force-cpu", "stateuri", "migratedfrom"] {
        assert_eq!(
            lab.refused("joe@pve", Verb::Post, start, &[(name, "1")]),
            root_only(name)
        );
    }
    let stopped = (500, "VM 105 not running".to_owned());
    for below in ["reset", "reboot", "suspend", "resume"] {
        assert_eq!(
            lab.refused("joe@pve", Verb::Post, &format!("/{{vmid}}/status/{below}"), &[]),
            stopped
        );
    }
    let protected = (500, "can't remove VM 105 - protection mode enabled".to_owned());
    assert_eq!(lab.refused("joe@pve", Verb::Delete, "/{vmid}", &[]), protected);
    let missing = lab.refused("joe@pve", Verb::Post, start, &[("vmid", "106")]);
    let text = "Configuration file 'nodes/pve1/qemu-server/106.conf' does not exist";
    assert_eq!(missing, (500, text.to_owned()));
    let serial = Lab::new("vga: serial0\n").refused("joe@pve", Verb::Post, "/{vmid}/vncproxy", &[("websocket", "1")]);
    assert_eq!(serial, (500, "unable to find a serial interface".to_owned()));
    let text = "VNC without a websocket is not supported by this build yet: call with websocket=1";
    for node in ["pve1", "localhost"] {
        let plain = lab.refused("joe@pve", Verb::Post, "/{vmid}/vncproxy", &[("node", node)]);
        assert_eq!(plain, (501, text.to_owned()), "{node}");
    }
}

#[test]
fn creating_checks_rights_in_order_and_leaves_no_trace() {
    let lab = Lab::new("");
    let create = |who: &str, params: &[(&str, &str)]| {
        let mut params = params.to_vec();
        params.push(("vmid", "200"));
        lab.refused(who, Verb::Post, "", &params)
    };
    let pool = (403, "Permission check failed (pool 'nope' does not exist)".to_owned());
    assert_eq!(create("joe@pve", &[("pool", "nope")]), pool);
    let denied = (403, "Permission check failed (/vms/200, VM.Allocate)".to_owned());
    assert_eq!(create("eve@pve", &[]), denied);
    let space = (
        403,
        "Permission check failed (/storage/local, Datastore.AllocateSpace)".to_owned(),
    );
    assert_eq!(create("joe@pve", &[("scsi0", "local:1")]), space);
    // A restore is refused as far: it needs the archive, too.
    let access = create("joe@pve", &[("archive", "local:backup/x.vma")]);
    assert_eq!(
        access,
        (500, "missing privileges to access local:backup/x.vma".to_owned())
    );
    assert!(
        !Cfs::new(&lab.context)
            .exists("nodes/pve1/qemu-server/200.conf")
            .unwrap()
    );
    // Reference 06b, vector 2.
    let taken = lab.refused("root@pam", Verb::Post, "", &[("vmid", "105")]);
    assert_eq!(
        taken,
        (
            500,
            "unable to create VM 105 - VM 105 already exists on node 'pve1'".to_owned()
        )
    );
}

#[test]
fn a_change_of_a_vm_that_is_off_is_in_force_at_once() {
    let lab = Lab::new("cores: 1\nname: a\n");
    lab.call("joe@pve", Verb::Put, "/{vmid}/config", &[("cores", "2")])
        .unwrap();
    assert_eq!(lab.get("joe@pve", "/{vmid}/config", &[("current", "1")])["cores"], 2);
    let digest = [("cores", "3"), ("digest", "0000000000000000000000000000000000000000")];
    let stale = lab.refused("joe@pve", Verb::Put, "/{vmid}/config", &digest);
    assert_eq!(
        stale,
        (500, "checksum mismatch (file change by other user?)".to_owned())
    );
    let root_only = lab.refused("joe@pve", Verb::Put, "/{vmid}/config", &[("args", "-s")]);
    assert!(root_only.1.contains("only root can set 'args' config"), "{root_only:?}");
    lab.call("joe@pve", Verb::Put, "/{vmid}/unlink", &[("idlist", "name")])
        .unwrap();
    assert_eq!(lab.get("joe@pve", "/{vmid}/config", &[]).get("name"), None);
}

/// A caller, his parameters, and what he is told.
type Restore<'a> = (&'a str, &'a [(&'a str, &'a str)], (u16, &'a str));

#[test]
fn a_restore_is_refused_before_any_task() {
    let lab = Lab::new("name: web\n");
    let cfs = Cfs::new(&lab.context);
    let users = "user:root@pam:1:0::::::\nuser:joe@pve:1:0::::::\nuser:eve@pve:1:0::::::\nuser:bob@pve:1:0::::::\n\
        pool:p1:::\nacl:1:/vms:joe@pve:PVEVMAdmin:\nacl:1:/storage/local:joe@pve,bob@pve:PVEDatastoreUser:\n\
        role:Back:VM.Backup:\nacl:1:/vms/105:bob@pve:Back:\nacl:1:/pool/p1:eve@pve:PVEVMAdmin:\n";
    cfs.write("user.cfg", users.as_bytes()).unwrap();
    cfs.write("nodes/pve1/qemu-server/106.conf", b"protection: 1\n")
        .unwrap();
    cfs.write("nodes/pve1/qemu-server/107.conf", b"lock: backup\n").unwrap();
    cfs.make_dir("nodes/pve2/qemu-server").unwrap();
    cfs.write("nodes/pve2/qemu-server/108.conf", b"name: far\n").unwrap();
    let own = "local:backup/vzdump-qemu-105-2026_01_02-03_04_05.vma.zst";
    let foreign = "local:backup/vzdump-qemu-200-2026_01_02-03_04_05.vma.zst";
    let conflict = "option conflicts with option 'archive'";
    let exists = "unable to restore VM 105 - VM 105 already exists on node 'pve1'";
    let missing = |path: &str| format!("Permission check failed ({path})");
    let (allocate, on_pool, backup, space, console, power) = (
        missing("/vms/105, VM.Allocate"),
        missing("/vms/109, VM.Allocate"),
        missing("/vms/200, VM.Backup"),
        missing("/storage/disks, Datastore.AllocateSpace"),
        missing("/, Sys.Console"),
        missing("/vms/105, VM.PowerMgmt"),
    );
    let cases: &[Restore<'_>] = &[
        ("eve@pve", &[("vmid", "105"), ("archive", own)], (403, &allocate)),
        // Who may back a VM up may restore it, but only over itself.
        ("bob@pve", &[("vmid", "105"), ("archive", own)], (403, &allocate)),
        (
            "bob@pve",
            &[("vmid", "109"), ("archive", own), ("force", "1")],
            (403, &on_pool),
        ),
        // Rights on a pool are none on a VM outside of it; nor does the right to back a VM up give it to a pool.
        (
            "eve@pve",
            &[("vmid", "105"), ("archive", own), ("force", "1"), ("pool", "p1")],
            (403, &allocate),
        ),
        (
            "bob@pve",
            &[("vmid", "105"), ("archive", own), ("force", "1"), ("pool", "p1")],
            (403, &allocate),
        ),
        (
            "bob@pve",
            &[("vmid", "105"), ("archive", own), ("force", "1"), ("start", "1")],
            (403, &power),
        ),
        (
            "eve@pve",
            &[
                ("vmid", "105"),
                ("archive", own),
                ("force", "1"),
                ("start", "1"),
                ("pool", "p1"),
            ],
            (403, &power),
        ),
        (
            "bob@pve",
            &[("vmid", "105"), ("archive", foreign), ("force", "1")],
            (403, &backup),
        ),
        (
            "bob@pve",
            &[("vmid", "105"), ("archive", own), ("force", "1"), ("cores", "2")],
            (403, "Permission check failed (/vms/105, VM.Config.CPU)"),
        ),
        ("joe@pve", &[("vmid", "105"), ("archive", own)], (500, exists)),
        (
            "joe@pve",
            &[("vmid", "105"), ("archive", own), ("storage", "disks")],
            (403, &space),
        ),
        (
            "joe@pve",
            &[("vmid", "105"), ("archive", own), ("ha-managed", "1")],
            (403, &console),
        ),
        (
            "joe@pve",
            &[("vmid", "106"), ("archive", own), ("force", "1")],
            (500, "unable to restore VM 106 - - protection mode enabled"),
        ),
        (
            "joe@pve",
            &[("vmid", "107"), ("archive", own), ("force", "1")],
            (500, "unable to restore VM 107 - VM is locked (backup)"),
        ),
        (
            "joe@pve",
            &[("vmid", "108"), ("archive", own), ("force", "1")],
            (500, "unable to restore VM 108 - VM 108 already exists on node 'pve2'"),
        ),
        (
            "joe@pve",
            &[
                ("vmid", "109"),
                ("archive", "/tmp/vzdump-qemu-105-2026_01_02-03_04_05.vma"),
            ],
            (500, "Only root can pass arbitrary filesystem paths."),
        ),
        (
            "joe@pve",
            &[("vmid", "109"), ("archive", "local:iso/a.iso")],
            (
                500,
                "unable to use volume local:iso/a.iso - content type needs to be 'backup'",
            ),
        ),
        (
            "joe@pve",
            &[("vmid", "109"), ("archive", own), ("args", "-S")],
            (500, "only root can set 'args' config"),
        ),
        (
            "root@pam",
            &[("vmid", "109"), ("archive", "-")],
            (500, "pipe requires cli environment"),
        ),
        (
            "root@pam",
            &[("vmid", "109"), ("archive", own), ("live-restore", "1")],
            (
                500,
                "live-restore is only compatible with backup images from a Proxmox Backup Server",
            ),
        ),
    ];
    for (caller, params, (status, text)) in cases {
        let refused = lab.refused(caller, Verb::Post, "", params);
        assert_eq!(refused, (*status, (*text).to_owned()), "{caller} {params:?}");
    }
    for key in ["scsi0", "efidisk0", "tpmstate0", "virtio15"] {
        let params = [("vmid", "109"), ("archive", own), (key, "local:1")];
        let refused = lab.refused("root@pam", Verb::Post, "", &params);
        assert_eq!(refused, (400, format!("{key}: {conflict}")));
    }
    // Nothing was made, and nothing was locked.
    assert!(!cfs.exists("nodes/pve1/qemu-server/109.conf").unwrap());
    let config = cfs.read_text("nodes/pve1/qemu-server/105.conf").unwrap();
    assert_eq!(config.as_deref(), Some("name: web\n"));
}
