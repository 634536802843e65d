//! What a failed write leaves behind.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use pve_jobs::{JobKind, JobState, StateStore};

#[test]
fn a_failed_write_leaves_the_old_state() {
    let scenario = fail::FailScenario::setup();
    let (dir, context) = common::site();
    let store = StateStore::new(&context);
    let write = |time: i64| {
        let state = JobState {
            time: Some(time),
            ..JobState::default()
        };
        store.change(JobKind::Vzdump, "a", |_| (Some(state), ()))
    };
    write(1).unwrap();
    fail::cfg("jobs::state", "return").unwrap();
    let error = write(2).unwrap_err().to_string();
    assert!(error.ends_with("vzdump-a.json' - No space left on device"), "{error}");
    fail::remove("jobs::state");
    assert_eq!(store.load(JobKind::Vzdump, "a").unwrap().unwrap().time, Some(1));
    let files = fs::read_dir(dir.path().join("var/lib/pve-manager/jobs")).unwrap();
    assert_eq!(files.count(), 1);
    scenario.teardown();
}
