//! The master of a daemon: one small thread that owns the sockets, forks workers and never serves.
//!
//! ```text
//!            start                      worker dies
//!  (lock, init, pid file) ──▶ SERVING ──────────────▶ fork another ──┐
//!                               ▲  │ ▲                               │
//!                      init of  │  │ └───────────────────────────────┘
//!                  the new image│  │ HUP: execute own image again (same pid, lock, sockets, children)
//!                               └──┤
//!                                  │ TERM, QUIT, INT: TERM to all workers
//!                                  ▼
//!                               CLOSING ── all gone, or 10 s passed: KILL ──▶ pid file removed, exit 0
//! ```
//!
//! After a reload the workers of the old image go on until the new ones are ready, then get TERM and finish what they
//! serve, however long that takes; they stay children of this process. A worker dies with its master (PDEATHSIG).

mod handover;
mod pidfile;
mod pulse;
mod respawn;
mod signals;
mod start;
mod waiting;
mod worker;

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use pve_schema::{Site, errno_text};

pub(crate) use pidfile::PidFile;
pub(crate) use start::{Mode, check_user, run};

use crate::check::Severity;
use crate::counters::{Family, own, slots};
use crate::notify::Notifier;
use crate::process;
use crate::service::{BoxError, Program, Service, Start};
use pidfile::PidLock;
use pulse::{Pulse, Stage};
use respawn::Respawn;
use signals::Signals;
use waiting::Outlook;
use worker::Worker;

/// How long workers may take to finish at a stop (reference 01 §1.4).
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
/// How long new workers may take to become ready before the old ones are sent away regardless.
const READY_LIMIT: Duration = Duration::from_secs(5);
/// The longest the loop sleeps: nothing depends on it, it bounds the harm of a lost wake-up.
const IDLE: Duration = Duration::from_secs(60);

/// The process of a daemon that runs, by its pid file (an absolute path below `/run`): its lock tells a daemon from a
/// stranger that got the same number later.
pub fn running(site: &Site, pid_file: &str) -> Option<u32> {
    PidFile::new(site, pid_file).held()
}

/// The running master.
struct Master {
    program: &'static Program,
    start: Start,
    service: Service,
    pid_file: PidFile,
    lock: PidLock,
    signals: Signals,
    notifier: Notifier,
    workers: Vec<Worker>,
    /// Workers of the image before, which are to finish.
    old: Vec<Pid>,
    /// When the old workers are told so at the latest; `None` once they were.
    retire_old: Option<Instant>,
    /// systemd was told that the daemon serves.
    announced: bool,
    respawn: Respawn,
    next_watchdog: Instant,
    pulse: Pulse,
    families: Vec<&'static Family>,
    /// What systemd was last told of the workers.
    status: String,
    outlook: Outlook,
}

impl Master {
    fn new(
        program: &'static Program,
        start: Start,
        service: Service,
        pid_file: PidFile,
        lock: PidLock,
        old: Vec<Pid>,
        families: Vec<&'static Family>,
    ) -> Result<Self, BoxError> {
        let now = Instant::now();
        let notifier = Notifier::from_environment();
        Ok(Self {
            pulse: Pulse::new(notifier.watchdog_limit(), now),
            outlook: Outlook::new(program, &start.context, now),
            program,
            start,
            service,
            pid_file,
            lock,
            signals: Signals::new()?,
            notifier,
            workers: Vec::new(),
            retire_old: (!old.is_empty()).then(|| now + READY_LIMIT),
            old,
            announced: false,
            respawn: Respawn::new(),
            next_watchdog: now,
            families,
            status: String::new(),
        })
    }

    /// The loop.
    fn serve(mut self) -> Result<ExitCode, BoxError> {
        process::set_title(self.program.name);
        log::info!("starting {} worker(s)", self.service.workers);
        loop {
            self.spawn_missing();
            self.announce();
            self.end_hung_workers();
            self.feed_watchdog();
            self.wait(self.next_deadline());
            while let Some(signal) = self.signals.next() {
                match signal {
                    Signal::SIGTERM | Signal::SIGQUIT | Signal::SIGINT => return Ok(self.close(signal)),
                    Signal::SIGHUP => self.reload(),
                    // SIGCHLD only wakes the loop.
                    _ => {}
                }
            }
            self.read_status();
            self.reap();
            self.retire_old_workers();
        }
    }

