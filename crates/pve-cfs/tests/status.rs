//! Status store and cluster log.

mod common;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use common::context;
use pve_cfs::{Cfs, Priority};
use pve_schema::Clock;

#[derive(Debug)]
struct At(i64);

impl Clock for At {
    fn now(&self) -> i64 {
        self.0
    }
}

#[test]
fn values_are_told_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let status = Cfs::new(&context(dir.path())).status();
    assert_eq!(status.get("kv/static-info").unwrap(), None);
    status.set("kv/static-info", b"{}").unwrap();
    status.set("rrd/pve-node-9.0/pve1", b"1:2").unwrap();
    assert_eq!(status.get("kv/static-info").unwrap().as_deref(), Some(&b"{}"[..]));
    let told = status.list("rrd/").unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].key, "rrd/pve-node-9.0/pve1");
    assert!(told[0].at > 0);
    let mode = |path: &str| std::fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("run/pve-cluster"), 0o750);
    assert_eq!(mode("run/pve-cluster/status"), 0o750);
    assert_eq!(mode("run/pve-cluster/status/kv%2Fstatic-info"), 0o640);
    status.unset("kv/static-info").unwrap();
    assert_eq!(status.get("kv/static-info").unwrap(), None);
    assert_eq!(
        status.set("tasklist", &[b' '; 32768]).unwrap_err().to_string(),
        "data for 'tasklist' too big"
    );
    status.set("tasklist", &[b' '; 32767]).unwrap();
}

/// Set for a process that is to tell values until it is killed; names its site.
const TELL: &str = "PVE_CFS_TEST_TELL";

/// A value that shows whether it is whole.
fn value(round: u32) -> Vec<u8> {
    format!("{round:08}").repeat(1000).into_bytes()
}

#[test]
fn a_killed_daemon_loses_nothing_that_it_told() {
    if let Some(root) = std::env::var_os(TELL) {
        let status = Cfs::new(&context(Path::new(&root))).status();
        for round in 1.. {
            status.set("kv/network", &value(round)).unwrap();
            println!("\n{round}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let status = Cfs::new(&context(dir.path())).status();
    let mut last = 0;
    for kills in 1..=10_u32 {
        let mut teller = Command::new(std::env::current_exe().unwrap())
            .args(["a_killed_daemon_loses_nothing_that_it_told", "--exact", "--nocapture"])
            .env(TELL, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(teller.stdout.take().unwrap()).lines();
        let mut told = lines.filter_map(|line| line.unwrap().parse::<u32>().ok());
        let confirmed = told.find(|round| *round >= kills * 3).unwrap();
        teller.kill().unwrap();
        teller.wait().unwrap();
        let found = status.of_nodes("kv/network").unwrap();
        let (node, bytes) = found.into_iter().next().unwrap();
        let round: u32 = String::from_utf8(bytes[..8].to_vec()).unwrap().parse().unwrap();
        assert_eq!((node.as_str(), &bytes), ("pve1", &value(round)), "whole");
        assert!(round >= confirmed, "{round} after {confirmed}");
        last = round;
    }
    assert_eq!(status.get("kv/network").unwrap(), Some(value(last)));
    assert_eq!(status.list("").unwrap().len(), 1, "nothing half done is listed");
    assert!(status.of_nodes("kv/sdn").unwrap().is_empty());
}

#[test]
fn the_log_is_dumped_newest_first_and_by_user() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(dir.path()).with_clock(Arc::new(At(1_700_000_000)));
    let log = Cfs::new(&context).cluster_log();
    log.log(Priority::Info, "pvedaemon", "root@pam", "first\n");
    log.log(Priority::Error, "pvedaemon", "joe@pve", "");
    let all = log.dump(None, 50).unwrap();
    let texts: Vec<_> = all.iter().map(|e| (e.uid, e.pri, e.msg.as_str())).collect();
    assert_eq!(
        texts,
        [
            (3, 3, "empty message"),
            (2, 6, "first#010"),
            (1, 6, "starting cluster log")
        ]
    );
    assert_eq!(log.dump(Some("joe@pve"), 50).unwrap().len(), 1);
    assert_eq!(log.dump(None, 1).unwrap()[0].uid, 3);
    let json = serde_json::to_value(&all[0]).unwrap();
    assert_eq!(json["time"], 1_700_000_000);
    assert_eq!(json["tag"], "pvedaemon");
    assert_eq!(json["node"], "pve1");
}

#[test]
fn the_log_stays_within_its_ring() {
    let dir = tempfile::tempdir().unwrap();
    let log = Cfs::new(&context(dir.path())).cluster_log();
    for round in 0..80 {
        log.log(
            Priority::Info,
            "pvedaemon",
            "root@pam",
            &format!("{round} {}", "ä".repeat(4000)),
        );
    }
    let size = std::fs::metadata(dir.path().join("run/pve-cluster/clusterlog"))
        .unwrap()
        .len();
    assert!(size <= 128 * 1024, "{size}");
    let all = log.dump(None, 1000).unwrap();
    assert_eq!(all[0].uid, 81);
    assert!(all.len() > 20 && all.len() < 40, "{}", all.len());
    assert!(
        all.iter()
            .all(|entry| serde_json::to_string(entry).unwrap().len() < 4096)
    );
}
