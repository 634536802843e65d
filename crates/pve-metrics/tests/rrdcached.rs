//! Files of figures where a real rrdcached gathers samples.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Lab, node, storage, storage_record};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use pve_metrics::{Consolidation, NodeFigures, Record, Subject, Timeframe};
use pve_testing::wait_for;

const START: i64 = 1_700_006_460;
const PATIENCE: Duration = Duration::from_secs(20);

/// The daemon of a lab.
struct Daemon {
    child: Child,
    socket: PathBuf,
}

impl Daemon {
    fn start(lab: &Lab) -> Self {
        let root = lab.directory.path();
        let socket = root.join("var/run/rrdcached.sock");
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        fs::create_dir_all(root.join("var/lib/rrdcached/db")).unwrap();
        let child = Command::new("rrdcached")
            .arg("-g")
            .arg("-l")
            .arg(format!("unix:{}", socket.display()))
            .arg("-b")
            .arg(root.join("var/lib/rrdcached/db"))
            .args(["-B", "-p"])
            .arg(root.join("rrdcached.pid"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("rrdcached is in packages/test.txt");
        let daemon = Self { child, socket };
        wait_for("rrdcached listens", || UnixStream::connect(&daemon.socket).is_ok());
        daemon
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, signal).unwrap();
        if signal == Signal::SIGSTOP {
            let state = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
            assert_eq!(state, WaitStatus::Stopped(pid, signal));
        }
    }

    fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let _ = fs::remove_file(&self.socket);
    }

    /// One of its counters.
    fn counter(&self, name: &str) -> u64 {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.write_all(b"STATS\n").unwrap();
        let lines = BufReader::new(stream).lines();
        let found = lines.map(Result::unwrap).find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix(": ")?;
            Some(value.parse().unwrap())
        });
        found.unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGCONT);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn records(time: i64, used: u64) -> [Record; 2] {
    let figures = NodeFigures {
        time,
        cpu: Some(0.25),
        ..NodeFigures::default()
    };
    [
        figures.record("n1".parse().unwrap()),
        storage_record("local", time, used),
    ]
}

