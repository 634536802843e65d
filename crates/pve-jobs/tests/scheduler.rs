//! The scheduler's state machine, with its files: reference 05 §2.3 to §2.5, vectors §18.9.

#![allow(clippy::unwrap_used)]

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use jiff::tz::TimeZone;
use pve_jobs::state::Started;
use pve_jobs::{JobKind, JobState, JobsCfg, Phase, Round, StateStore, TaskEnd, round};
use pve_schema::Context;
use pve_schema::clock::ManualClock;
use pve_schema::ids::Upid;
use pve_task::{TaskList, process};
use tempfile::TempDir;

/// A node with a scheduler whose rounds the test calls.
struct Node {
    dir: TempDir,
    clock: Arc<ManualClock>,
    context: Context,
    jobs: JobsCfg,
    /// What became of the tasks, by start time.
    tasks: RefCell<BTreeMap<u32, TaskEnd>>,
    /// What was started, and when.
    started: RefCell<Vec<(String, i64)>>,
}

impl Node {
    fn new(jobs: &str) -> Self {
        let (dir, context) = common::site();
        let clock = Arc::new(ManualClock::at(0));
        Self {
            dir,
            context: context.with_clock(clock.clone()),
            clock,
            jobs: JobsCfg::parse(jobs),
            tasks: RefCell::default(),
            started: RefCell::default(),
        }
    }

    fn states(&self) -> StateStore {
        StateStore::new(&self.context)
    }

    fn state(&self, id: &str) -> JobState {
        self.states().load(JobKind::Vzdump, id).unwrap().unwrap()
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("var/lib/pve-manager/jobs").join(name)
    }

