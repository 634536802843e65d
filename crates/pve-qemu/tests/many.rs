//! Looking at many machines at once, of which some do not behave: real sockets and processes of a
//! [`pve_testing::fleet`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pve_cfs::Cfs;
use pve_qemu::runtime::{self, Runtime};
use pve_qemu::status::{self, Detail, Survey};
use pve_qemu::{balloon, files};
use pve_schema::Context;
use pve_schema::ids::VmId;
use pve_testing::fleet::{Figures, Fleet, Manner};
use serde_json::{Value, json};

const FIRST: u32 = 100;

struct Lab {
    _directory: tempfile::TempDir,
    context: Context,
    fleet: Fleet,
}

impl Lab {
    fn start(count: u32) -> Self {
        let directory = tempfile::Builder::new().prefix("many").tempdir_in("/tmp").unwrap();
        let context = pve_testing::context(directory.path().canonicalize().unwrap(), "n1");
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        runtime::create_directory(&context.site).unwrap();
        for vmid in FIRST..FIRST + count {
            let config = format!("balloon: 512\ncores: 1\nmemory: 2048\nname: guest-{vmid}\n");
            cfs.write(&format!("nodes/n1/qemu-server/{vmid}.conf"), config.as_bytes())
                .unwrap();
        }
        let fleet = Fleet::start(&runtime::directory(&context.site), FIRST..FIRST + count);
        Self {
            _directory: directory,
            context,
            fleet,
        }
    }

    fn survey(&self) -> Survey {
        let vmids = files::list(&self.context).unwrap();
        status::survey(&self.context, &vmids, Detail::Full, true)
    }
}

fn id(vmid: u32) -> VmId {
    vmid.try_into().unwrap()
}

fn errors(survey: &Survey) -> BTreeMap<u32, String> {
    let errors = survey.silent.iter();
    errors.map(|(vmid, error)| (vmid.get(), error.to_string())).collect()
}

#[test]
fn a_row_holds_what_the_machine_tells() {
    let lab = Lab::start(1);
    let group = lab.context.site.path("/sys/fs/cgroup/qemu.slice/100.scope");
    fs::create_dir_all(&group).unwrap();
    fs::write(lab.context.site.path("/sys/fs/cgroup/cgroup.controllers"), "memory\n").unwrap();
    fs::write(group.join("memory.current"), "3000\n").unwrap();
    fs::write(group.join("memory.stat"), "anon 1\nfile 1000\n").unwrap();
    fs::write(group.join("io.pressure"), "some avg10=1.50 avg60=0 avg300=0 total=0\n").unwrap();
    fs::write(
        Runtime::new(&lab.context.site, id(100))
            .monitor()
            .with_extension("machine"),
        "+pve3",
    )
    .unwrap();
    let mut row = lab.survey().rows.remove(&id(100)).unwrap();
    let block = row.remove("blockstat").unwrap();
    let figures = Figures::of(100);
    assert_eq!(block["scsi0"]["rd_bytes"], figures.read);
    assert_eq!(block["scsi0"].as_object().unwrap().len(), 32);
    let uptime = row.remove("uptime").unwrap();
    assert!(uptime.as_u64().unwrap() < 1000, "{uptime}");
    let expected = json!({
        "vmid": 100, "name": "guest-100", "status": "running", "qmpstatus": "running", "pid": lab.fleet.pid(100),
        "cpu": 0, "cpus": 1, "mem": 1_000_000_000 - figures.free, "memhost": 2000, "maxmem": 2u64 << 30,
        "disk": 0, "maxdisk": 0, "netin": 0, "netout": 0, "diskread": 100_000_000, "diskwrite": 200_000_000,
        "balloon": 1 << 30, "balloon_min": 512 << 20, "shares": 1000, "freemem": figures.free,
        "ballooninfo": {"actual": 1 << 30, "max_mem": 2u64 << 30, "last_update": 1_700_000_000,
            "total_mem": 1_000_000_000, "free_mem": figures.free, "mem_swapped_in": 0, "mem_swapped_out": 0,
            "major_page_faults": 1, "minor_page_faults": 3},
        "running-machine": "pc-i440fx-10.0+pve3", "running-qemu": "10.0.2",
        "pressurecpusome": 0, "pressurecpufull": 0, "pressureiosome": 1.5, "pressureiofull": 0,
        "pressurememorysome": 0, "pressurememoryfull": 0,
    });
    assert_eq!(Value::Object(row), expected);
    // The status page has the same, and a little more.
    let page = status::current(&lab.context, id(100)).unwrap();
    let differs = |(key, value): &(&String, &Value)| *key != "uptime" && page.get(*key) != Some(*value);
    assert_eq!(expected.as_object().unwrap().iter().find(differs), None);
}

