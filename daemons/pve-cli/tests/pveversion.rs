//! `pveversion` as an administrator calls it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a `dpkg-query` hangs, and how long nobody waits for it.
const HANGS: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_dpkg_that_hangs_keeps_nobody_waiting() {
    let place = tempfile::tempdir().unwrap();
    let query = place.path().join("dpkg-query");
    fs::write(&query, format!("#!/bin/sh\nexec sleep {}\n", HANGS.as_secs())).unwrap();
    fs::set_permissions(&query, fs::Permissions::from_mode(0o755)).unwrap();
    let before = std::env::var("PATH").unwrap_or_default();
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_pve-cli"))
        .args(["pveversion", "--verbose"])
        .env("PATH", format!("{}:{before}", place.path().display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (told, said) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success() && told.contains("\npve-manager: "), "{told}");
    assert!(said.contains("dpkg-query"), "{said}");
}
