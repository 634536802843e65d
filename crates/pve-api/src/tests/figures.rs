//! What the statistics daemon told, as lists, charts and status pages show it.

use std::fs;

use pve_cfs::Cfs;
use pve_contract::Verb;
use pve_metrics::{GuestFigures, NodeFigures, Rrd, StorageFigures};
use serde_json::{Value, json};

use super::{Lab, refused};

const STORAGES: &str = "dir: local\n\tpath /nonexistent/a\n\tcontent iso,vztmpl\n\n\
    nfs: nfs\n\tserver 192.0.2.1\n\texport /x\n\tcontent images\n\tpath /mnt/pve/nfs\n\n\
    dir: other\n\tpath /nonexistent/b\n\tcontent iso\n\tnodes pve2\n\n\
    dir: off\n\tpath /nonexistent/c\n\tcontent iso\n\tdisable 1\n";

fn lab() -> Lab {
    let lab = Lab::new();
    let cfs = Cfs::new(&lab.context);
    cfs.write("storage.cfg", STORAGES.as_bytes()).unwrap();
    let users = "user:aud@pve:1:0::::::\nuser:joe@pve:1:0::::::\nuser:eve@pve:1:0::::::\n\
        pool:web::100:local:\nacl:1:/:aud@pve:PVEAuditor:\n\
        acl:1:/vms/100:joe@pve:PVEVMUser:\n";
    cfs.write("user.cfg", users.as_bytes()).unwrap();
    cfs.create("qemu-server/100.conf", b"name: web\ntags: a;b\nlock: backup\n")
        .unwrap();
    cfs.create("qemu-server/1000.conf", b"name: x\n").unwrap();
    cfs.create("qemu-server/101.conf", b"name: y\n").unwrap();
    let guest = GuestFigures {
        uptime: 50,
        name: "web".to_owned(),
        status: "running".to_owned(),
        cpus: Some(2.0),
        memory_total: Some(512.0),
        ..GuestFigures::default()
    };
    let guest = guest.record(100.try_into().unwrap());
    let storage = StorageFigures {
        time: 1,
        total: 1000,
        used: 400,
    };
    let storage = storage.record("pve1".parse().unwrap(), "local".parse().unwrap());
    let node = NodeFigures {
        cpus: 8,
        cpu: Some(0.5),
        ..NodeFigures::default()
    };
    let node = node.record("pve1".parse().unwrap());
    for record in [guest, storage, node] {
        cfs.status().set(&record.key(), record.value().as_bytes()).unwrap();
    }
    let info = b"{\"cpus\":8,\"memory\":1,\"cgroup-mode\":2}";
    cfs.status().set("kv/static-info", info).unwrap();
    lab
}

fn ids(rows: &Value) -> Vec<&str> {
    let rows = rows.as_array().unwrap();
    rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
}

#[test]
fn resources_are_what_the_caller_may_see() {
    let lab = lab();
    let list = |caller: &str, params: &[(&str, &str)]| lab.get(caller, "/cluster/resources", params);
    let all = list("aud@pve", &[]);
    let expected = [
        "/pool/web",
        "qemu/100",
        "qemu/1000",
        "qemu/101",
        "node/pve1",
        "storage/pve1/local",
        "storage/pve1/nfs",
        "network/pve1/zone/localnetwork",
    ];
    assert_eq!(ids(&all), expected);
    assert_eq!(
        all[0],
        json!({"id": "/pool/web", "pool": "web", "type": "pool", "uptime": 50, "mem": 0, "maxmem": 512, "maxcpu": 2,
            "cpu": 0})
    );
    let texts = ["name", "status", "tags", "lock", "pool"].map(|key| all[1][key].as_str().unwrap());
    assert_eq!(texts, ["web", "running", "a;b", "backup", "web"]);
    assert_eq!((&all[2]["status"], all[2].get("name")), (&json!("unknown"), None));
    assert_eq!((&all[4]["maxcpu"], &all[4]["cgroup-mode"]), (&json!(8), &json!(2)));
    assert_eq!((&all[5]["maxdisk"], &all[5]["disk"]), (&json!(1000), &json!(400)));
    // Reference 04 §20, vector 35.
    assert_eq!(
        all[6],
        json!({"content":"images","id":"storage/pve1/nfs","node":"pve1","plugintype":"nfs","shared":1,
            "status":"unknown","storage":"nfs","type":"storage"})
    );
    assert_eq!(
        ids(&list("aud@pve", &[("type", "vm")])),
        ["qemu/100", "qemu/1000", "qemu/101"]
    );
    assert_eq!(ids(&list("aud@pve", &[("type", "node")])), ["node/pve1"]);
    assert_eq!(
        ids(&list("aud@pve", &[("type", "storage")])),
        ["storage/pve1/local", "storage/pve1/nfs"]
    );
    assert!(ids(&list("aud@pve", &[("type", "sdn")])).is_empty());
    let own = list("joe@pve", &[]);
    assert_eq!(ids(&own), ["qemu/100", "node/pve1"]);
    assert_eq!((own[0].get("pool"), own[1].get("maxcpu")), (None, None));
    assert_eq!(ids(&list("eve@pve", &[])), ["node/pve1"]);
}

