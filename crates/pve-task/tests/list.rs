//! The list's files, without processes: the tasks here are long gone.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pve_schema::clock::Clock;
use pve_schema::ids::Upid;
use pve_task::list::{Filter, Source};
use pve_task::{Class, TaskList};

#[derive(Debug)]
struct At(i64);

impl Clock for At {
    fn now(&self) -> i64 {
        self.0
    }
}

fn list(root: &Path) -> TaskList {
    let context = pve_testing::context(root, "pve1");
    TaskList::new(&context.with_clock(Arc::new(At(1_700_000_060))))
}

/// A task that started `n` seconds into the test's time, and never had a process.
fn upid(n: u32, worker_type: &str, id: &str, user: &str) -> Upid {
    format!(
        "UPID:pve1:0000BBEF:0012D687:{:08X}:{worker_type}:{id}:{user}:",
        1_700_000_000 + n
    )
    .parse()
    .unwrap()
}

fn log(list: &TaskList, upid: &Upid, text: &str) {
    let path = list.log_path(upid);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn read(root: &Path, name: &str) -> String {
    fs::read_to_string(root.join("var/log/pve/tasks").join(name)).unwrap_or_default()
}

/// Reference 03 §8.7, vectors 66 and 73.
#[test]
fn a_finished_task_goes_into_the_index_once() {
    let dir = tempfile::tempdir().unwrap();
    let list = list(dir.path());
    let done = upid(0, "qmstart", "101", "root@pam");
    assert_eq!(
        list.log_path(&done),
        dir.path().join(format!("var/log/pve/tasks/0/{done}"))
    );
    log(&list, &done, "TASK OK\n");
    list.refresh(Some(&done)).unwrap();
    list.refresh(None).unwrap();
    assert_eq!(read(dir.path(), "index"), format!("{done} 6553F13C OK\n"));
    assert_eq!(read(dir.path(), "active"), format!("{done} 1 6553F13C OK\n"));
    let told = &list.published().unwrap()[0];
    assert_eq!(
        (told.endtime, told.status.as_deref(), told.pid),
        (Some(1_700_000_060), Some("OK"), None)
    );
}

#[test]
fn the_list_keeps_the_newest_twenty_five() {
    let dir = tempfile::tempdir().unwrap();
    let list = list(dir.path());
    for n in 0..30 {
        list.update(Some(&upid(n, "x", "", "root@pam"))).unwrap();
    }
    let entries = list.update(None).unwrap();
    assert_eq!(entries.len(), 25);
    assert_eq!(entries[0].upid.starttime, 1_700_000_029);
    assert_eq!(entries[24].upid.starttime, 1_700_000_005);
    assert_eq!(read(dir.path(), "index").lines().count(), 30);
    assert!(
        read(dir.path(), "index")
            .lines()
            .all(|line| line.ends_with(" unexpected status"))
    );
}

#[test]
fn a_grown_index_is_put_away() {
    let dir = tempfile::tempdir().unwrap();
    let list = list(dir.path());
    let mut n = 0;
    while read(dir.path(), "index.1").is_empty() {
        list.update(Some(&upid(n, "x", "", "root@pam"))).unwrap();
        n += 1;
        assert!(n < 2000, "the index grows without end");
    }
    let away = read(dir.path(), "index.1");
    assert!(away.len() > 50_000 && away.len() < 50_200, "{}", away.len());
    assert_eq!(read(dir.path(), "index"), "");
    list.update(Some(&upid(n, "x", "", "root@pam"))).unwrap();
    assert_eq!(read(dir.path(), "index").lines().count(), 1);
    let found = list
        .query(Source::Archive, &Filter::default(), 0, 2, &|_| true)
        .unwrap();
    assert_eq!(found.total, u64::from(n) + 1);
    let starts: Vec<_> = found.entries.iter().map(|e| e.upid.starttime - 1_700_000_000).collect();
    assert_eq!(starts, [n, n - 1], "newest first, across both files");
}

#[test]
fn an_index_that_cannot_be_written_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let list = list(dir.path());
    let index = dir.path().join("var/log/pve/tasks/index");
    fs::create_dir_all(&index).unwrap();
    let done = upid(0, "x", "", "root@pam");
    assert!(!list.update(Some(&done)).unwrap()[0].saved);
    fs::remove_dir(&index).unwrap();
    assert!(list.update(None).unwrap()[0].saved);
    assert_eq!(read(dir.path(), "index").lines().count(), 1);
}