#[test]
fn those_that_do_not_behave_hold_up_nobody() {
    let lab = Lab::start(30);
    lab.fleet.set(101, Manner::Silent);
    lab.fleet.set(102, Manner::Stuck);
    lab.fleet.set(103, Manner::Dead);
    lab.fleet.set(104, Manner::Babbling);
    // Somebody else talks to this one.
    let holder = UnixStream::connect(Runtime::new(&lab.context.site, id(105)).monitor()).unwrap();
    (&holder).read_exact(&mut [0; 8]).unwrap();
    fs::remove_file(Runtime::new(&lab.context.site, id(106)).monitor()).unwrap();
    let start = Instant::now();
    let survey = lab.survey();
    // Three of them take two seconds each, at the same time.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let failed =
        |vmid: u32, command: &str, why: &str| (vmid, format!("VM {vmid} qmp command '{command}' failed - {why}"));
    let expected = BTreeMap::from([
        failed(101, "query-status", "got timeout"),
        failed(102, "query-blockstats", "got timeout"),
        failed(103, "query-status", "Connection refused (os error 111)"),
        failed(104, "query-status", "unexpected reply"),
        failed(105, "query-status", "got timeout"),
        (106, "unable to open monitor socket".to_owned()),
    ]);
    assert_eq!(errors(&survey), expected);
    for vmid in 100..130 {
        let row = &survey.rows[&id(vmid)];
        assert_eq!(row["status"], "running");
        let is_sound = !expected.contains_key(&vmid);
        assert_eq!(row.contains_key("diskread"), is_sound, "{vmid}");
        // What was answered before the disks hung is there.
        assert_eq!(row.contains_key("ballooninfo"), is_sound || vmid == 102, "{vmid}");
    }
    drop(holder);
    lab.fleet.set(101, Manner::Kind);
    let again = errors(&lab.survey());
    assert!(!again.contains_key(&105) && !again.contains_key(&101), "{again:?}");
}

/// QEMU's queue holds two callers: from the third look on a QEMU that hangs refuses the call itself.
#[test]
fn one_that_takes_no_calls_delays_the_first_look_only() {
    let lab = Lab::start(5);
    lab.fleet.set(101, Manner::Deaf);
    lab.fleet.set(102, Manner::Silent);
    let mut lengths = Vec::new();
    for look in 0..5 {
        let start = Instant::now();
        let survey = lab.survey();
        lengths.push(start.elapsed());
        let text = |vmid: u32| {
            (
                vmid,
                format!("VM {vmid} qmp command 'query-status' failed - got timeout"),
            )
        };
        assert_eq!(errors(&survey), BTreeMap::from([text(101), text(102)]), "look {look}");
        assert_eq!(survey.rows[&id(100)]["diskread"], Figures::of(100).read);
    }
    // Two seconds at first, and half a second once they are known. The machine itself may delay some of the looks.
    let quick = lengths
        .iter()
        .skip(1)
        .filter(|length| **length < Duration::from_millis(1900));
    assert!(quick.count() >= 2, "{lengths:?}");
}

