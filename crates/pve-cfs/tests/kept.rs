//! What is kept in memory: as long as nothing changed, and no longer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

mod common;

use std::fs;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::context;
use pve_cfs::{Cfs, CfsError};

/// Asks until the same value comes twice: it is kept from then on.
fn once_kept<T>(ask: impl Fn() -> Result<Arc<T>, CfsError>) -> Arc<T> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut last = ask().unwrap();
    while Instant::now() < deadline {
        let next = ask().unwrap();
        if Arc::ptr_eq(&last, &next) {
            return next;
        }
        last = next;
        std::thread::yield_now();
    }
    panic!("nothing is kept");
}

#[test]
fn a_listed_guest_shows_every_change_of_its_config_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let cfs = Cfs::new(&context(dir.path()));
    cfs.ensure_tree().unwrap();
    cfs.write("qemu-server/100.conf", b"tags: a\nmemory: 512\n").unwrap();
    let guest = cfs.guests().unwrap().remove(0);
    let kept = once_kept(|| cfs.listed_options(&guest));
    assert_eq!(kept["tags"], "a");
    assert_eq!(kept.len(), 1);
    // In place, as an administrator's editor may do it: the directory does not tell.
    let path = cfs.full_path("qemu-server/100.conf").unwrap();
    let mut file = fs::File::options().append(true).open(&path).unwrap();
    file.write_all(b"lock: backup\n").unwrap();
    assert_eq!(cfs.listed_options(&guest).unwrap()["lock"], "backup");
    once_kept(|| cfs.listed_options(&guest));
    cfs.write("qemu-server/100.conf", b"tags: b\nmemory: 512\n").unwrap();
    assert_eq!(cfs.listed_options(&guest).unwrap()["tags"], "b");
    once_kept(|| cfs.listed_options(&guest));
    cfs.remove("qemu-server/100.conf").unwrap();
    assert!(cfs.listed_options(&guest).unwrap().is_empty());
}

#[test]
fn what_was_told_is_read_anew_after_every_telling() {
    let dir = tempfile::tempdir().unwrap();
    let status = Cfs::new(&context(dir.path())).status();
    let told = || {
        status.cached("rrd/", |told| {
            let values = told
                .iter()
                .map(|told| String::from_utf8_lossy(&told.value).into_owned());
            values.collect::<Vec<_>>()
        })
    };
    assert!(told().unwrap().is_empty());
    for round in 0..5 {
        status.set("rrd/a", format!("a{round}").as_bytes()).unwrap();
        status.set("other", b"x").unwrap();
        assert_eq!(*told().unwrap(), [format!("a{round}")]);
        assert_eq!(*once_kept(told), [format!("a{round}")]);
    }
    status.unset("rrd/a").unwrap();
    assert!(told().unwrap().is_empty());
}
