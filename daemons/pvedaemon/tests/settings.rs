//! `/etc/default/pvedaemon`: the daemon in a directory of its own. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A root directory with these settings.
fn root(settings: &str) -> tempfile::TempDir {
    let root = tempfile::Builder::new().prefix("pvedaemon-").tempdir().unwrap();
    for dir in ["etc/default", "etc/pve", "run/lock"] {
        fs::create_dir_all(root.path().join(dir)).unwrap();
    }
    fs::write(root.path().join("etc/default/pvedaemon"), settings).unwrap();
    root
}

fn command(root: &Path, verb: &str) -> Command {
    // An address that no lab and no other run of this test has.
    let id = std::process::id();
    let address = format!("127.85.{}.{}", id / 250 % 250, id % 250 + 1);
    let mut command = Command::new(env!("CARGO_BIN_EXE_pvedaemon"));
    command
        .args([verb, "--node", "node1", "--address", &address, "--root"])
        .arg(root);
    command.stdin(Stdio::null());
    command
}

/// A started daemon; it is killed with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(root: &Path) -> Daemon {
    let log = fs::File::create(root.join("log")).unwrap();
    Daemon(
        command(root, "start")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap(),
    )
}

#[test]
fn workers_are_as_many_as_set_and_bad_values_stop_the_start() {
    for (value, expected) in [
        ("MAX_WORKERS=1", 1),
        ("MAX_WORKERS=127", 127),
        ("MAX_WORKERS=0", 3),
        ("", 3),
    ] {
        let root = root(value);
        let daemon = start(root.path());
        let pid = daemon.0.id();
        let workers = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let deadline = Instant::now() + PATIENCE;
        while workers().split_whitespace().count() != expected {
            assert!(
                Instant::now() < deadline,
                "{value}: {:?}",
                fs::read_to_string(root.path().join("log"))
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let root = root("POLICY=Deny\n");
    assert_eq!(start(root.path()).0.wait().unwrap().code(), Some(255));
    let log = fs::read_to_string(root.path().join("log")).unwrap();
    assert!(log.contains("start failed - unknown policy 'Deny'\n"), "{log}");
}

#[test]
fn a_check_names_the_line() {
    for (settings, expected, code) in [
        ("MAX_WORKERS=4\nACCEL=tcg\n", "pvedaemon: 0 error(s), 0 warning(s)\n", 0),
        (
            "MAX_WORKERS=4\nACCEL=xen\n",
            ":2: error: ACCEL: unknown accelerator 'xen' - use auto, kvm or tcg\n",
            1,
        ),
    ] {
        let root = root(settings);
        let output = command(root.path(), "check").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(expected), "{text}");
        assert_eq!(output.status.code(), Some(code), "{text}");
    }
}