/// A QEMU that hangs must not find a command when it comes back, hours later.
#[test]
fn a_balloon_is_set_only_where_the_machine_has_greeted() {
    let lab = Lab::start(0);
    let path = Runtime::new(&lab.context.site, id(100)).monitor();
    let listener = UnixListener::bind(&path).unwrap();
    let failed = balloon::set_all(&lab.context.site, &BTreeMap::from([(id(100), 700)]));
    assert_eq!(failed.len(), 1);
    let mut said = String::new();
    listener.accept().unwrap().0.read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn refusals_are_told_and_not_at_length() {
    let lab = Lab::start(0);
    let path = Runtime::new(&lab.context.site, id(100)).monitor();
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let refusal = json!({"id": 1, "error": {"class": "GenericError", "desc": "ü".repeat(100_000)}});
        let text = format!(
            "{}\n{}\n{refusal}\n",
            json!({"QMP": {}}),
            json!({"id": 0, "return": {}})
        );
        client.write_all(text.as_bytes()).unwrap();
        let _ = client.read_to_end(&mut Vec::new());
    });
    let failed = balloon::set_all(&lab.context.site, &BTreeMap::from([(id(100), 700)]));
    server.join().unwrap();
    let expected = format!("VM 100 qmp command 'balloon' failed - {}…", "ü".repeat(200));
    assert_eq!(failed[&id(100)].to_string(), expected);
}

/// Neither reads as a VM that is off, or as none at all.
#[test]
fn what_cannot_be_read_is_told() {
    let lab = Lab::start(3);
    let path = |name: &str| lab.context.site.etc_pve().join("nodes/n1/qemu-server").join(name);
    fs::remove_file(path("101.conf")).unwrap();
    fs::create_dir(path("101.conf")).unwrap();
    let pid_file = runtime::directory(&lab.context.site).join("102.pid");
    fs::remove_file(&pid_file).unwrap();
    fs::create_dir(&pid_file).unwrap();
    let vmids = [100, 101, 102].map(id);
    let survey = status::survey(&lab.context, &vmids, Detail::Full, true);
    assert_eq!(survey.rows.keys().copied().collect::<Vec<_>>(), [id(100)]);
    let texts: Vec<String> = survey.unseen.values().map(ToString::to_string).collect();
    assert!(
        texts[0].contains("101.conf") || texts[0].contains("directory"),
        "{texts:?}"
    );
    assert_eq!(
        texts[1],
        "unable to tell whether it runs - Is a directory (os error 21)"
    );
}

#[test]
fn more_than_may_be_asked_at_once_are_asked_without_a_thread_for_each() {
    let lab = Lab::start(700);
    for vmid in 100..110 {
        lab.fleet.set(vmid, Manner::Silent);
    }
    let is_over = AtomicBool::new(false);
    let threads = || fs::read_dir("/proc/self/task").unwrap().count();
    let (survey, before, most) = std::thread::scope(|scope| {
        let before = threads();
        let watcher = scope.spawn(|| {
            let mut most = 0;
            while !is_over.load(Ordering::SeqCst) {
                most = most.max(threads());
                std::thread::yield_now();
            }
            most
        });
        let survey = lab.survey();
        is_over.store(true, Ordering::SeqCst);
        (survey, before, watcher.join().unwrap())
    });
    // The watcher, and the threads of other tests.
    assert!(most < before + 10, "{before} threads before, {most} at most");
    assert_eq!(survey.silent.len(), 10);
    assert_eq!(survey.rows.len(), 700);
    for (vmid, row) in survey.rows.iter().skip(10) {
        assert_eq!(row["diskread"], Figures::of(vmid.get()).read, "{vmid}");
    }
    // Whoever was asked was left alone again: the next one is answered at once.
    let calls = lab.fleet.calls();
    assert_eq!(calls, 700);
}

#[test]
fn balloons_are_set_and_refusals_told() {
    let lab = Lab::start(3);
    lab.fleet.set(102, Manner::Silent);
    let sizes = BTreeMap::from([(id(100), 700), (id(101), 800), (id(102), 900)]);
    let failed = balloon::set_all(&lab.context.site, &sizes);
    let texts: Vec<String> = failed.values().map(ToString::to_string).collect();
    assert_eq!(texts, ["VM 102 qmp command 'balloon' failed - got timeout"]);
    assert_eq!(
        (lab.fleet.balloon(100), lab.fleet.balloon(101), lab.fleet.balloon(102)),
        (Some(700), Some(800), None)
    );
}