    /// Forks workers until there are as many as there are to be, unless they keep dying.
    fn spawn_missing(&mut self) {
        while self.workers.len() < self.service.workers.max(1) && self.respawn.may_spawn(Instant::now()) {
            match worker::spawn(self.program, &self.start, &self.service, &self.own_descriptors()) {
                Ok(worker) => {
                    own::STARTS.increment(0);
                    log::info!("worker {} started", worker.pid);
                    self.workers.push(worker);
                }
                Err(error) => {
                    log::error!("can't fork worker");
                    log::error!("{error}");
                    self.respawn.fork_failed(Instant::now());
                }
            }
        }
    }

    /// Descriptors that no worker may keep: the lock, the signals, the pipes of other workers, and the sockets, of which
    /// each worker has copies.
    fn own_descriptors(&self) -> Vec<RawFd> {
        let sockets = self.service.listeners.iter().map(|listener| listener.socket.as_fd());
        let statuses = self
            .workers
            .iter()
            .filter_map(|worker| worker.status.as_ref().map(OwnedFd::as_fd));
        let own = [self.signals.as_fd(), self.lock.0.as_fd()];
        own.into_iter()
            .chain(sockets)
            .chain(statuses)
            .map(|fd| fd.as_raw_fd())
            .collect()
    }

    /// Tells systemd once that all workers accept, and how many there are, or what is missing, whenever that changes.
    fn announce(&mut self) {
        self.outlook.look(self.program, &self.start.context, Instant::now());
        let workers = match self.old.len() {
            0 => format!("{} worker(s)", self.workers.len()),
            old => format!("{} worker(s), {old} of before", self.workers.len()),
        };
        let status = self.outlook.status(&workers);
        if !self.announced && self.all_ready() {
            self.announced = true;
            self.notifier.ready(&status);
        } else if self.announced && status != self.status {
            self.notifier.status(&status);
        }
        self.status = status;
    }

    /// Ends workers that show no life any more; they are replaced like any that died. Under `--debug` somebody may be
    /// holding one with a debugger.
    fn end_hung_workers(&mut self) {
        let current = self.workers.iter().map(|worker| (worker.pid, worker.stage()));
        let old = self.old.iter().map(|pid| (*pid, Stage::Ending));
        let workers: Vec<(Pid, Stage)> = current.chain(old).collect();
        for pid in self.pulse.look(Instant::now(), &workers, slots::beats) {
            if !self.start.debug {
                log::error!("worker {pid} hangs, killing it");
                own::HANGS.increment(0);
                signal_all(&[pid], Signal::SIGKILL);
            }
        }
    }

    fn all_ready(&self) -> bool {
        self.workers.len() >= self.service.workers && self.workers.iter().all(|worker| worker.status.is_none())
    }

    fn feed_watchdog(&mut self) {
        if let Some(interval) = self.notifier.watchdog_interval() {
            let now = Instant::now();
            if now >= self.next_watchdog {
                if self.pulse.is_healthy(now) {
                    self.notifier.watchdog();
                }
                self.next_watchdog = now + interval;
            }
        }
    }

    /// When there is something to do although nothing happened.
    fn next_deadline(&self) -> Instant {
        let watchdog = self.notifier.watchdog_interval().map(|_| self.next_watchdog);
        let missing = self.workers.len() < self.service.workers.max(1);
        let respawn = missing.then(|| self.respawn.not_before());
        [watchdog, respawn, self.retire_old, self.outlook.next_look()]
            .into_iter()
            .flatten()
            .fold(self.pulse.next_look(), Instant::min)
    }