    /// One round; what it started.
    fn round(&self, now: i64, first: bool) -> Vec<String> {
        self.clock.set(now);
        let states = self.states();
        states.synchronise(&self.jobs);
        let context = Round {
            node: &self.context.site.node,
            zone: &TimeZone::UTC,
            now,
            first,
        };
        let before = self.started.borrow().len();
        let task = |upid: &Upid| {
            let tasks = self.tasks.borrow();
            tasks.get(&upid.starttime).cloned().unwrap_or(TaskEnd::NoSuchTask)
        };
        round::run(&self.jobs, &states, &context, task, |job, section| {
            assert_eq!(job.id, section.id);
            self.started.borrow_mut().push((job.id.clone(), now));
            if section.text("mode") == Some("stop") {
                return Started::Failed("it broke".to_owned());
            }
            if section.text("mode") == Some("suspend") {
                return Started::Done;
            }
            let upid = upid(now);
            self.tasks.borrow_mut().insert(upid.starttime, TaskEnd::Running);
            Started::Task(upid)
        });
        self.started.borrow()[before..]
            .iter()
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Rounds once a minute; the times at which something was started.
    fn rounds(&self, from: i64, to: i64) -> Vec<i64> {
        let minutes = (from..=to).step_by(60);
        minutes.filter(|now| !self.round(*now, false).is_empty()).collect()
    }

    fn end_task(&self, start: u32, status: &str) {
        let end = TaskEnd::Ended(status.to_owned());
        assert!(self.tasks.borrow_mut().insert(start, end).is_some());
    }
}

fn upid(start: i64) -> Upid {
    let text = format!("UPID:lab1:0000A1B2:0012D687:{start:08X}:vzdump::root@pam:");
    text.parse().unwrap()
}

const EVERY_TEN_MINUTES: &str = "vzdump: a\n\tschedule *:0/10\n\tall 1\n\n";
const WITH_REPEAT: &str = "vzdump: a\n\tschedule *:0/10\n\tall 1\n\trepeat-missed 1\n\n";

/// J1, J2.
#[test]
fn a_new_job_waits_for_its_next_time() {
    let node = Node::new(EVERY_TEN_MINUTES);
    node.round(605, false);
    assert_eq!(
        (node.state("a").phase, node.state("a").time),
        (Phase::Created, Some(605))
    );
    assert_eq!(node.rounds(660, 1200), [1200]);
    assert_eq!(node.state("a").phase, Phase::Started);
    assert_eq!(node.state("a").upid, Some(upid(1200).to_string()));

    node.end_task(1200, "OK");
    assert!(node.round(1260, false).is_empty());
    let state = node.state("a");
    assert_eq!((state.phase, state.msg.as_deref()), (Phase::Stopped, Some("OK")));
    assert_eq!(node.rounds(1320, 1860), [1800]);
}

#[test]
fn a_clock_that_was_wrong_keeps_no_job_waiting_and_repeats_none() {
    const YEAR: i64 = 365 * 24 * 3600;
    for jobs in [EVERY_TEN_MINUTES, WITH_REPEAT] {
        let node = Node::new(jobs);
        node.round(YEAR + 605, false);
        assert_eq!(node.rounds(YEAR + 660, YEAR + 1260), [YEAR + 1200]);
        let task = u32::try_from(YEAR + 1200).unwrap();
        node.end_task(task, "OK");
        assert_eq!(node.rounds(660, 1860), [1200]);
        node.end_task(1200, "OK");
        // Set back by a minute, it is the same ten minutes once more.
        assert!(node.rounds(1140, 1200).is_empty());
        assert_eq!(node.rounds(1260, 1860), [1800]);
    }
}

/// J3.
#[test]
fn what_a_stopped_scheduler_missed_is_left_out() {
    let node = Node::new(EVERY_TEN_MINUTES);
    node.round(605, false);
    node.round(1200, false);
    node.end_task(1200, "OK");
    assert!(node.round(3005, true).is_empty());
    assert_eq!(node.state("a").updated, Some(3005));
    assert_eq!(node.rounds(3060, 3660), [3600]);
    assert_eq!(node.state("a").updated, None);
}

/// J4.
#[test]
fn what_a_stopped_scheduler_missed_can_be_made_up_for() {
    let node = Node::new(WITH_REPEAT);
    node.round(605, false);
    node.round(1200, false);
    node.end_task(1200, "OK");
    assert_eq!(node.round(3005, true), ["a"]);
}

/// J5.
#[test]
fn a_new_schedule_counts_from_its_change() {
    let mut node = Node::new(EVERY_TEN_MINUTES);
    node.round(605, false);
    node.round(1200, false);
    node.end_task(1200, "OK");
    node.jobs = JobsCfg::parse("vzdump: a\n\tschedule *:0/7\n\tall 1\n\n");
    assert!(node.round(1500, false).is_empty());
    assert_eq!(node.state("a").updated, Some(1500));
    // 28, 35 minutes past the hour.
    assert_eq!(node.rounds(1560, 1740), [1680]);
}

/// J6.
#[test]
fn a_job_never_overlaps_itself() {
    let node = Node::new(EVERY_TEN_MINUTES);
    node.round(605, false);
    node.round(1200, false);
    assert!(node.rounds(1260, 2460).is_empty());
    node.end_task(1200, "WARNINGS: 2");
    assert_eq!(node.round(2520, false), ["a"]);
    assert_eq!(node.state("a").msg, None);
}

/// J7.
#[test]
fn a_job_that_is_switched_on_waits_for_its_next_time() {
    let mut node = Node::new("vzdump: a\n\tschedule *:0/10\n\tall 1\n\tenabled 0\n\n");
    node.round(605, false);
    assert!(node.rounds(660, 4980).is_empty());
    node.jobs = JobsCfg::parse(EVERY_TEN_MINUTES);
    assert!(node.round(5000, false).is_empty());
    assert_eq!(node.state("a").updated, Some(5000));
    assert_eq!(node.rounds(5040, 5400), [5400]);
}

#[test]
fn jobs_of_other_nodes_are_known_and_left_alone() {
    let jobs = "vzdump: b\n\tschedule *\n\tall 1\n\tnode other\n\nvzdump: a\n\tschedule *\n\tall 1\n\tnode lab1\n\n";
    let node = Node::new(jobs);
    node.round(600, false);
    assert_eq!(node.round(660, false), ["a"]);
    assert_eq!(node.state("b").phase, Phase::Created);
}

#[test]
fn jobs_run_in_the_order_of_their_names() {
    let job = |id: &str| format!("vzdump: {id}\n\tschedule *\n\tall 1\n\n");
    let node = Node::new(&[job("b"), job("a"), job("B"), job("a-1")].concat());
    node.round(600, false);
    assert_eq!(node.round(660, false), ["B", "a", "a-1", "b"]);
}

#[test]
fn jobs_without_a_task_are_over_at_once() {
    let job = |id: &str, mode: &str| format!("vzdump: {id}\n\tschedule *\n\tall 1\n\tmode {mode}\n\n");
    let node = Node::new(&[job("bad", "stop"), job("idle", "suspend")].concat());
    node.round(600, false);
    assert_eq!(node.round(660, false), ["bad", "idle"]);
    for (id, msg) in [("bad", "it broke"), ("idle", "OK")] {
        let state = node.state(id);
        assert_eq!(state.phase, Phase::Stopped);
        assert_eq!((state.time, state.msg.as_deref()), (Some(660), Some(msg)));
    }
    assert_eq!(node.round(720, false), ["bad", "idle"]);
}

#[test]
fn a_task_that_nobody_knows_keeps_its_job_waiting() {
    let node = Node::new(EVERY_TEN_MINUTES);
    node.round(605, false);
    node.round(1200, false);
    node.tasks.borrow_mut().clear();
    assert!(node.rounds(1260, 2460).is_empty());
    assert!(node.round(2520, true).is_empty());
    assert_eq!(node.state("a").phase, Phase::Started);
    // Until somebody empties the file: then it counts as changed, and runs at its next time.
    fs::write(node.file("vzdump-a.json"), "").unwrap();
    assert_eq!(node.rounds(2580, 3000), [3000]);
}

#[test]
fn one_bad_file_keeps_no_other_job_from_its_due() {
    let jobs = "vzdump: a\n\tschedule *\n\tall 1\n\nvzdump: b\n\tschedule *\n\tall 1\n\n";
    let node = Node::new(jobs);
    node.round(600, false);
    fs::write(node.file("vzdump-a.json"), "{").unwrap();
    assert_eq!(node.round(660, false), ["b"]);
    let error = node.states().load(JobKind::Vzdump, "a").unwrap_err().to_string();
    let path = node.file("vzdump-a.json");
    assert_eq!(error, format!("invalid json data in '{}'", path.display()));
}

#[test]
fn states_go_with_their_jobs() {
    let mut node = Node::new(EVERY_TEN_MINUTES);
    node.round(605, false);
    fs::write(node.file("realm-sync-gone.json"), "{}").unwrap();
    fs::write(node.file("realm-sync-a.json"), "{}").unwrap();
    fs::write(node.file("other-gone.json"), "{}").unwrap();
    node.round(660, false);
    // By name alone, and of known kinds alone.
    for (name, is_there) in [
        ("vzdump-a.json", true),
        ("realm-sync-a.json", true),
        ("realm-sync-gone.json", false),
        ("other-gone.json", true),
    ] {
        assert_eq!(node.file(name).exists(), is_there, "{name}");
    }
    node.jobs = JobsCfg::default();
    node.round(720, false);
    assert!(!node.file("vzdump-a.json").exists());
    let store = node.states();
    assert!(store.remove(JobKind::Vzdump, "a").is_ok());
    for id in ["", "../a", "a/b", "a\0"] {
        assert_eq!(
            store.load(JobKind::Vzdump, id).unwrap_err().to_string(),
            format!("invalid job id '{id}'")
        );
    }
}

#[test]
fn tasks_are_looked_up_by_their_logs_and_processes() {
    let node = Node::new("");
    let tasks = TaskList::new(&node.context);
    let pid = std::process::id();
    let running = Upid {
        pid,
        pstart: process::start_time(pid).unwrap(),
        ..upid(1200)
    };
    let over = Upid {
        pstart: running.pstart + 1,
        ..running.clone()
    };
    assert_eq!(round::task_end(&tasks, &running), TaskEnd::NoSuchTask);
    for (upid, log) in [(&running, "INFO: x\n"), (&over, "INFO: x\nTASK WARNINGS: 2\n")] {
        let path = tasks.log_path(upid);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, log).unwrap();
    }
    assert_eq!(round::task_end(&tasks, &running), TaskEnd::Running);
    assert_eq!(round::task_end(&tasks, &over), TaskEnd::Ended("WARNINGS: 2".to_owned()));
}