#[test]
fn a_node_alone_is_no_cluster() {
    let lab = lab();
    let rows = lab.get("aud@pve", "/cluster/status", &[]);
    assert_eq!(
        rows,
        json!([{"type": "node", "id": "node/pve1", "name": "pve1", "ip": "127.0.0.1", "local": 1, "nodeid": 0,
            "online": 1, "level": ""}])
    );
}

#[test]
fn charts_come_from_the_files() {
    let lab = lab();
    let now = lab.context.now();
    let record = StorageFigures {
        time: now,
        total: 1000,
        used: 400,
    };
    let record = record.record("pve1".parse().unwrap(), "local".parse().unwrap());
    Rrd::new(&lab.context).update(&record).unwrap();
    let path = "/nodes/{node}/storage/{storage}/rrddata";
    let rows = lab.get(
        "aud@pve",
        path,
        &[("storage", "local"), ("timeframe", "hour"), ("cf", "MAX")],
    );
    let rows = rows.as_array().unwrap();
    assert!((59..=60).contains(&rows.len()), "{}", rows.len());
    assert!(
        rows.iter()
            .all(|row| row["time"].is_i64() && !row.as_object().unwrap().values().any(Value::is_null))
    );
    for (path, file, params) in [
        (
            "/nodes/{node}/rrddata",
            "pve-node-9.0/pve1",
            vec![("timeframe", "decade")],
        ),
        (
            "/nodes/{node}/qemu/{vmid}/rrddata",
            "pve-vm-9.0/100",
            vec![("timeframe", "day"), ("vmid", "100")],
        ),
        (
            "/nodes/{node}/lxc/{vmid}/rrddata",
            "pve-vm-9.0/101",
            vec![("timeframe", "year"), ("vmid", "101")],
        ),
    ] {
        let file = lab.context.site.path("/var/lib/rrdcached/db").join(file);
        assert_eq!(
            refused(lab.call("aud@pve", Verb::Get, path, &params)),
            (
                500,
                format!("RRD error: opening '{}': No such file or directory\n", file.display())
            )
        );
    }
}

#[test]
fn charts_are_drawn_from_the_files() {
    let lab = lab();
    let record = NodeFigures {
        time: lab.context.now(),
        ..NodeFigures::default()
    };
    let rrd = Rrd::new(&lab.context);
    rrd.update(&record.record("pve1".parse().unwrap())).unwrap();
    let path = "/nodes/{node}/rrd";
    let answer = lab.get(
        "aud@pve",
        path,
        &[("ds", "cpu, iowait"), ("timeframe", "day"), ("cf", "MAX")],
    );
    let image: Vec<u8> = answer["image"]
        .as_str()
        .unwrap()
        .chars()
        .map(|c| u8::try_from(c).unwrap())
        .collect();
    assert!(image.starts_with(b"\x89PNG\r\n\x1a\n"));
    let file = lab
        .context
        .site
        .path("/var/lib/rrdcached/db/pve-node-9.0/pve1_cpu_iowait.png");
    assert_eq!(answer["filename"], file.to_str().unwrap());
    let three = lab.call(
        "aud@pve",
        Verb::Get,
        path,
        &[("ds", "cpu,iowait,memused"), ("timeframe", "day")],
    );
    assert_eq!(refused(three), (500, "fixme: no color definition\n".to_owned()));
    for (path, more, file) in [
        ("/nodes/{node}/qemu/{vmid}/rrd", ("vmid", "100"), "pve-vm-9.0/100"),
        ("/nodes/{node}/lxc/{vmid}/rrd", ("vmid", "100"), "pve-vm-9.0/100"),
        (
            "/nodes/{node}/storage/{storage}/rrd",
            ("storage", "nfs"),
            "pve-storage-9.0/pve1/nfs",
        ),
    ] {
        let missing = lab.call(
            "aud@pve",
            Verb::Get,
            path,
            &[more, ("ds", "disk"), ("timeframe", "hour")],
        );
        let (status, text) = refused(missing);
        assert!(
            status == 500 && text.starts_with("RRD error: ") && text.contains(file),
            "{text}"
        );
    }
}

#[test]
fn a_node_tells_how_it_is() {
    let lab = lab();
    let status = lab.get("aud@pve", "/nodes/{node}/status", &[]);
    assert_eq!(
        (&status["cpu"], &status["idle"]),
        (&json!(0.5), &json!(0)),
        "until there are two readings"
    );
    for key in [
        "/uptime",
        "/cpuinfo/cpus",
        "/memory/total",
        "/rootfs/total",
        "/cpuinfo/user_hz",
        "/rootfs/free",
    ] {
        assert!(status.pointer(key).unwrap().as_u64().unwrap() > 0, "{key}");
    }
    for key in [
        "/cpuinfo/mhz",
        "/cpuinfo/family",
        "/cpuinfo/hvm",
        "/loadavg/2",
        "/boot-info/mode",
        "/kversion",
    ] {
        assert!(status.pointer(key).unwrap().is_string(), "{key}");
    }
    let memory = fs::read_to_string("/proc/meminfo").unwrap();
    let total = memory.lines().next().unwrap().split_ascii_whitespace().nth(1).unwrap();
    assert_eq!(status["memory"]["total"], json!(total.parse::<u64>().unwrap() * 1024));
    assert!(status["pveversion"].as_str().unwrap().starts_with("pve-manager/9."));
}
