//! `pve-cli startall-delay` as a unit calls it at boot.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

use std::fs;
use std::process::{Command, Stdio};

/// What a call prints, says, and exits with.
fn startall_delay(words: &[&str]) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pve-cli"));
    command.arg("startall-delay").args(words).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

#[test]
fn a_setting_that_does_not_fit_is_said_and_is_no_wait() {
    let root = tempfile::tempdir().unwrap();
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let node = hostname.trim().split('.').next().unwrap();
    let directory = root.path().join("etc/pve/nodes").join(node);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("config"), "startall-onboot-delay: 301\n").unwrap();
    let (told, said, code) = startall_delay(&["--root", root.path().to_str().unwrap()]);
    assert_eq!((told.as_str(), code), ("", 0));
    assert!(
        said.contains(": warning ") && said.contains("'startall-onboot-delay'"),
        "{said}"
    );
}

#[test]
fn help_is_no_failure() {
    let (told, said, code) = startall_delay(&["--help"]);
    assert!(told.contains("pve-cli startall-delay"), "{told}");
    assert_eq!((said.as_str(), code), ("", 0));
    let (_, said, code) = startall_delay(&["--nosuch"]);
    assert!(said.contains("--nosuch"), "{said}");
    assert_eq!(code, 255);
}
