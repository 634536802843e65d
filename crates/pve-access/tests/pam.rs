//! PAM for real: a user of the machine is made, logs in through the helper process, and is removed again.
//!
//! This is a program rather than a set of `#[test]`s because the helper is a re-exec of the caller's own image.

#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};

use pve_access::pam;

const PASSWORD: &str = "S3cret pässwörd!";

/// A user of the machine that is gone when the test is over, however it ends.
struct TemporaryUser(String);

impl TemporaryUser {
    fn make() -> Self {
        let name = format!("pvetest{}", std::process::id());
        let status = Command::new("useradd")
            .args(["--no-create-home", "--shell", "/bin/false", &name])
            .status()
            .unwrap();
        assert!(status.success(), "useradd: {status}");
        let user = Self(name);
        let mut child = Command::new("chpasswd").stdin(Stdio::piped()).spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "{}:{PASSWORD}", user.0).unwrap();
        assert!(child.wait().unwrap().success());
        user
    }
}

impl Drop for TemporaryUser {
    fn drop(&mut self) {
        let _ = Command::new("userdel").arg(&self.0).stderr(Stdio::null()).status();
    }
}

fn run() {
    let user = TemporaryUser::make();
    let check = |name: &str, password: &str| {
        pam::check(name, password, Some("192.0.2.7".parse().unwrap())).map_err(|error| error.to_string())
    };
    assert_eq!(check(&user.0, PASSWORD), Ok(()));
    assert_eq!(check(&user.0, ""), Err("no password".to_owned()));
    let wrong = check(&user.0, "wrong").unwrap_err();
    assert!(wrong.to_lowercase().contains("authentication"), "{wrong}");
    assert!(check("no-such-user-of-this-machine", PASSWORD).is_err());
    assert!(check("a\0b", PASSWORD).is_err());

    // The right password does not help an account whose time is over: acct_mgmt counts.
    let expire = |date: &str| {
        let status = Command::new("usermod")
            .args(["--expiredate", date, &user.0])
            .status()
            .unwrap();
        assert!(status.success());
    };
    expire("1");
    assert!(check(&user.0, PASSWORD).is_err());
    expire("");
    assert_eq!(check(&user.0, PASSWORD), Ok(()));
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|verb| verb == pam::VERB) {
        return pam::helper_main();
    }
    if arguments.iter().any(|argument| argument == "--list") {
        if !arguments.iter().any(|argument| argument == "--ignored") {
            println!("a_real_user_logs_in: test");
        }
        return ExitCode::SUCCESS;
    }
    let is_root = std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .any(|line| line.starts_with("Uid:\t0\t"));
    if !is_root {
        println!("SKIP a_real_user_logs_in: needs root to make a user of the machine");
        return ExitCode::SUCCESS;
    }
    run();
    println!("test a_real_user_logs_in ... ok");
    ExitCode::SUCCESS
}