/// Reference 05 §2.3.
#[test]
fn state_files_are_one_line_of_json() {
    for text in [
        r#"{"config":{"enabled":1,"schedule":"mon..fri 21:00"},"state":"created","time":1787193005}"#,
        r#"{"config":{"enabled":1,"schedule":"mon..fri 21:00"},"state":"started","upid":"UPID:lab1:0000A1B2:0012D687:6A8666AD:vzdump::root@pam:"}"#,
        r#"{"config":{"enabled":1,"schedule":"mon..fri 21:00"},"msg":"OK","state":"stopped","upid":"UPID:lab1:0000A1B2:0012D687:6A8666AD:vzdump::root@pam:"}"#,
    ] {
        let state = JobState::parse(text).unwrap();
        let written: serde_json::Value = serde_json::from_str(&state.to_json()).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(text).unwrap());
        assert!(!state.to_json().contains('\n'));
    }
    let numbers = JobState::parse(r#"{"state":"created","time":"12","updated":"13","config":{"enabled":"1"}}"#);
    let numbers = numbers.unwrap();
    assert_eq!(
        (numbers.time, numbers.updated, numbers.last()),
        (Some(12), Some(13), 13)
    );
    assert_eq!(numbers.seen.unwrap().enabled, "1");
    assert_eq!(JobState::parse("\n"), Some(JobState::default()));
    for bad in ["{", "[]", "{\n}", "1", "{} {}", r#"{"state":"odd"}"#] {
        assert_eq!(JobState::parse(bad), None, "{bad}");
    }
}

proptest::proptest! {
    #[test]
    fn any_state_file_is_answered(text in "\\PC{0,80}", key in "state|time|upid|config|updated", value in "\\PC{0,20}") {
        let _ = JobState::parse(&text);
        let _ = JobState::parse(&format!("{{\"{key}\":{value}}}"));
    }
}
