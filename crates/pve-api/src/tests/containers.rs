//! What there is to see of containers.

use pve_cfs::Cfs;
use pve_contract::Verb;
use serde_json::{Value, json};

use super::{Lab, refused};

const CONFIG: &str = "#first\ncores: 2\ncpulimit: 1.5\nhostname: web\nmemory: 64\nonboot: 1\nrootfs: l:812/r.raw,size=1G\n\
    tags: a;b\nlxc.environment.runtime: TOKEN=x\nlxc.idmap: u 0 100000 65536\n\n[pve:pending]\nmemory: 128\n\
    delete: onboot\n\n[snap1]\ncores: 1\n";
const ONE: &str = "/nodes/{node}/lxc/{vmid}/config";

fn lab() -> Lab {
    let lab = Lab::new();
    let cfs = Cfs::new(&lab.context);
    let users = "user:aud@pve:1:0::::::\nuser:joe@pve:1:0::::::\nuser:eve@pve:1:0::::::\n\
        acl:1:/:aud@pve:PVEAuditor:\nacl:1:/vms/812:joe@pve:PVEVMAdmin:\n";
    cfs.write("user.cfg", users.as_bytes()).unwrap();
    cfs.create("nodes/pve1/lxc/812.conf", CONFIG.as_bytes()).unwrap();
    cfs.create("nodes/pve1/lxc/813.conf", b"template: 1\n").unwrap();
    cfs.create("nodes/pve1/qemu-server/100.conf", b"name: vm\n").unwrap();
    lab
}

#[test]
fn lists_show_what_the_caller_may_see() {
    let lab = lab();
    let names = |caller: &str| {
        let rows = lab.get(caller, "/nodes/{node}/lxc", &[]);
        let name = |row: &Value| row["name"].as_str().unwrap().to_owned();
        rows.as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names("aud@pve"), ["web", "CT813"]);
    assert_eq!(names("joe@pve"), ["web"]);
    assert!(names("eve@pve").is_empty());
    let subdirs = |path: &str| {
        let rows = lab.get("eve@pve", path, &[("vmid", "812")]);
        let name = |row: &Value| row["subdir"].as_str().unwrap().to_owned();
        rows.as_array().unwrap().iter().map(name).collect::<Vec<_>>().join(" ")
    };
    let index = "config pending status vncproxy termproxy vncwebsocket spiceproxy migrate clone rrd rrddata firewall \
        snapshot resize interfaces";
    assert_eq!(subdirs("/nodes/{node}/lxc/{vmid}"), index);
    assert_eq!(
        subdirs("/nodes/{node}/lxc/{vmid}/status"),
        "current start stop shutdown reboot migrate"
    );
}

#[test]
fn a_container_that_is_off_shows_zeros() {
    let lab = lab();
    let expected = json!({
        "type": "lxc", "vmid": 812, "name": "web", "status": "stopped", "cpus": 2, "cpu": 0, "maxmem": 64 << 20,
        "mem": 0, "maxswap": 0, "swap": 0, "maxdisk": 1 << 30, "disk": 0, "diskread": 0, "diskwrite": 0, "netin": 0,
        "netout": 0, "uptime": 0, "tags": "a;b", "ha": {"managed": 0},
    });
    let path = "/nodes/{node}/lxc/{vmid}/status/current";
    assert_eq!(lab.get("aud@pve", path, &[("vmid", "812")]), expected);
    let missing = lab.call("aud@pve", Verb::Get, path, &[("vmid", "814")]);
    let text = "Configuration file 'nodes/pve1/lxc/814.conf' does not exist\n";
    assert_eq!(refused(missing), (500, text.to_owned()));
}

#[test]
fn configs_show_what_is_asked_for() {
    let lab = lab();
    let get = |caller: &str, params: &[(&str, &str)]| {
        let mut all = vec![("vmid", "812")];
        all.extend(params);
        let mut shown = lab.get(caller, ONE, &all);
        shown.as_object_mut().unwrap().remove("digest").unwrap();
        shown
    };
    let mut expected = json!({
        "description": "first\n", "cores": 2, "cpulimit": "1.5", "hostname": "web", "memory": 64, "onboot": 1,
        "rootfs": "l:812/r.raw,size=1G", "tags": "a;b", "env": "TOKEN=x", "lxc": [["lxc.idmap", "u 0 100000 65536"]],
    });
    assert_eq!(get("joe@pve", &[("current", "1")]), expected);
    assert_eq!(get("joe@pve", &[("snapshot", "snap1")]), json!({"cores": 1}));
    // Pending changes count, and who may not change options does not see variables.
    expected["memory"] = 128.into();
    for key in ["onboot", "env"] {
        expected.as_object_mut().unwrap().remove(key);
    }
    assert_eq!(get("aud@pve", &[]), expected);
    let both = [("vmid", "812"), ("snapshot", "snap1"), ("current", "1")];
    let error = lab.call("joe@pve", Verb::Get, ONE, &both).unwrap_err();
    assert_eq!((error.status, error.errors.len()), (400, 2));
    let unknown = lab.call("joe@pve", Verb::Get, ONE, &[("vmid", "812"), ("snapshot", "none")]);
    assert_eq!(refused(unknown), (500, "snapshot 'none' does not exist\n".to_owned()));
}
