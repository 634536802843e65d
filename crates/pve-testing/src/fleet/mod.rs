//! Many machines that cost next to nothing: for each a process that looks like its QEMU, and a real Unix socket behind
//! which its monitor speaks QMP as stock QEMU 10.0 does – one client at a time, commands in the order they come.
//!
//! What they tell follows from their number, so that a test knows every figure. Not here: guests that run something
//! ([`crate::guest`]).

mod monitor;

use std::collections::BTreeMap;
use std::fs;
use std::io::PipeWriter;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::wait_for;

/// How a machine's monitor behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It answers.
    Kind,
    /// It takes the call and says nothing, as a QEMU that was stopped does.
    Silent,
    /// It answers until it is asked for its disks, as a QEMU does whose disk hangs.
    Stuck,
    /// It does not even take the call, as a QEMU whose main loop hangs: two callers wait in its queue, even those that
    /// have gone, and no more are let in. It stays so for good.
    Deaf,
    /// Nobody is behind the socket.
    Dead,
    /// It says something that is no QMP.
    Babbling,
}

/// What a machine's monitor tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Bytes read from its disk.
    pub read: u64,
    /// Bytes written to its disk.
    pub written: u64,
    /// The balloon, in bytes.
    pub balloon: u64,
    /// Memory that the guest sees, in bytes.
    pub memory: u64,
    /// Of that free, in bytes.
    pub free: u64,
}

impl Figures {
    /// The figures of a machine, unless a command changed them.
    pub fn of(vmid: u32) -> Self {
        let number = u64::from(vmid);
        Self {
            read: number * 1_000_000,
            written: number * 2_000_000,
            balloon: 1 << 30,
            memory: 1_000_000_000,
            free: 400_000_000 + number,
        }
    }
}

/// What the monitors share with whoever watches them.
#[derive(Debug, Default)]
struct State {
    manners: BTreeMap<u32, Manner>,
    balloons: BTreeMap<u32, u64>,
    /// Calls taken.
    calls: u64,
}

/// Machines that run until this is dropped.
#[derive(Debug)]
pub struct Fleet {
    directory: PathBuf,
    processes: BTreeMap<u32, Child>,
    state: Arc<Mutex<State>>,
    is_over: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
    /// Closed last, which ends the processes.
    _lifeline: PipeWriter,
}

impl Fleet {
    /// Starts machines whose runtime files are in `directory` (`/run/qemu-server` below the site's root).
    ///
    /// # Panics
    /// When they cannot be started.
    pub fn start(directory: &Path, vmids: impl IntoIterator<Item = u32>) -> Self {
        raise_file_limit();
        let vmids: Vec<u32> = vmids.into_iter().collect();
        let (wait, lifeline) = std::io::pipe().expect("a pipe");
        let start_one = |vmid: &u32| {
            let pid_file = directory.join(format!("{vmid}.pid"));
            let mut command = Command::new("/bin/sh");
            command
                .arg0("qemu-system-fleet")
                .args(["-c", "read x", "sh", "-pidfile"]);
            command
                .arg(&pid_file)
                .stdin(wait.try_clone().expect("the pipe once more"));
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let child = child.expect("a process");
            // It is there before it shows its words.
            let line = format!("/proc/{}/cmdline", child.id());
            wait_for("its words", || {
                fs::read(&line).is_ok_and(|words| words.starts_with(b"qemu-system-fleet"))
            });
            fs::write(&pid_file, format!("{}\n", child.id())).expect("a pid file");
            (*vmid, child)
        };
        let processes = vmids.iter().map(start_one).collect();
        let state = Arc::new(Mutex::new(State::default()));
        let is_over = Arc::new(AtomicBool::new(false));
        let monitors = monitor::Monitors::listen(directory, &vmids, Arc::clone(&state));
        let over = Arc::clone(&is_over);
        let server = thread::Builder::new().name("fleet".to_owned());
        let server = server.spawn(move || monitors.serve(&over)).expect("a thread");
        Self {
            directory: directory.to_owned(),
            processes,
            state,
            is_over,
            server: Some(server),
            _lifeline: lifeline,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how a machine behaves from its next call on.
    ///
    /// # Panics
    /// When its socket cannot be made anew.
    pub fn set(&self, vmid: u32, manner: Manner) {
        self.state().manners.insert(vmid, manner);
        if manner == Manner::Dead {
            // A socket that nobody listens at: bound, and closed at once.
            let path = self.directory.join(format!("{vmid}.qmp"));
            fs::remove_file(&path).expect("there was a socket");
            drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
        }
    }

    /// The process of a machine.
    ///
    /// # Panics
    /// When there is no such machine.
    pub fn pid(&self, vmid: u32) -> u32 {
        self.processes.get(&vmid).expect("a machine").id()
    }

    /// What `balloon` last set, if anybody used it.
    pub fn balloon(&self, vmid: u32) -> Option<u64> {
        self.state().balloons.get(&vmid).copied()
    }

    /// How many calls were taken.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
        for child in self.processes.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A machine needs two descriptors, and each of its clients one.
fn raise_file_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
