//! Cycles over many machines: the figures, what is said of those that do not behave, and what it costs. The same with a
//! thousand machines is `cargo bench -p pvestatd --bench thousand`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

#[path = "common/crowd.rs"]
mod crowd;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crowd::{Cost, Crowd, FIRST};
use pve_cfs::Cfs;
use pve_metrics::{Consolidation, Rrd, Subject, Timeframe, Told, ToldRecords};
use pve_schema::Site;
use pve_testing::fleet::{Figures, Manner};

const COUNT: u32 = 50;
const CYCLES: u32 = 4;
/// Accepts the call and says nothing.
const SILENT: u32 = FIRST + 7;

fn told(crowd: &Crowd) -> BTreeMap<u32, Told> {
    let records = ToldRecords::load(&Cfs::new(&crowd.context), crowd.context.now()).unwrap();
    let record = |vmid: u32| Some((vmid, records.get(&guest(vmid))?.clone()));
    (FIRST..FIRST + crowd.count).filter_map(record).collect()
}

fn guest(vmid: u32) -> Subject {
    Subject::Guest(vmid.try_into().unwrap())
}

#[test]
fn every_machine_has_its_figures_and_the_silent_one_is_told_of_once() {
    let crowd = Crowd::start(COUNT);
    crowd.fleet.set(SILENT, Manner::Silent);
    let mut cycles = crowd.cycles(CYCLES);
    let costs: Vec<_> = cycles.by_ref().collect();
    assert_eq!(costs.len(), CYCLES as usize);
    let is_cheap = |cost: &Cost| cost.late == 0 && cost.cpu < 2_000_000;
    assert!(costs.iter().all(is_cheap), "{costs:?}");
    // The machine itself may delay some of them.
    assert!(costs.iter().any(|cost| cost.wall < 4_000_000), "{costs:?}");
    assert!(costs[CYCLES as usize - 1].memory < costs[1].memory + 4096, "{costs:?}");
    let told = told(&crowd);
    assert_eq!(told.len(), COUNT as usize);
    for (vmid, record) in &told {
        assert_eq!(
            (record.text(1), record.text(2), record.text(3)),
            (Some(format!("guest-{vmid}").as_str()), Some("running"), Some("0"))
        );
        let figures = Figures::of(*vmid);
        let host_memory = (f64::from(*vmid) - 0.5) * f64::from(1 << 20);
        let answered = |figure: u64| (*vmid != SILENT).then_some(figure as f64);
        let memory = answered(figures.memory - figures.free).unwrap_or(host_memory);
        let gib = f64::from(1 << 30);
        let expected = [
            (7, Some(2.0 * gib)),
            (8, Some(memory)),
            (9, Some(32.0 * gib)),
            (10, Some(0.0)),
            (11, Some(0.0)),
            (12, Some(0.0)),
            (13, answered(figures.read)),
            (14, answered(figures.written)),
            (15, Some(host_memory)),
            (16, Some(0.5)),
            (17, Some(0.2)),
            (18, Some(1.5)),
            (19, Some(1.2)),
            (20, Some(2.5)),
            (21, Some(2.2)),
        ];
        for (field, value) in expected {
            assert_eq!(record.figure(field), value, "{vmid}, field {field}");
        }
    }
    let rows = Rrd::new(&crowd.context).rows(&guest(FIRST), Timeframe::Hour, Consolidation::Average);
    assert!(!rows.unwrap().is_empty());
    // One call to ask and at most one to set the balloon.
    assert!(
        crowd.fleet.calls() <= u64::from(2 * CYCLES * COUNT),
        "{}",
        crowd.fleet.calls()
    );
    let log = cycles.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("error")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    let expected =
        format!("qemu status update of {SILENT} error: VM {SILENT} qmp command 'query-status' failed - got timeout");
    assert!(lines[0].ends_with(&expected), "{log}");
}

/// Cycles with a clock of their own are not for a real node, nor beside a daemon.
#[test]
fn cycles_refuse_the_root_of_a_machine_and_a_running_daemon() {
    let crowd = Crowd::start(0);
    let refusal = |site: &Site| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pvestatd"))
            .args(["cycles", "0"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let text = serde_json::to_string(site).unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let site = &*crowd.context.site;
    assert_eq!(refusal(site), (true, String::new()));
    let real = Site {
        root: "/tmp/..".into(),
        ..site.clone()
    };
    let expected = "cycles are not for the root of a machine\n".to_owned();
    assert_eq!(refusal(&real), (false, expected));
    let lock = fs::File::create(site.path("/run/pvestatd.pid.lock")).unwrap();
    lock.lock().unwrap();
    fs::write(site.path("/run/pvestatd.pid"), format!("{}\n", std::process::id())).unwrap();
    let expected = format!("a daemon runs there (pid = {})\n", std::process::id());
    assert_eq!(refusal(site), (false, expected));
}

#[test]
fn balloons_shrink_where_the_node_is_to_use_nothing_and_grow_where_it_is_to_use_all() {
    let crowd = Crowd::start(3);
    let cfs = Cfs::new(&crowd.context);
    let target = |target: u32| {
        let text = format!("ballooning-target: {target}\n");
        cfs.write("nodes/n1/config", text.as_bytes()).unwrap();
    };
    let balloons = || {
        (FIRST..FIRST + 3)
            .map(|vmid| crowd.fleet.balloon(vmid))
            .collect::<Vec<_>>()
    };
    let mib = |size: u64| Some(size << 20);
    target(0);
    assert_eq!(crowd.cycles(1).count(), 1);
    assert_eq!(
        balloons(),
        [mib(924), mib(924), mib(924)],
        "by 100 MiB, the most of a cycle"
    );
    assert_eq!(crowd.cycles(10).count(), 10);
    assert_eq!(
        balloons(),
        [mib(512), mib(512), mib(512)],
        "down to what the config says"
    );
    target(100);
    assert_eq!(crowd.cycles(2).count(), 2);
    assert_eq!(balloons(), [mib(712), mib(712), mib(712)]);
}
