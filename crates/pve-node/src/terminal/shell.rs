//! A program behind a terminal: a shell of the node (reference 09 §19), or what leads to a console of another one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use pve_cfs::Peer;
use pve_schema::ids::AuthId;
use pve_sys::pty::{self, Size};
use pve_task::{Kinds, Task, TaskError, Worker};
use serde::{Deserialize, Serialize};

use super::screen::Display;
use super::session::{Backend, Pass, TerminalError, serve};
use super::{rfb, spice};

/// What a terminal shows before the client says its size.
const SIZE: Size = Size { columns: 80, rows: 20 };
/// The variables that a shell inherits; the rest of a daemon's environment is not its affair.
const INHERITED: [&str; 5] = ["PATH", "USER", "HOME", "LANG", "LANGUAGE"];
/// How long a program may take to go after its terminal has gone.
const GOODBYE: Duration = Duration::from_secs(3);
/// How often that is looked at.
const POLL: Duration = Duration::from_millis(20);

/// How long a program may leave its terminal alone before that is the end.
const REOPEN: Duration = Duration::from_secs(5);

/// What the shell is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Errand {
    /// To work in it.
    Login,
    /// To upgrade the packages.
    Upgrade,
    /// To install Ceph.
    CephInstall,
}

impl std::str::FromStr for Errand {
    type Err = TerminalError;

    fn from_str(word: &str) -> Result<Self, TerminalError> {
        match word {
            "login" => Ok(Self::Login),
            "upgrade" => Ok(Self::Upgrade),
            "ceph_install" => Ok(Self::CephInstall),
            _ => Err(TerminalError::Backend(format!("unknown command '{word}'"))),
        }
    }
}

/// Where a shell runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On this node.
    Here,
    /// On another one, reached by ssh, as root with the cluster's keys.
    There(Peer),
}

/// The command line for a caller: only `root@pam` itself, not one of its tokens, gets in without a password and may run
/// anything but a log-in. `options` are separated by NUL, and only for Ceph (reference 09 §19.1).
pub fn command_line(place: &Place, caller: &AuthId, errand: Errand, options: &str) -> Vec<String> {
    let mut line = place.prefix();
    let mut add = |words: &[&str]| line.extend(words.iter().map(|word| (*word).to_owned()));
    match (errand, place) {
        _ if !caller.is_root() => add(&["/bin/login"]),
        // Root's log-in by ssh is a shell already.
        (Errand::Login, Place::There(_)) => {}
        (Errand::Login, Place::Here) => add(&["/bin/login", "-f", "root"]),
        (Errand::Upgrade, _) => add(&["/usr/bin/pveupgrade", "--shell"]),
        (Errand::CephInstall, _) => {
            add(&["/usr/bin/pveceph", "install"]);
            line.extend(options.split('\0').filter(|word| !word.is_empty()).map(str::to_owned));
        }
    }
    line
}

impl Place {
    /// The words before a command that runs there.
    fn prefix(&self) -> Vec<String> {
        match self {
            Self::Here => Vec::new(),
            Self::There(peer) => peer.with_terminal(),
        }
    }
}

/// `vncshell`: serves a terminal with a shell of the node to one client.
#[derive(Debug, Serialize, Deserialize)]
pub struct Shell {
    /// Who may come.
    pub pass: Pass,
    /// What runs.
    pub command: Vec<String>,
}

/// `vncshell`, too: the same as a VNC display.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShellScreen {
    /// Who may look, and how.
    pub display: Display,
    /// What runs.
    pub command: Vec<String>,
}

/// `spiceshell`: the same as a SPICE display.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShellSpice {
    /// Who may look, and how.
    pub display: Display,
    /// The layout of the user's keyboard.
    pub layout: Option<String>,
    /// What runs.
    pub command: Vec<String>,
}

/// Adds the kinds of this module.
pub fn register_tasks(kinds: &mut Kinds) {
    kinds
        .register::<Shell>()
        .register::<ShellScreen>()
        .register::<ShellSpice>();
}

