//! Labs with the real daemons: side by side, killed, started again. Needs root, like the labs themselves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long anything may take. Making keys takes a while in a build without optimisation.
const PATIENCE: Duration = Duration::from_secs(120);

/// The program under test, with freshly built daemons beside it.
fn pve_lab() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let path = BUILT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "build",
            "--quiet",
            "-p",
            "pvedaemon",
            "-p",
            "pveproxy",
            "-p",
            "spiceproxy",
            "-p",
            "pvestatd",
            "-p",
            "pvescheduler",
            "-p",
            "qmeventd",
        ]);
        assert!(cargo.status().unwrap().success(), "the daemons are built");
        PathBuf::from(env!("CARGO_BIN_EXE_pve-lab"))
    });
    path.clone()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn alive(pid: u32) -> bool {
    pve_daemon::process::is_alive(pid)
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// A directory for a lab, and the process that serves it.
struct Lab {
    dir: tempfile::TempDir,
    process: Option<Child>,
}

impl Lab {
    fn new() -> Self {
        Self {
            dir: tempfile::Builder::new().prefix("lab").tempdir_in("/tmp").unwrap(),
            process: None,
        }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(pve_lab());
        command
            .args(arguments)
            .arg("--root")
            .arg(self.root())
            .stdin(Stdio::null());
        command.output().unwrap()
    }

    fn start(&mut self, arguments: &[&str]) {
        // A temporary directory is closed to the web user.
        std::fs::set_permissions(self.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let mut command = Command::new(pve_lab());
        command
            .arg("start")
            .args(arguments)
            .arg("--root")
            .arg(self.root())
            .stdin(Stdio::null());
        self.process = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        until("the lab", || {
            assert!(alive(self.pid()), "the lab ended: {}", self.log());
            self.log().contains("ready: https://")
        });
    }

    fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn status(&self) -> Value {
        serde_json::from_slice(&self.run(&["status", "--json"]).stdout).unwrap()
    }

    fn address(&self) -> IpAddr {
        let url = self.status()["url"].as_str().unwrap().to_owned();
        url.trim_start_matches("https://")
            .trim_end_matches(":8006")
            .parse()
            .unwrap()
    }

    fn master(&self, name: &str) -> Option<u32> {
        let file = match name {
            "pveproxy" | "spiceproxy" => format!("run/pveproxy/{name}.pid"),
            name => format!("run/{name}.pid"),
        };
        std::fs::read_to_string(self.root().join(file))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    fn all_answer(&self) -> bool {
        self.status()["daemons"]
            .as_object()
            .unwrap()
            .values()
            .all(|answers| answers == &Value::Bool(true))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of the lab:\n{}", self.log());
        }
        if let Some(process) = &mut self.process {
            let _ = kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), Signal::SIGTERM);
            let _ = process.wait();
        }
    }
}

