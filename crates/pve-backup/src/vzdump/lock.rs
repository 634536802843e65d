//! One backup at a time on a node (reference 05 §7.2).
//!
//! The lock is a `flock`, which ends with its process, however that ends. Beside it lies the UPID of the run, so that
//! another one can stop it. Messages name the lock by its old path, `/var/run/vzdump.lock`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use pve_qemu::hold::RUN_LOCK;
use pve_schema::clock::deadline;
use pve_schema::ids::Upid;
use pve_schema::{Context, errno_text};
use pve_task::process;

use super::VzdumpError;

/// Where the UPID of the run is, below the site's root.
const PID: &str = "/run/vzdump.pid";
/// How often a waiting run tries.
const EVERY: Duration = Duration::from_millis(500);
/// How long a run that is to stop has.
const STOP_WAIT: Duration = Duration::from_secs(15);
/// How often it is looked at meanwhile.
const POLL: Duration = Duration::from_millis(100);

/// The right to run backups on this node, for as long as it lives.
#[derive(Debug)]
pub(crate) struct GlobalLock {
    pid_file: PathBuf,
    _file: Flock<File>,
}

impl GlobalLock {
    /// Waits for the lock for so many minutes, and leaves word who has it. `log` is told of a wait, `interrupted` is
    /// asked during it.
    ///
    /// # Errors
    /// Somebody else has it for too long, or it cannot be made.
    pub(crate) fn acquire(
        context: &Context,
        minutes: u64,
        upid: &Upid,
        log: &mut dyn FnMut(&str),
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Self, VzdumpError> {
        let path = context.site.path(RUN_LOCK);
        let mut file = open(&path).map_err(|error| VzdumpError::Lock(errno_text(&error)))?;
        let until = deadline(Duration::from_secs(minutes.saturating_mul(60)));
        let mut waited = false;
        let held = loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => break held,
                Err((back, nix::errno::Errno::EWOULDBLOCK)) => file = back,
                Err((_, error)) => return Err(VzdumpError::Lock(error.desc().to_owned())),
            }
            if minutes == 0 {
                return Err(VzdumpError::LockNoWait);
            }
            if !waited {
                waited = true;
                log("trying to get global lock - waiting...");
            }
            if interrupted() {
                return Err(VzdumpError::Interrupted);
            }
            if Instant::now() >= until {
                return Err(VzdumpError::Lock("got timeout".to_owned()));
            }
            std::thread::sleep(EVERY);
        };
        if waited {
            log("got global lock");
        }
        let pid_file = context.site.path(PID);
        fs::write(&pid_file, format!("{upid}\n")).map_err(|error| VzdumpError::Lock(errno_text(&error)))?;
        Ok(Self { pid_file, _file: held })
    }

    /// The run was a success: nobody has to stop it any more.
    pub(crate) fn succeeded(&self) {
        if let Err(error) = fs::remove_file(&self.pid_file) {
            log::warn!("unable to remove '{}' - {error}", self.pid_file.display());
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    // Whoever can open it can lock it.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Stops the run that left its UPID, if it is still the same process. One that does not run is stopped already.
///
/// # Errors
/// It does not end in time.
pub(crate) fn stop_running(context: &Context) -> Result<(), VzdumpError> {
    let text = fs::read_to_string(context.site.path(PID)).unwrap_or_default();
    let Ok(upid) = text.trim().parse::<Upid>() else {
        return Ok(());
    };
    if !process::is_running(&upid) {
        return Ok(());
    }
    process::terminate(&upid);
    let deadline = Instant::now() + STOP_WAIT;
    while process::is_running(&upid) {
        if Instant::now() >= deadline {
            return Err(VzdumpError::StopFailed(upid.pid));
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
