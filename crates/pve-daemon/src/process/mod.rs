//! Facts about processes, and what a process does to itself: titles, sessions, inheritance of descriptors, memory.
//!
//! Signals and forks of a daemon are in [`crate::master`]; tasks are in `pve-task`.

mod handle;
pub(crate) mod memory;
mod title;

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::OnceLock;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

pub use handle::Handle;
pub use memory::give_back_memory;
pub use title::{reserve_title, set_title};

/// `PATH` of every daemon and of what it starts (reference 01 §1.1).
pub const SEARCH_PATH: &str = "/sbin:/bin:/usr/sbin:/usr/bin";

/// Variables that could change what a shell does, and that no daemon hands on (reference 01 §1.1).
const SHELL_VARIABLES: [&str; 4] = ["IFS", "CDPATH", "ENV", "BASH_ENV"];

/// What the process was started as, kept before [`set_title`] writes over it.
#[derive(Debug, Clone)]
pub struct Image {
    /// Absolute path of the executable as it was at the start: an upgrade puts the new one at the same path.
    pub path: PathBuf,
    /// The arguments, with the program's name first.
    pub arguments: Vec<OsString>,
}

/// The image this process was started from. The first call must come before the first [`set_title`].
pub fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        let named = arguments.first().map(PathBuf::from).unwrap_or_default();
        let path = std::env::current_exe().unwrap_or(named);
        // What the kernel says once the file is gone; another one may come to the same path.
        let path = match path.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
            Some(text) => PathBuf::from(text),
            None => path,
        };
        Image { path, arguments }
    })
}

/// Sets the environment that every daemon runs in: a fixed `PATH`, nothing that steers a shell.
///
/// Does nothing once the process has a second thread: the environment is read without a lock.
pub fn tidy_environment() {
    if !is_single_threaded() {
        return;
    }
    // SAFETY: there is no other thread that could read the environment meanwhile (checked above).
    #[allow(unsafe_code)]
    unsafe {
        std::env::set_var("PATH", SEARCH_PATH);
        for name in SHELL_VARIABLES {
            std::env::remove_var(name);
        }
    }
}

/// Removes variables from the environment; `false` (and nothing done) once the process has a second thread.
pub(crate) fn remove_variables<'a>(names: impl IntoIterator<Item = &'a str>) -> bool {
    if !is_single_threaded() {
        return false;
    }
    for name in names {
        // SAFETY: there is no other thread that could read the environment meanwhile (checked above).
        #[allow(unsafe_code)]
        unsafe {
            std::env::remove_var(name);
        }
    }
    true
}

/// When a process started, in clock ticks since boot: field 22 of `/proc/PID/stat`. Together with the pid it names a
/// process for ever, which is why task ids carry it (reference 03 §5). `None` when there is no such process.
pub fn start_time(pid: u32) -> Option<u64> {
    stat_field(pid, 22)?.parse().ok()
}

/// Whether a process exists and is not a zombie.
pub fn is_alive(pid: u32) -> bool {
    stat_field(pid, 3).is_some_and(|state| !matches!(state.as_str(), "Z" | "X" | "x"))
}

/// Whom a process acts as. Not the owner of its directory: that is root's for all that gave root up.
pub(crate) fn user(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// A field of `/proc/PID/stat`, counted from 1 as proc(5) does; only fields after the command's name.
fn stat_field(pid: u32, field: usize) -> Option<String> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name in field 2 may hold blanks and parentheses, so count from its last one.
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = String::from_utf8_lossy(stat.get(end + 1..)?).into_owned();
    rest.split_ascii_whitespace()
        .nth(field.checked_sub(3)?)
        .map(str::to_owned)
}

/// Whether the process has one thread, so that it may fork without exec and change its environment.
pub fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// Makes the process the leader of a new session, out of reach of the terminal it was started from. Fine when it is one
/// already.
///
/// # Errors
/// When the process leads a process group and so cannot leave its session.
pub fn become_session_leader() -> io::Result<()> {
    let own = nix::unistd::getpid();
    if nix::unistd::getsid(None).is_ok_and(|session| session == own) {
        return Ok(());
    }
    nix::unistd::setsid().map(drop).map_err(io::Error::from)
}

/// Lets the process have this many open files, or as many as its hard limit allows.
pub fn allow_open_files(count: u64) {
    let resource = nix::sys::resource::Resource::RLIMIT_NOFILE;
    let raised = nix::sys::resource::getrlimit(resource).and_then(|(soft, hard)| {
        let wanted = count.min(hard);
        if wanted <= soft {
            return Ok(());
        }
        nix::sys::resource::setrlimit(resource, wanted, hard)
    });
    if let Err(error) = raised {
        log::warn!("unable to raise the limit of open files - {error}");
    }
}

/// Whether a descriptor is closed when the process executes another image.
///
/// # Errors
/// When the descriptor is not open.
pub fn set_close_on_exec(fd: impl AsFd, close: bool) -> io::Result<()> {
    let flags = if close { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
    fcntl(fd, FcntlArg::F_SETFD(flags)).map(drop).map_err(io::Error::from)
}

/// Gives the signals that daemons handle their default action and clears the signal mask. Both survive fork, the mask
/// and ignored signals exec too, and nothing that a daemon starts expects them.
///
/// # Errors
/// None that can occur with these arguments.
pub fn reset_signals() -> io::Result<()> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    for one in [
        Signal::SIGTERM,
        Signal::SIGQUIT,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGCHLD,
    ] {
        // SAFETY: the default action runs no code of ours.
        #[allow(unsafe_code)]
        unsafe {
            signal(one, SigHandler::SigDfl).map_err(io::Error::from)?;
        }
    }
    reset_mask()
}

/// Makes a command's process a service of this one: a process group of its own (^C at the terminal is not for it), no
/// blocked signals, and SIGTERM when the thread that starts it ends, however it ends. Start it from the main thread.
pub fn as_service(command: &mut std::process::Command) -> &mut std::process::Command {
    use std::os::unix::process::CommandExt as _;
    let parent = nix::unistd::getpid();
    command.process_group(0);
    // SAFETY: between fork and exec only signals and the parent's pid are asked about and set, all of which is
    // async-signal-safe; nothing is allocated.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(move || {
            reset_signals()?;
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?;
            if nix::unistd::getppid() == parent {
                Ok(())
            } else {
                // The parent ended before the line above; nobody would tell.
                Err(io::Error::from_raw_os_error(libc::ESRCH))
            }
        })
    }
}

/// Blocks no signal any more.
pub(crate) fn reset_mask() -> io::Result<()> {
    use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_process_has_a_start_time() {
        let own = std::process::id();
        assert!(is_alive(own));
        assert!(start_time(own).is_some_and(|ticks| ticks > 0));
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while is_alive(child.id()) {
            assert!(std::time::Instant::now() < deadline, "still alive");
            std::thread::yield_now();
        }
        assert!(start_time(child.id()).is_some(), "a zombie keeps its entry");
        child.wait().unwrap();
        assert_eq!(start_time(child.id()), None);
    }
}