    /// Sleeps until a signal, a word from a worker, or the deadline.
    fn wait(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now()).min(IDLE);
        // Rounded up, so that the deadline has passed afterwards.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let statuses = self.workers.iter().filter_map(|worker| worker.status.as_ref());
        fds.extend(statuses.map(|status| PollFd::new(status.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => {
                log::error!("poll failed - {}", errno_text(&errno.into()));
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }

    /// Takes note of workers that say they are ready, or whose end of the pipe is closed.
    fn read_status(&mut self) {
        for worker in &mut self.workers {
            let Some(status) = &worker.status else { continue };
            let mut byte = [0];
            match nix::unistd::read(status, &mut byte) {
                Ok(1) => {
                    worker.status = None;
                    worker.serves = true;
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                // Failed or gone without a word; SIGCHLD follows. Keeping the pipe would make the loop turn.
                _ => worker.status = None,
            }
        }
    }

    /// Collects children that ended.
    fn reap(&mut self) {
        loop {
            let (pid, end) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, 0)) => (pid, End::Finished),
                Ok(WaitStatus::Exited(pid, code)) => (pid, End::Failed(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, End::Killed(signal)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(errno) => return log::error!("waitpid failed - {}", errno_text(&errno.into())),
            };
            self.note_end(pid, end);
        }
    }

    fn note_end(&mut self, pid: Pid, end: End) {
        if let Some(index) = self.workers.iter().position(|worker| worker.pid == pid) {
            let worker = self.workers.swap_remove(index);
            let now = Instant::now();
            self.respawn
                .worker_ended(now, now.saturating_duration_since(worker.started));
        } else if let Some(index) = self.old.iter().position(|old| *old == pid) {
            self.old.swap_remove(index);
        } else {
            return;
        }
        slots::release(pid, &self.families);
        match end {
            End::Finished => own::EXITS.increment(0),
            End::Failed(code) => {
                own::EXITS.increment(1);
                log::warn!("worker {pid} died: exit code {code}");
            }
            End::Killed(signal) => {
                own::EXITS.increment(2);
                log::warn!("worker {pid} died: signal {signal}");
            }
        }
        log::info!("worker {pid} finished");
    }

    /// Tells the workers of the image before to finish, once the new ones are ready.
    fn retire_old_workers(&mut self) {
        if let Some(deadline) = self.retire_old
            && (self.all_ready() || Instant::now() >= deadline)
        {
            self.retire_old = None;
            signal_all(&self.old, Signal::SIGTERM);
        }
    }

    /// Executes the daemon's image again. Comes back only when that is impossible, or when the new image would refuse its
    /// settings; then everything stays as it was.
    fn reload(&mut self) {
        log::info!("received signal HUP");
        self.notifier.reloading();
        if let Some(wrong) = self.wrong_settings() {
            log::error!("unable to reload, going on unchanged - {wrong}");
            self.notifier.ready("reload failed");
            return;
        }
        log::info!("server closing");
        log::info!("server shutdown (restart)");
        let error = handover::execute(process::image(), &self.lock, &self.service.listeners, &self.all_pids());
        log::error!("unable to reload, going on unchanged - {}", errno_text(&error));
        self.notifier.ready("reload failed");
    }

    /// The first thing in the file of settings that would keep the daemon from starting. Certificates do not: they may be
    /// repaired while it runs.
    fn wrong_settings(&self) -> Option<String> {
        let settings = self.start.context.site.path("/etc/default");
        let findings = (self.program.check)(&self.start.context);
        let wrong = findings
            .into_iter()
            .find(|finding| finding.severity == Severity::Error && finding.file.starts_with(&settings))?;
        let line = wrong.line.map(|line| format!(":{line}")).unwrap_or_default();
        Some(format!("{}{line}: {}", wrong.file.display(), wrong.text))
    }

    fn all_pids(&self) -> Vec<Pid> {
        self.workers
            .iter()
            .map(|worker| worker.pid)
            .chain(self.old.iter().copied())
            .collect()
    }

    /// Ends the workers, then the daemon.
    fn close(mut self, signal: Signal) -> ExitCode {
        log::info!("received signal {}", signal.as_str().trim_start_matches("SIG"));
        if signal == Signal::SIGINT {
            self.signals.default_interrupt();
        }
        log::info!("server closing");
        self.notifier.stopping();
        signal_all(&self.all_pids(), Signal::SIGTERM);
        self.await_end(CLOSE_LIMIT);
        if !self.all_pids().is_empty() {
            log::error!("error stopping workers (will kill them now) - timeout");
            for pid in self.all_pids() {
                log::error!("kill worker {pid}");
            }
            signal_all(&self.all_pids(), Signal::SIGKILL);
            // A process in an uninterruptible wait may outlive even this; the daemon does not wait for it.
            self.await_end(Duration::from_secs(2));
        }
        self.pid_file.remove(&self.lock);
        log::info!("server stopped");
        ExitCode::SUCCESS
    }

    /// Collects workers until none is left or the time is over.
    fn await_end(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.reap();
        while !self.all_pids().is_empty() && Instant::now() < deadline {
            self.read_status();
            self.wait(deadline);
            while self.signals.next().is_some() {}
            self.reap();
        }
    }
}

/// How a worker ended.
#[derive(Debug, Clone, Copy)]
enum End {
    Finished,
    Failed(i32),
    Killed(Signal),
}

/// Sends a signal to processes; those that are gone already are none of its business.
fn signal_all(pids: &[Pid], signal: Signal) {
    for pid in pids {
        let _ = kill(*pid, signal);
    }
}