impl Task for Shell {
    const KIND: &'static str = "node-shell";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        log::info!("starting termproxy {}", worker.upid);
        log::info!("launch command: {}", self.command.join(" "));
        let context = worker.context.clone();
        let open = || Program::start(&self.command, SIZE);
        Ok(serve(&context, &self.pass, worker, open)?)
    }
}

impl Task for ShellScreen {
    const KIND: &'static str = "node-shell-screen";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        log::info!("launch command: {}", self.command.join(" "));
        let open = || Program::start(&self.command, self.display.size());
        rfb::run_task(worker, &self.display, open);
        Ok(())
    }
}

impl Task for ShellSpice {
    const KIND: &'static str = "node-shell-spice";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        log::info!("launch command: {}", self.command.join(" "));
        let open = || Program::start(&self.command, self.display.size());
        spice::run_task(worker, &self.display, self.layout.as_deref(), open);
        Ok(())
    }
}

/// A program on a terminal of its own. It is told to go when its client has gone.
#[derive(Debug)]
pub struct Program {
    terminal: File,
    child: Child,
    /// Since when nobody has had the other side of the terminal.
    hung_up: Option<Instant>,
}

impl Program {
    /// Starts one.
    ///
    /// # Errors
    /// [`TerminalError::Backend`]: there is no such program, for one.
    pub fn start(command: &[String], size: Size) -> Result<Self, TerminalError> {
        let failed = |error: io::Error| TerminalError::Backend(format!("{}: {error}", command.join(" ")));
        let (name, arguments) = command
            .split_first()
            .ok_or_else(|| TerminalError::Backend("no command".to_owned()))?;
        let mut program = Command::new(name);
        program
            .args(arguments)
            .current_dir("/")
            .env_clear()
            .env("TERM", "xterm-256color");
        let is_inherited = |name: &str| INHERITED.contains(&name) || name.starts_with("LC_");
        program.envs(std::env::vars().filter(|(name, _)| is_inherited(name)));
        let (terminal, child) = pty::spawn(program, size).map_err(failed)?;
        let flags = fcntl(&terminal, FcntlArg::F_GETFL).map_err(|errno| failed(errno.into()))?;
        let flags = OFlag::from_bits_truncate(flags) | OFlag::O_NONBLOCK;
        fcntl(&terminal, FcntlArg::F_SETFL(flags)).map_err(|errno| failed(errno.into()))?;
        Ok(Self {
            terminal,
            child,
            hung_up: None,
        })
    }
}

impl Read for Program {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.terminal.read(buffer);
        // What Linux says when no program has the terminal. That need not be the end: `login` of util-linux hangs its
        // terminal up and opens it again.
        if !read
            .as_ref()
            .is_err_and(|error| error.raw_os_error() == Some(Errno::EIO as i32))
        {
            self.hung_up = None;
            return read;
        }
        let since = *self.hung_up.get_or_insert_with(Instant::now);
        if since.elapsed() < REOPEN && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(POLL);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        read
    }
}

impl Write for Program {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.terminal.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }
}

