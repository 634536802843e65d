//! A daemon's start, up to its loop: privileges, lock, what it waits for, pid file, background.

use std::process::ExitCode;

use nix::unistd::{ForkResult, Pid, fork};
use pve_schema::{Context, Site, errno_text};

use super::{Master, PidFile, handover, waiting};
use crate::counters::{self, Family, own, slots};
use crate::privileges;
use crate::process;
use crate::service::{BoxError, Program, RunAs, Service, Start};

/// How a start is to be done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mode {
    /// Stay where we were started, with the terminal's signals.
    pub(crate) foreground: bool,
    /// Become a background process whose parent goes.
    pub(crate) daemonise: bool,
    /// `--debug`.
    pub(crate) debug: bool,
}

/// Starts the daemon, or goes on after a reload, and returns when it has ended.
///
/// # Errors
/// Whatever keeps it from starting; `start failed - ` is still to be put before it.
pub(crate) fn run(program: &'static Program, site: Site, mode: Mode) -> Result<ExitCode, BoxError> {
    // Who starts a daemon by hand must not decide which modes its files get.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let handover = handover::take()?;
    let fresh = handover.is_none();
    if fresh {
        check_user(program.run_as, &site)?;
        std::fs::create_dir_all(site.path("/run")).map_err(|error| errno_text(&error))?;
        (program.prepare)(&site)?;
    }
    if program.run_as == RunAs::WebUser {
        privileges::drop_to(site.web_user)?;
    }
    let pid_file = PidFile::new(&site, program.pid_file);
    let (lock, inherited, old) = match handover {
        Some(left) => (left.lock, left.sockets, left.workers),
        None => (pid_file.acquire()?, Default::default(), Vec::new()),
    };
    let start = Start {
        context: Context::new(site),
        debug: mode.debug,
        inherited: inherited.into(),
    };
    if fresh {
        waiting::until_there(program, &start.context);
    }
    let service = match (program.init)(&start) {
        Ok(service) => service,
        Err(error) => {
            pid_file.remove(&lock);
            return Err(error);
        }
    };
    // What the new settings have no use for.
    start.inherited.borrow_mut().clear();
    if fresh {
        if mode.daemonise && !go_to_background()? {
            return Ok(ExitCode::SUCCESS);
        }
        pid_file.write()?;
    }
    log::info!("{}", if fresh { "starting server" } else { "restarting server" });
    if !mode.foreground {
        process::become_session_leader().map_err(|error| errno_text(&error))?;
    }
    let families = count(program, &start.context, &service, &old, fresh);
    Master::new(program, start, service, pid_file, lock, old, families)?.serve()
}

/// Who may start a daemon, and look what it would start with: root, and a daemon of the web side also the web user itself,
/// as a unit with `User=` does.
///
/// # Errors
/// Anybody else.
pub(crate) fn check_user(run_as: RunAs, site: &Site) -> Result<(), BoxError> {
    let user = nix::unistd::geteuid();
    if user.is_root() || run_as == RunAs::WebUser && user.as_raw() == site.web_user.uid {
        Ok(())
    } else {
        Err("please run as root".into())
    }
}

/// Forks; `true` in the child, which goes on without the terminal.
fn go_to_background() -> Result<bool, BoxError> {
    if !process::is_single_threaded() {
        return Err("the master has more than one thread".into());
    }
    // SAFETY: the process has one thread (checked above).
    #[allow(unsafe_code)]
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => Ok(false),
        ForkResult::Child => {
            let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
            nix::unistd::dup2_stdin(&null)?;
            nix::unistd::dup2_stdout(&null)?;
            nix::unistd::dup2_stderr(&null)?;
            nix::unistd::chdir("/")?;
            Ok(true)
        }
    }
}

/// Makes the counters ready, for this process and the workers. Without their file they count all the same, and nobody
/// sees it.
fn count(program: &Program, context: &Context, service: &Service, old: &[Pid], fresh: bool) -> Vec<&'static Family> {
    let families: Vec<&'static Family> = own::ALL
        .iter()
        .chain(program.counters.iter().copied().flatten())
        .copied()
        .collect();
    let site = &context.site;
    let path = counters::path(site, program.pid_file);
    let identity = (program.version, program.run_as);
    if let Err(error) = counters::master_opens(&path, site, identity, &families, fresh) {
        log::warn!(
            "no metrics: unable to use '{}' - {}",
            path.display(),
            errno_text(&error)
        );
    }
    if fresh {
        own::STARTED.set(0, u64::try_from(context.now()).unwrap_or_default());
    } else {
        own::RELOADS.increment(0);
        slots::keep_only(old, &families);
    }
    own::WANTED.set(0, service.workers as u64);
    families
}