/// The first line of the answer to a plain HTTP request.
fn ask(address: IpAddr, port: u16, head: &str) -> String {
    let mut stream = TcpStream::connect((address, port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "{head}\r\nHost: lab\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_lab_lives_and_remembers() {
    let mut lab = Lab::new();
    let missing = lab.run(&["status"]);
    assert!(!missing.status.success());
    assert!(String::from_utf8_lossy(&missing.stderr).contains("there is no lab in"));

    // What it gives back when it stops, no other test's lab takes as the first that is free.
    let own = pve_testing::loopback(1);
    lab.start(&["--workers", "1", "--address", &own.to_string()]);
    let first = lab.status();
    assert_eq!(first["running"], true);
    assert_eq!(first["pid"], lab.pid());
    assert!(lab.all_answer());
    let shown = String::from_utf8(lab.run(&["status"]).stdout).unwrap();
    for line in ["pvescheduler answers", "node         "] {
        assert!(shown.lines().any(|shown| shown.starts_with(line)), "{shown}");
    }
    assert!(lab.log().contains("log in as admin@pve, password "), "{}", lab.log());
    let address = lab.address();
    assert_eq!(address, own);
    assert!(
        ask(address, 8006, "GET /").starts_with("HTTP/1.1 301 ")
            || ask(address, 8006, "GET / HTTP/1.1").starts_with("HTTP/1.1 301 ")
    );

    // The web side runs as its user, one worker as told.
    let proxy = lab.master("pveproxy").unwrap();
    let status = std::fs::read_to_string(format!("/proc/{proxy}/status")).unwrap();
    assert!(!status.contains("Uid:\t0\t"), "{status}");
    let workers = std::fs::read_to_string(format!("/proc/{proxy}/task/{proxy}/children")).unwrap();
    assert_eq!(workers.split_whitespace().count(), 1);

    // One root is served once.
    let second = lab.run(&["start"]);
    assert!(!second.status.success());
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        text.contains(&format!("is running already (pid {})", lab.pid())),
        "{text}"
    );

    // Passwords and tickets.
    let password = |lab: &Lab| String::from_utf8(lab.run(&["passwd"]).stdout).unwrap();
    assert_ne!(password(&lab), password(&lab));
    assert!(!lab.run(&["passwd", "nobody@pve"]).status.success());
    assert!(!lab.run(&["passwd", "root@pam"]).status.success());
    let ticket: Value = serde_json::from_slice(&lab.run(&["ticket", "admin@pve"]).stdout).unwrap();
    assert!(ticket["ticket"].as_str().unwrap().starts_with("PVE:admin@pve:"));
    assert!(!lab.run(&["ticket", "nobody@pve"]).status.success());

    // Stopped and started again: the same address and mark, and no new password.
    let stopped = lab.run(&["stop"]);
    assert!(stopped.status.success());
    assert_eq!(lab.process.take().unwrap().wait().unwrap().code(), Some(0));
    assert_eq!(lab.run(&["status"]).status.code(), Some(3));
    for name in ["pvedaemon", "pveproxy", "spiceproxy", "pvescheduler"] {
        assert_eq!(lab.master(name), None, "{name} left its pid file");
    }
    lab.start(&[]);
    let again = lab.status();
    assert_eq!(
        (&again["url"], &again["instance"], &again["node"]),
        (&first["url"], &first["instance"], &first["node"])
    );
    assert!(
        !lab.log().contains("password jc") && !lab.log().contains(", password "),
        "{}",
        lab.log()
    );
}

#[test]
fn two_labs_run_side_by_side_and_a_killed_daemon_comes_back() {
    let (mut one, mut two) = (Lab::new(), Lab::new());
    // Each takes the first address that is free.
    one.start(&["--workers", "1"]);
    two.start(&["--workers", "1", "--node", "other"]);
    assert_ne!(one.address(), two.address());
    assert_ne!(one.status()["instance"], two.status()["instance"]);
    assert_eq!(two.status()["node"], "other");

    let untouched = two.master("pvedaemon").unwrap();
    for name in ["pvedaemon", "pveproxy", "spiceproxy", "pvescheduler"] {
        let victim = one.master(name).unwrap();
        send(victim, Signal::SIGKILL);
        until("another master", || {
            one.master(name).is_some_and(|pid| pid != victim && alive(pid))
        });
        until("an answer", || one.all_answer());
        assert!(
            one.log()
                .contains(&format!("{name} ended (SIGKILL), starting it again")),
            "{}",
            one.log()
        );
    }
    assert_eq!(two.master("pvedaemon"), Some(untouched));

    // Nothing goes on when the lab itself is killed.
    let masters: Vec<u32> = ["pvedaemon", "pveproxy", "spiceproxy", "pvescheduler"]
        .iter()
        .map(|name| one.master(name).unwrap())
        .collect();
    let address = one.address();
    send(one.pid(), Signal::SIGKILL);
    one.process.take().unwrap().wait().unwrap();
    until("the end of the daemons", || masters.iter().all(|pid| !alive(*pid)));
    assert_eq!(one.run(&["status"]).status.code(), Some(3));
    one.start(&[]);
    assert!(one.all_answer());
    assert_eq!(one.address(), address);
}

#[test]
fn what_is_wrong_is_said_before_anything_is_made() {
    let lab = Lab::new();
    let long = lab.dir.path().join("x".repeat(100));
    let run = |root: &Path, more: &[&str]| {
        let mut command = Command::new(pve_lab());
        let output = command
            .arg("start")
            .arg("--root")
            .arg(root)
            .args(more)
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(&long, &[]).contains("is too long a path for a lab"));
    assert!(!long.exists());
    assert!(run(Path::new("/"), &[]).contains("is the machine's own instance"));
    assert!(run(&lab.root(), &["--address", "192.0.2.1"]).contains("192.0.2.1 is no loopback address"));
    let closed = lab.dir.path().join("lab");
    std::fs::set_permissions(lab.dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let text = run(&closed, &["--address", &pve_testing::loopback(2).to_string()]);
    assert!(text.contains("www-data") && text.contains("chmod o+x"), "{text}");
}