impl Backend for Program {
    fn resize(&mut self, size: Size) {
        if let Err(error) = pty::resize(&self.terminal, size) {
            log::warn!("unable to resize a terminal - {error}");
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The program leads a session, so its pid names the group, too.
        let Ok(group) = i32::try_from(self.child.id()) else {
            return;
        };
        let deadline = Instant::now() + GOODBYE;
        let _ = killpg(Pid::from_raw(group), Signal::SIGHUP);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads until a condition holds; what was read.
    fn read_until(program: &mut Program, holds: impl Fn(&Program, &str) -> bool) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        let (mut text, mut buffer) = (String::new(), [0; 1024]);
        while !holds(program, &text) {
            assert!(Instant::now() < deadline, "{text}");
            match program.read(&mut buffer) {
                Ok(read) => text.push_str(&String::from_utf8_lossy(&buffer[..read])),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{text}"),
            }
        }
        text
    }

    #[test]
    fn a_program_may_hang_its_terminal_up_and_open_it_again() {
        let directory = tempfile::tempdir().unwrap();
        let gate = directory.path().join("gate");
        let script =
            "t=$(tty); exec <&- >&- 2>&-; until test -e \"$0\"; do :; done; exec <$t >$t 2>&1; echo back; read x";
        let command = ["sh", "-c", script, gate.to_str().unwrap()].map(str::to_owned);
        let mut program = Program::start(&command, SIZE).unwrap();
        read_until(&mut program, |program, _| program.hung_up.is_some());
        std::fs::write(&gate, "").unwrap();
        read_until(&mut program, |program, text| {
            text.contains("back") && program.hung_up.is_none()
        });
        // Its own end is one at once.
        program.write_all(b"\n").unwrap();
        let asked = Instant::now();
        let mut rest = Vec::new();
        while !matches!(
            program.read(&mut [0; 1024]).map_err(|error| error.raw_os_error()),
            Err(Some(_))
        ) {
            assert!(asked.elapsed() < REOPEN, "{rest:?}");
            rest.push(0);
        }
    }

    /// Reference 09, vector 79.
    #[test]
    fn only_root_itself_gets_in_without_a_password() {
        for (caller, errand, options, expected) in [
            ("root@pam", Errand::Login, "", "/bin/login -f root"),
            ("root@pam!ci", Errand::Login, "", "/bin/login"),
            ("alice@pve", Errand::Upgrade, "", "/bin/login"),
            ("root@pam", Errand::Upgrade, "", "/usr/bin/pveupgrade --shell"),
            (
                "root@pam",
                Errand::CephInstall,
                "--version\0squid",
                "/usr/bin/pveceph install --version squid",
            ),
        ] {
            let line = command_line(&Place::Here, &caller.parse().unwrap(), errand, options);
            assert_eq!(line.join(" "), expected, "{caller}");
        }
    }

    #[test]
    fn other_nodes_are_reached_by_ssh() {
        let ssh = "/usr/bin/ssh -e none -o BatchMode=yes -o HostKeyAlias=n2";
        let files = "-o UserKnownHostsFile=/etc/pve/nodes/n2/ssh_known_hosts -o GlobalKnownHostsFile=none";
        for (caller, errand, has_keys, expected) in [
            ("root@pam", Errand::Login, false, format!("{ssh} -t root@192.0.2.2 --")),
            (
                "root@pam",
                Errand::Login,
                true,
                format!("{ssh} {files} -t root@192.0.2.2 --"),
            ),
            (
                "alice@pve",
                Errand::Login,
                false,
                format!("{ssh} -t root@192.0.2.2 -- /bin/login"),
            ),
            (
                "root@pam",
                Errand::Upgrade,
                false,
                format!("{ssh} -t root@192.0.2.2 -- /usr/bin/pveupgrade --shell"),
            ),
        ] {
            let place = Place::There(Peer {
                node: "n2".parse().unwrap(),
                address: [192, 0, 2, 2].into(),
                known_hosts: has_keys.then(|| "/etc/pve/nodes/n2/ssh_known_hosts".into()),
            });
            let line = command_line(&place, &caller.parse().unwrap(), errand, "");
            assert_eq!(line.join(" "), expected, "{caller}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = Program::start(&["/no/such".to_owned()], SIZE).unwrap_err().to_string();
        assert_eq!(
            error,
            "unable to open the terminal - /no/such: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_program_goes_with_its_client() {
        let command = ["sh", "-c", "trap '' HUP; exec sleep 600"].map(str::to_owned);
        let program = Program::start(&command, SIZE).unwrap();
        let pid = Pid::from_raw(i32::try_from(program.child.id()).unwrap());
        drop(program);
        assert!(killpg(pid, None).is_err(), "something of the session is left");
    }
}
