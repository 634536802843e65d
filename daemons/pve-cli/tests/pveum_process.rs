//! What `pveum` does as a process: how signals end it, and which modes its files get. Needs root, like the tool.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const BINARY: &str = env!("CARGO_BIN_EXE_pve-cli");

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(30);

fn place() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("etc/pve/priv")).unwrap();
    root
}

fn pveum(root: &Path, words: &str) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["pveum", "--root"]).arg(root);
    command.args(words.split_whitespace()).stdin(Stdio::null());
    command
}

/// The same call, whatever signals whoever runs the tests ignores, as `nohup` and jobs in the background do.
fn with_default_signals(call: &Command) -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal").arg(call.get_program());
    command.args(call.get_args()).stdin(Stdio::null());
    command
}

#[test]
fn a_signal_waits_for_the_end_of_a_change() {
    let root = place();
    let file = |name: &str| fs::read_to_string(root.path().join(name)).unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let made = pveum(root.path(), "user add alice@pve --password S3cret!pw");
        assert!({ made }.status().unwrap().success());
        assert!(file("etc/pve/priv/shadow.cfg").contains("alice"));
        // Whoever deletes a user stops between the two files.
        let path = root.path().join("run/lock/pve-cfs/file-priv_shadow_cfg");
        let lock = File::options().create(true).truncate(false).write(true).open(path);
        let lock = Flock::lock(lock.unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        let mut child = with_default_signals(&pveum(root.path(), "user delete alice@pve"))
            .spawn()
            .unwrap();
        let deadline = Instant::now() + LIMIT;
        while !file("etc/pve/user.cfg").contains("user:alice@pve:0:") {
            assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(5));
        }
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        drop(lock);
        let ended = child.wait().unwrap();
        assert_eq!(ended.signal(), Some(signal as i32), "{ended}");
        assert!(!file("etc/pve/user.cfg").contains("alice"), "{signal}");
        assert!(!file("etc/pve/priv/shadow.cfg").contains("alice"), "{signal}");
    }
}

#[test]
fn what_is_ignored_stays_ignored() {
    let root = place();
    let script = r#"trap '' HUP; "$@" & kill -HUP $!; wait $!"#;
    let call = pveum(root.path(), "passwd nobody@pve");
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, "sh"])
        .arg(call.get_program())
        .args(call.get_args());
    let output = shell.stdin(Stdio::null()).output().unwrap();
    assert_eq!(
        (String::from_utf8(output.stderr).unwrap().as_str(), output.status.code()),
        ("no password given\n", Some(255))
    );
}

/// The modes of everything below a directory.
fn modes(root: &Path, below: &Path, into: &mut BTreeMap<String, u32>) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        let info = fs::symlink_metadata(&path).unwrap();
        // Logs of tasks have the process and the time in their names.
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let name = name.split("UPID:").next().unwrap().to_owned();
        into.insert(name, info.permissions().mode());
        if info.is_dir() {
            modes(root, &path, into);
        }
    }
}

#[test]
fn whoever_calls_does_not_decide_which_modes_files_get() {
    let told = ["000", "077"].map(|umask| {
        let root = place();
        for words in [
            "user add alice@pve --password S3cret!pw",
            "user token add alice@pve ci",
            "realm add dir --type ldap --server1 127.0.0.1 --port 1 --base_dn dc=x --user_attr uid",
            "realm sync dir --scope users",
        ] {
            let call = pveum(root.path(), words);
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("umask {umask} && exec \"$@\""), "sh"]);
            let output = shell.arg(call.get_program()).args(call.get_args()).output().unwrap();
            // Nobody listens on that port.
            assert_eq!(output.status.success(), !words.contains("sync"), "{output:?}");
        }
        let mut found = BTreeMap::new();
        modes(root.path(), root.path(), &mut found);
        // Which of them there are is decided by the name of the log, made of the time.
        found.retain(|name, _| !is_index(name));
        assert!(found.keys().any(|name| name.ends_with("token.cfg")), "{found:?}");
        assert!(found.keys().any(|name| name.contains("tasks")), "{found:?}");
        found
    });
    assert_eq!(told[0], told[1]);
}

/// A directory of task logs, one of sixteen.
fn is_index(name: &str) -> bool {
    let mut parts = name.rsplit('/').skip_while(|part| part.is_empty());
    let (last, before) = (parts.next(), parts.next());
    before == Some("tasks") && last.is_some_and(|last| last.len() == 1)
}