#[test]
fn bad_lines_and_doubles_of_the_active_file_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let list = list(dir.path());
    let one = upid(1, "x", "", "root@pam");
    let tasks = dir.path().join("var/log/pve/tasks");
    fs::create_dir_all(&tasks).unwrap();
    fs::write(
        tasks.join("active"),
        format!("junk\n{one} 1 6553F13C OK\n{one} 0\n\u{fffd}\n"),
    )
    .unwrap();
    let entries = list.update(None).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].status.as_deref(), Some("OK"));
    assert_eq!(read(dir.path(), "active"), format!("{one} 1 6553F13C OK\n"));
}

#[test]
fn what_is_told_to_other_nodes_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let list = list(dir.path());
    for n in 0..20 {
        let task = upid(n, "x", "", "root@pam");
        log(&list, &task, &format!("TASK ERROR: {n} {}\n", "x".repeat(4000)));
        list.refresh(Some(&task)).unwrap();
    }
    let told = list.published().unwrap();
    assert_eq!(told.len(), 7);
    assert!(
        told[0].status.as_ref().unwrap().starts_with("19 "),
        "the oldest are left out"
    );
}

#[test]
fn tasks_are_found_by_what_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let list = list(dir.path());
    let tasks = [
        (upid(1, "qmstart", "100", "root@pam"), "TASK OK\n"),
        (upid(2, "qmstop", "100", "joe@pve"), "TASK ERROR: no\n"),
        (upid(3, "qmstart", "101", "joe@pve!tok"), "TASK WARNINGS: 1\n"),
        (upid(4, "vzdump", "", "root@pam"), ""),
    ];
    for (task, text) in &tasks {
        log(&list, task, text);
        list.update(Some(task)).unwrap();
    }
    let find = |filter: Filter| {
        let found = list.query(Source::All, &filter, 0, 50, &|_| true).unwrap();
        found
            .entries
            .iter()
            .map(|e| e.upid.starttime - 1_700_000_000)
            .collect::<Vec<_>>()
    };
    let text = |text: &str| Some(text.to_owned());
    for (filter, expected) in [
        (Filter::default(), vec![4, 3, 2, 1]),
        (
            Filter {
                user: text("JOE@"),
                ..Filter::default()
            },
            vec![3, 2],
        ),
        (
            Filter {
                worker_type: text("qmstart"),
                ..Filter::default()
            },
            vec![3, 1],
        ),
        (
            Filter {
                id: text("100"),
                ..Filter::default()
            },
            vec![2, 1],
        ),
        (
            Filter {
                since: Some(1_700_000_003),
                ..Filter::default()
            },
            vec![4, 3],
        ),
        (
            Filter {
                until: Some(1_700_000_001),
                ..Filter::default()
            },
            vec![1],
        ),
        (
            Filter {
                classes: Some(vec![Class::Warning, Class::Error]),
                ..Filter::default()
            },
            vec![3, 2],
        ),
        (
            Filter {
                classes: Some(vec![Class::Unknown]),
                ..Filter::default()
            },
            vec![4],
        ),
    ] {
        assert_eq!(find(filter.clone()), expected, "{filter:?}");
    }
    let page = list
        .query(Source::Archive, &Filter::default(), 1, 1, &|upid| {
            upid.user != "joe@pve"
        })
        .unwrap();
    assert_eq!((page.total, page.entries.len()), (3, 1));
    assert_eq!(page.entries[0].upid.starttime, 1_700_000_003);
    let none = list
        .query(Source::Archive, &Filter::default(), 0, 0, &|_| true)
        .unwrap();
    assert_eq!((none.total, none.entries.len()), (4, 0));
}

#[test]
fn logs_older_than_the_previous_index_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let list = list(dir.path());
    let (old, new) = (upid(0, "x", "", "root@pam"), upid(16, "x", "", "root@pam"));
    log(&list, &old, "TASK OK\n");
    log(&list, &new, "TASK OK\n");
    assert_eq!(
        list.remove_old_logs().unwrap(),
        0,
        "without a previous index everything stays"
    );
    fs::write(
        dir.path().join("var/log/pve/tasks/index.1"),
        format!("{old} 6553F13C OK\n{new} 6553F14C OK\n"),
    )
    .unwrap();
    let file = fs::File::open(list.log_path(&old)).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_059))
        .unwrap();
    assert_eq!(list.remove_old_logs().unwrap(), 1);
    assert!(!list.has_log(&old) && list.has_log(&new));
}
