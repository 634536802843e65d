//! The daemons of a lab as children of this process.
//!
//! ```text
//! STARTING ──all answer──▶ RUNNING ──Ctrl-C, TERM──▶ guests end ──▶ daemons end, last started first
//!    │                       ▲ │
//!    │ one dies, or 30 s     │ │ one dies
//!    ▼                       │ ▼
//! error with its last words  started again
//! ```

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use pve_daemon::process::as_service;
use pve_schema::Site;

use crate::error::LabError;
use crate::http;
use crate::output::{self, Tail, say};

/// How long the daemons may take until they answer.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// How long a daemon may take to end: its own limit of 10 s for open connections, and some.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How often readiness and ends are looked at where no signal tells.
const POLL: Duration = Duration::from_millis(50);
/// A daemon that lived shorter than this died at its start.
const QUICK: Duration = Duration::from_secs(5);
/// Pauses before a daemon is started again, by how often in a row it died at its start.
const PAUSES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// A daemon that a lab consists of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Daemon {
    pub(crate) name: &'static str,
    colour: u8,
    door: Door,
}

/// Where a daemon answers.
#[derive(Debug, Clone, Copy)]
enum Door {
    Port(u16),
    Socket(&'static str),
    /// It takes no calls: its pid file and lock tell that it runs.
    PidFile(&'static str),
}

/// The daemons in the order of their start.
pub(crate) const DAEMONS: [Daemon; 6] = [
    Daemon {
        name: "qmeventd",
        colour: 35,
        door: Door::Socket("/run/qmeventd.sock"),
    },
    Daemon {
        name: "pvedaemon",
        colour: 32,
        door: Door::Port(85),
    },
    Daemon {
        name: "pveproxy",
        colour: 36,
        door: Door::Port(8006),
    },
    Daemon {
        name: "spiceproxy",
        colour: 34,
        door: Door::Port(3128),
    },
    Daemon {
        name: "pvestatd",
        colour: 33,
        door: Door::PidFile("/run/pvestatd.pid"),
    },
    Daemon {
        name: "pvescheduler",
        colour: 31,
        door: Door::PidFile("/run/pvescheduler.pid"),
    },
];

impl Daemon {
    /// Why it does not answer, if it does not.
    pub(crate) fn probe(&self, site: &Site) -> Result<(), String> {
        match self.door {
            Door::Port(port) => http::answers(SocketAddr::new(site.address, port)).map_err(|error| error.to_string()),
            Door::Socket(path) => {
                let path = site.path(path);
                UnixStream::connect(&path)
                    .map(drop)
                    .map_err(|error| format!("'{}': {error}", path.display()))
            }
            Door::PidFile(path) => match pve_daemon::running(site, path) {
                Some(_) => Ok(()),
                None => Err(format!("'{}': nobody holds it", site.path(path).display())),
            },
        }
    }
}

/// The lab's processes.
#[derive(Debug)]
pub(crate) struct Supervisor {
    site: Site,
    binaries: PathBuf,
    workers: Option<u8>,
    signals: SignalFd,
    services: Vec<ServiceState>,
}

/// One daemon and its process.
#[derive(Debug)]
struct ServiceState {
    daemon: Daemon,
    child: Option<Child>,
    followers: Vec<JoinHandle<()>>,
    tail: Tail,
    started: Instant,
    quick_deaths: usize,
    start_at: Instant,
}

impl Supervisor {
    /// Starts nothing yet. From now on signals are kept for [`Supervisor::run`].
    pub(crate) fn new(site: Site, workers: Option<u8>) -> Result<Self, LabError> {
        let refused = |what| {
            move |error: nix::errno::Errno| LabError::System {
                what,
                error: error.into(),
            }
        };
        let set = SigSet::from_iter([
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGHUP,
            Signal::SIGCHLD,
        ]);
        // Before the first thread, so that all threads have it.
        set.thread_block().map_err(refused("to block signals"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags).map_err(refused("a descriptor for signals"))?;
        let own = std::env::current_exe().map_err(LabError::file("find", "/proc/self/exe"))?;
        let binaries = own.parent().map(PathBuf::from).unwrap_or_default();
        let now = Instant::now();
        let services = DAEMONS.map(|daemon| ServiceState {
            daemon,
            child: None,
            followers: Vec::new(),
            tail: Tail::default(),
            started: now,
            quick_deaths: 0,
            start_at: now,
        });
        Ok(Self {
            site,
            binaries,
            workers,
            signals,
            services: services.into(),
        })
    }

    /// Starts the daemons one after the other, each once the one before answers. `false` when a signal came first.
    ///
    /// # Errors
    /// When one does not get that far; what runs is to be ended with [`Supervisor::stop`].
    pub(crate) fn start(&mut self) -> Result<bool, LabError> {
        for index in 0..self.services.len() {
            self.launch(index)?;
            if !self.await_ready(index)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Keeps the daemons running until a signal asks for the end.
    pub(crate) fn run(&mut self) {
        loop {
            if self.take_signals() {
                return;
            }
            self.collect_dead();
            let now = Instant::now();
            for index in 0..self.services.len() {
                let due = self
                    .services
                    .get(index)
                    .is_some_and(|state| state.child.is_none() && now >= state.start_at);
                if due && let Err(error) = self.launch(index) {
                    say(&error.to_string());
                    self.postpone(index, Duration::from_secs(5));
                }
            }
            let next = self
                .services
                .iter()
                .filter(|state| state.child.is_none())
                .map(|state| state.start_at)
                .min();
            self.sleep(next.map_or(Duration::from_secs(60), |at| {
                at.saturating_duration_since(Instant::now())
            }));
        }
    }

    /// Ends the daemons, the last started first.
    pub(crate) fn stop(&mut self) {
        for index in (0..self.services.len()).rev() {
            let Some(state) = self.services.get_mut(index) else {
                continue;
            };
            if let Some(child) = state.child.take() {
                end(state.daemon.name, child);
            }
            for follower in state.followers.drain(..) {
                // Their pipes may be held open by a task that goes on; the daemon's own lines have been shown.
                if follower.is_finished() {
                    let _ = follower.join();
                }
            }
        }
    }

    fn launch(&mut self, index: usize) -> Result<(), LabError> {
        let Some(state) = self.services.get_mut(index) else {
            return Ok(());
        };
        let path = self.binaries.join(state.daemon.name);
        if !path.is_file() {
            return Err(LabError::NoDaemon(path));
        }
        let mut command = Command::new(&path);
        command.args(["start", "--foreground", "--root"]).arg(&self.site.root);
        command.arg("--address").arg(self.site.address.to_string());
        command.arg("--node").arg(self.site.node.to_string());
        if let Some(instance) = &self.site.instance {
            command.arg("--instance").arg(instance.as_str());
        }
        if let Some(workers) = self.workers {
            // Counts unless the settings file says otherwise (reference 01 §2.1).
            command.env("MAX_WORKERS", workers.to_string());
        }
        command.env_remove("NOTIFY_SOCKET").current_dir(&self.site.root);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = as_service(&mut command)
            .spawn()
            .map_err(LabError::file("start", &path))?;
        let Daemon { name, colour, .. } = state.daemon;
        state.followers.retain(|follower| !follower.is_finished());
        if let Some(pipe) = child.stdout.take() {
            state.followers.push(output::follow(name, colour, pipe, &state.tail));
        }
        if let Some(pipe) = child.stderr.take() {
            state.followers.push(output::follow(name, colour, pipe, &state.tail));
        }
        state.started = Instant::now();
        state.child = Some(child);
        Ok(())
    }

    /// Waits until a daemon answers. `false` when a signal came first.
    fn await_ready(&mut self, index: usize) -> Result<bool, LabError> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            if self.take_signals() {
                return Ok(false);
            }
            let Some(state) = self.services.get_mut(index) else {
                return Ok(true);
            };
            let died = state.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            let reason = match (died, state.daemon.probe(&self.site)) {
                (Some(status), _) => format!("ended at its start ({})", describe(status)),
                (None, Ok(())) => return Ok(true),
                (None, Err(reason)) if Instant::now() >= deadline => {
                    format!("does not answer after {} s: {reason}", READY_LIMIT.as_secs())
                }
                (None, Err(_)) => {
                    std::thread::sleep(POLL);
                    continue;
                }
            };
            if died.is_some() {
                // Its last words are still on their way through the pipes.
                state.followers.drain(..).for_each(|follower| drop(follower.join()));
            }
            return Err(LabError::NotReady {
                name: state.daemon.name,
                reason,
                lines: state.tail.lines(),
            });
        }
    }

    /// Takes note of daemons that ended, and when they are to be started again.
    fn collect_dead(&mut self) {
        for state in &mut self.services {
            let Some(child) = &mut state.child else { continue };
            let Ok(Some(status)) = child.try_wait() else { continue };
            state.child = None;
            let now = Instant::now();
            let quick = now.saturating_duration_since(state.started) < QUICK;
            state.quick_deaths = if quick { state.quick_deaths + 1 } else { 0 };
            let pause = PAUSES
                .get(state.quick_deaths)
                .or(PAUSES.last())
                .copied()
                .unwrap_or_default();
            state.start_at = now + pause;
            say(&format!(
                "{} ended ({}), starting it again",
                state.daemon.name,
                describe(status)
            ));
        }
    }

    fn postpone(&mut self, index: usize, pause: Duration) {
        if let Some(state) = self.services.get_mut(index) {
            state.start_at = Instant::now() + pause;
        }
    }

    /// Whether one of the signals that came in asks for the end. SIGHUP does, since the terminal is gone.
    pub(crate) fn take_signals(&self) -> bool {
        let mut asked = false;
        while let Ok(Some(info)) = self.signals.read_signal() {
            asked |= i32::try_from(info.ssi_signo).ok() != Some(Signal::SIGCHLD as i32);
        }
        asked
    }

    fn sleep(&self, limit: Duration) {
        // Rounded up, so that what is due is due afterwards.
        let timeout = PollTimeout::try_from(limit + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)], timeout);
    }
}

/// TERM, and KILL after a while.
fn end(name: &str, mut child: Child) {
    let Ok(pid) = i32::try_from(child.id()) else { return };
    // It may have ended by itself.
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    let deadline = Instant::now() + STOP_LIMIT;
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL),
            Ok(None) => {
                say(&format!("{name} does not end, killing it"));
                let _: io::Result<()> = child.kill();
                let _ = child.wait();
                return;
            }
            _ => return,
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => signal.as_str().to_owned(),
            Err(_) => format!("signal {number}"),
        },
        (None, None) => "for an unknown reason".to_owned(),
    }
}