/// Five minutes of samples.
fn feed(lab: &Lab, from: i64) {
    for time in (from..=from + 300).step_by(10) {
        lab.clock.set(time);
        let results = lab.rrd.update_all(&records(time, 400));
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
}

/// When a sample was last written to the disk.
fn last(lab: &Lab, file: &str) -> i64 {
    lab.rrdtool(&["last"], file).trim().parse().unwrap()
}

#[test]
fn samples_are_gathered_and_charts_have_them_all_the_same() {
    let lab = Lab::at(START);
    let daemon = Daemon::start(&lab);
    feed(&lab, START);
    assert_eq!(daemon.counter("UpdatesReceived"), 62, "two records, 31 times");
    assert!(
        last(&lab, "pve-storage-9.0/n1/local") < START,
        "nothing is on the disk yet"
    );
    assert_eq!(lab.point(&storage(), START + 300, "used"), 400);
    assert_eq!(lab.point(&node(), START + 300, "cpu"), 0.25);
    assert_eq!(
        last(&lab, "pve-storage-9.0/n1/local"),
        START + 300,
        "reading had it written"
    );
    let picture = lab
        .rrd
        .picture(&node(), &["cpu"], Timeframe::Hour, Consolidation::Average);
    assert!(picture.unwrap().image.starts_with(b"\x89PNG"));
}

#[test]
fn without_the_daemon_files_are_written_directly_and_with_it_again() {
    let lab = Lab::at(START);
    let mut daemon = Daemon::start(&lab);
    feed(&lab, START);
    assert_eq!(lab.point(&storage(), START + 300, "used"), 400);
    daemon.stop();
    feed(&lab, START + 310);
    assert_eq!(last(&lab, "pve-storage-9.0/n1/local"), START + 610);
    let daemon = Daemon::start(&lab);
    feed(&lab, START + 620);
    assert_eq!(daemon.counter("UpdatesReceived"), 62);
    assert_eq!(lab.point(&storage(), START + 900, "used"), 400);
}

#[test]
fn a_daemon_that_hangs_costs_a_moment_once() {
    let lab = Lab::at(START);
    let daemon = Daemon::start(&lab);
    lab.storage(START, 400);
    daemon.signal(Signal::SIGSTOP);
    let began = Instant::now();
    // By the clock of the lab no time goes by.
    for n in 1..=20 {
        lab.rrd.update(&storage_record("local", START + n * 10, 400)).unwrap();
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert_eq!(last(&lab, "pve-storage-9.0/n1/local"), START + 200);
}

#[test]
fn what_a_daemon_that_hung_gathered_before_takes_no_later_samples_with_it() {
    let lab = Lab::at(START);
    let daemon = Daemon::start(&lab);
    feed(&lab, START);
    daemon.signal(Signal::SIGSTOP);
    lab.storage(START + 310, 400);
    assert_eq!(last(&lab, "pve-storage-9.0/n1/local"), START + 310, "written directly");
    daemon.signal(Signal::SIGCONT);
    let received = daemon.counter("UpdatesReceived");
    feed(&lab, START + 380);
    assert!(
        daemon.counter("UpdatesReceived") > received,
        "it is told of samples again"
    );
    assert_eq!(lab.point(&storage(), START + 660, "used"), 400);
    assert_eq!(lab.point(&node(), START + 660, "cpu"), 0.25);
    assert_eq!(last(&lab, "pve-storage-9.0/n1/local"), START + 680);
}

#[test]
fn a_daemon_that_takes_no_connection_is_not_waited_for() {
    let lab = Lab::at(START);
    let path = lab.directory.path().join("var/run/rrdcached.sock");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _listener = UnixListener::bind(&path).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = pve_sys::socket::connect(&path) {
        waiting.push(stream);
        assert!(waiting.len() < 10_000);
    }
    let began = Instant::now();
    for n in 0..20 {
        // Each is after the rest of the one before.
        lab.storage(START + n * 100, 400);
        assert_eq!(last(&lab, "pve-storage-9.0/n1/local"), START + n * 100);
        lab.rows(&storage(), "hour");
    }
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

#[test]
fn a_sample_that_the_daemon_refuses_is_written_directly() {
    let lab = Lab::at(START);
    let daemon = Daemon::start(&lab);
    lab.storage(START, 400);
    // What it took note of is newer than what the file has.
    let mut stream = UnixStream::connect(&daemon.socket).unwrap();
    let file = lab.file("pve-storage-9.0/n1/local");
    writeln!(stream, "UPDATE {} {}:1000:1", file.display(), START + 1000).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    assert!(answer.starts_with("0 "), "{answer}");
    lab.storage(START + 10, 400);
    assert_eq!(last(&lab, "pve-storage-9.0/n1/local"), START + 10);
}

#[test]
fn damage_is_found_before_the_daemon_gathers_for_nothing() {
    let lab = Lab::at(START);
    lab.storage(START, 5);
    let file = lab.file("pve-storage-9.0/n1/local");
    fs::write(&file, "no figures").unwrap();
    let _daemon = Daemon::start(&lab);
    feed(&lab, START + 10);
    assert_eq!(
        fs::read(lab.file("pve-storage-9.0/n1/local.damaged")).unwrap(),
        b"no figures"
    );
    assert_eq!(lab.point(&storage(), START + 300, "used"), 400);
}

#[test]
fn a_thousand_samples_go_over_one_connection() {
    let lab = Lab::at(START);
    let daemon = Daemon::start(&lab);
    let records = |time| -> Vec<Record> { (0..1000).map(|n| storage_record(&format!("s{n}"), time, n)).collect() };
    for time in [START, START + 10] {
        let results = lab.rrd.update_all(&records(time));
        assert!(results.iter().all(Result::is_ok));
    }
    assert_eq!(daemon.counter("UpdatesReceived"), 2000);
    let subject = Subject::Storage("n1".parse().unwrap(), "s999".parse().unwrap());
    lab.rrd.rows(&subject, Timeframe::Hour, Consolidation::Max).unwrap();
    assert_eq!(last(&lab, "pve-storage-9.0/n1/s999"), START + 10);
}
