//! Cluster locks of a plain directory, between threads and processes.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::context;
use pve_cfs::{Cfs, CfsError, LockId};

const LONG: Duration = Duration::from_secs(30);
/// Set for a process that is to hold the lock until it is killed; names its site.
const HOLD: &str = "PVE_CFS_TEST_HOLD";

#[test]
fn writers_under_a_lock_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cfs = Cfs::new(&context(dir.path()));
    cfs.ensure_tree().unwrap();
    cfs.write("jobs.cfg", b"0").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    cfs.with_lock(&LockId::file("jobs.cfg"), LONG, || {
                        let count: u32 = cfs.read_text("jobs.cfg")?.unwrap().parse().unwrap();
                        cfs.write("jobs.cfg", (count + 1).to_string().as_bytes())
                    })
                    .unwrap();
                }
            });
        }
    });
    assert_eq!(cfs.read_text("jobs.cfg").unwrap().as_deref(), Some("40"));
}

#[test]
fn a_held_lock_times_out_and_errors_of_the_code_come_back_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let cfs = Cfs::new(&context(dir.path()));
    let id = LockId::file("storage.cfg");
    let result: Result<(), CfsError> = cfs.with_lock(&id, LONG, || {
        // The same thread may take it again.
        cfs.with_lock(&id, Duration::ZERO, || Ok::<_, CfsError>(()))?;
        let other = cfs.clone();
        let error = std::thread::spawn(move || {
            let id = LockId::file("storage.cfg");
            other
                .with_lock(&id, Duration::ZERO, || Ok::<_, CfsError>(()))
                .unwrap_err()
                .to_string()
        });
        assert_eq!(
            error.join().unwrap(),
            "cfs-lock 'file-storage_cfg' error: got lock request timeout"
        );
        Err(CfsError::NotMounted)
    });
    assert!(matches!(result, Err(CfsError::NotMounted)));
    cfs.with_lock(&id, Duration::ZERO, || Ok::<_, CfsError>(())).unwrap();
    assert!(
        !dir.path().join("etc/pve/priv/lock/file-storage_cfg").exists(),
        "nothing that looks like upstream's lock is left"
    );
}

#[test]
fn a_killed_holder_frees_its_lock() {
    if let Some(root) = std::env::var_os(HOLD) {
        let cfs = Cfs::new(&context(Path::new(&root)));
        let _lock = cfs.lock(&LockId::storage("local"), LONG).unwrap();
        println!("\nheld");
        std::thread::sleep(LONG * 10);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["a_killed_holder_frees_its_lock", "--exact", "--nocapture"])
        .env(HOLD, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "held"));
    let cfs = Cfs::new(&context(dir.path()));
    let id = LockId::storage("local");
    assert!(cfs.lock(&id, Duration::ZERO).is_err(), "the other process holds it");
    holder.kill().unwrap();
    holder.wait().unwrap();
    cfs.lock(&id, Duration::ZERO).unwrap();
}
