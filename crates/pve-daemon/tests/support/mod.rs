//! A directory with a `hello` daemon in it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pve_testing::{PATIENCE, wait_for};

/// Whether a process exists and is no zombie.
pub(crate) fn alive(pid: u32) -> bool {
    pve_daemon::process::is_alive(pid)
}

/// What the process list shows.
pub(crate) fn title(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8(line)
        .unwrap()
        .trim_end_matches('\0')
        .replace('\0', " ")
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// A root directory of its own, and the daemon's executable in it, where the web user may execute it.
pub(crate) struct Lab {
    dir: tempfile::TempDir,
    port: u16,
    web_user: bool,
    _held: OwnedFd,
}

impl Lab {
    pub(crate) fn new(settings: &str) -> Self {
        Self::create(settings, false)
    }

    pub(crate) fn for_web_user(settings: &str) -> Self {
        Self::create(settings, true)
    }

    fn create(settings: &str, web_user: bool) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::Builder::new().prefix("pve-daemon-").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let example = std::env::current_exe()
            .unwrap()
            .parent()
            .unwrap()
            .join("../examples/hello");
        // Another process copies: a file that this one has open for writing is inherited by whatever another test starts
        // at that moment, and cannot be executed until that is gone.
        let copied = Command::new("cp").arg(&example).arg(dir.path().join("hello")).status();
        assert!(
            copied.unwrap().success(),
            "examples/hello is built along with the tests"
        );
        let (held, address) = pve_testing::held_port([127, 0, 0, 1]);
        let lab = Self {
            dir,
            port: address.port(),
            web_user,
            _held: held,
        };
        std::fs::create_dir_all(lab.path("etc/default")).unwrap();
        std::fs::write(lab.path("port"), lab.port.to_string()).unwrap();
        lab.settings(settings);
        lab
    }

    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn settings(&self, text: &str) {
        std::fs::write(self.path("etc/default/hello"), text).unwrap();
    }

    /// Where the daemon listens instead of 127.0.0.1.
    pub(crate) fn address(&self, address: &str) {
        std::fs::write(self.path("pve-lab.conf"), format!("PVE_LAB_ADDRESS={address}\n")).unwrap();
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(self.path("hello"));
        command
            .arg(verb)
            .arg("--root")
            .arg(self.dir.path())
            .stdin(Stdio::null());
        command.env_remove("NOTIFY_SOCKET");
        if self.path("notify").exists() {
            command.env("NOTIFY_SOCKET", self.path("notify"));
        }
        if self.web_user {
            command.env("HELLO_AS_WEB_USER", "1");
        }
        let log = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path("log"))
            .unwrap();
        command.stderr(log);
        command
    }

    /// Takes the daemon's port, as somebody else who listens there.
    pub(crate) fn take_port(&self) -> TcpListener {
        TcpListener::bind(("127.0.0.1", self.port)).unwrap()
    }

    /// Runs a verb to its end: what it prints, and its exit code.
    pub(crate) fn verb(&self, verb: &str) -> (String, i32) {
        let output = self.command(verb).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
    }

    /// Starts the daemon without waiting for it.
    pub(crate) fn spawn(&self) -> Daemon {
        let child = self.command("start").stdout(Stdio::null()).spawn().unwrap();
        Daemon(child)
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) fn start(&self) -> Daemon {
        let child = self.spawn();
        wait_for("the first answer", || {
            assert!(alive(child.id()), "the daemon is gone: {}", self.log());
            self.try_ask("pid").is_some()
        });
        child
    }

    /// Waits until there are so many workers, and all of them are that: right after the fork each is its master's image.
    pub(crate) fn wait_for_workers(&self, master: u32, count: usize) {
        wait_for("all workers", || {
            let workers = self.workers(master);
            workers.len() == count && workers.iter().all(|pid| title(*pid) == "hello worker")
        });
    }

    /// The living children of a master.
    pub(crate) fn workers(&self, master: u32) -> BTreeSet<u32> {
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap_or_default();
        children
            .split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .filter(|pid| alive(*pid))
            .collect()
    }

    /// Asks one question; must be answered.
    pub(crate) fn ask(&self, question: &str) -> String {
        self.try_ask(question).expect("an answer")
    }

    pub(crate) fn try_ask(&self, question: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        writeln!(stream, "{question}").ok()?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).ok()?;
        if answer.ends_with('\n') {
            Some(answer.trim_end().to_owned())
        } else {
            None
        }
    }

    /// Opens a connection that stays open, and says which worker serves it.
    pub(crate) fn hold(&self) -> (TcpStream, u32) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"hold\n").unwrap();
        let mut answer = String::new();
        BufReader::new(stream.try_clone().unwrap())
            .read_line(&mut answer)
            .unwrap();
        (stream, answer.trim_end().parse().unwrap())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of the daemon:\n{}", self.log());
        }
    }
}

/// A started daemon; it is killed with the test.
pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits for its end: the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its workers follow. It may have ended before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
