//! One worker: forking it in the master, and its life in the child.

use std::io;
use std::os::fd::{IntoRawFd as _, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork};
use pve_schema::errno_text;

use super::pulse::Stage;
use super::signals;
use crate::counters::slots;
use crate::process;
use crate::service::{BoxError, Listener, Program, Service, Start, WorkerContext};

/// How long a worker that failed stays before it ends: what is broken is tried again every five seconds, not in a loop.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// A worker as the master sees it.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) pid: Pid,
    pub(crate) started: Instant,
    /// Where it says that it is ready; `None` once it did, or never will.
    pub(crate) status: Option<OwnedFd>,
    /// It accepts connections.
    pub(crate) serves: bool,
}

impl Worker {
    /// How far it got, as far as its master was told.
    pub(crate) fn stage(&self) -> Stage {
        match (&self.status, self.serves) {
            (_, true) => Stage::Serving,
            (Some(_), false) => Stage::Starting,
            (None, false) => Stage::Ending,
        }
    }
}

/// Forks a worker. The child closes `masters_own`: what only the master may hold.
pub(crate) fn spawn(
    program: &Program,
    start: &Start,
    service: &Service,
    masters_own: &[RawFd],
) -> Result<Worker, BoxError> {
    // A second thread may hold any lock at the moment of the fork, and the child would wait for it for ever.
    if !process::is_single_threaded() {
        return Err("the master has more than one thread".into());
    }
    let listeners = service
        .listeners
        .iter()
        .map(Listener::try_clone)
        .collect::<io::Result<Vec<_>>>()?;
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let master = nix::unistd::getpid();
    let row = slots::free();
    // SAFETY: the process has one thread (checked above), so the child's memory is in a consistent state.
    #[allow(unsafe_code)]
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            slots::assign(row, child);
            Ok(Worker {
                pid: child,
                started: Instant::now(),
                status: Some(read),
                serves: false,
            })
        }
        ForkResult::Child => {
            slots::enter(row);
            // Nothing may unwind into the master's frames, which this process now has a copy of.
            let code = catch_unwind(AssertUnwindSafe(|| {
                for fd in masters_own.iter().chain([&read.into_raw_fd()]) {
                    // Their owners are values in the master's frames, which this process never returns to.
                    let _ = nix::unistd::close(*fd);
                }
                live(program, start, service, listeners, write, master)
            }));
            std::process::exit(code.unwrap_or(1));
        }
    }
}

/// The life of a worker; the exit code.
fn live(
    program: &Program,
    start: &Start,
    service: &Service,
    listeners: Vec<Listener>,
    status: OwnedFd,
    master: Pid,
) -> i32 {
    let drain = match prepare(program, master) {
        Ok(drain) => drain,
        Err(error) => {
            log::error!("unable to set up worker - {}", errno_text(&error));
            return 1;
        }
    };
    let worker = WorkerContext {
        name: program.name,
        context: start.context.clone(),
        debug: start.debug,
        listeners,
        drain: match drain.try_clone() {
            Ok(copy) => copy,
            Err(error) => {
                log::error!("unable to set up worker - {}", errno_text(&error));
                return 1;
            }
        },
        status,
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| (service.worker)(worker)));
    let failure = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("worker panicked".to_owned()),
    };
    if let Some(text) = failure {
        log::error!("{text}");
        pause(&drain);
    }
    log::info!("worker exit");
    0
}

/// Makes the child a worker: it dies with its master, has its own signals and title, and tells systemd nothing.
fn prepare(program: &Program, master: Pid) -> io::Result<OwnedFd> {
    // After the change of user, which clears it; the master changed before the fork.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if nix::unistd::getppid() != master {
        // The master died before the line above; nobody will tell.
        std::process::exit(1);
    }
    process::remove_variables(["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"]);
    process::set_title(&format!("{} worker", program.name));
    process::memory::keep_small();
    signals::set_up_worker()
}

/// Waits until a failed attempt may be repeated, or the worker is told to end.
fn pause(drain: &OwnedFd) {
    let deadline = Instant::now() + FAILURE_PAUSE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(
            &mut [PollFd::new(std::os::fd::AsFd::as_fd(drain), PollFlags::POLLIN)],
            timeout,
        ) {
            Err(nix::errno::Errno::EINTR) if !left.is_zero() => {}
            _ => return,
        }
    }
}
