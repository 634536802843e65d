//! A task's process: a service that systemd starts, or a child where there is no systemd.
//!
//! Not here: what is said to it.

use std::io::{self, PipeReader, PipeWriter, pipe};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::unistd::geteuid;
use pve_daemon::process::{Handle, SEARCH_PATH};
use pve_schema::ids::Upid;
use pve_schema::{Site, errno_text};
use pve_systemd::{Manager, Service, SystemdError, Verb};

use crate::VERB;
use crate::child::FAILED;
use crate::process::{is_running, start_time};

/// This process's own image, even if an upgrade has replaced the file meanwhile.
const OWN_IMAGE: &str = "/proc/self/exe";
/// How long systemd may take to stop a service that did not report.
const STOP: Duration = Duration::from_secs(10);

/// A task's process, and the pipes to it.
pub(crate) struct Spawned {
    pub(crate) running: Running,
    /// What it reads its order from.
    pub(crate) order: PipeWriter,
    /// What it reports to.
    pub(crate) report: PipeReader,
}

/// A task's process.
pub(crate) enum Running {
    /// A child of this process.
    Child(Child),
    /// A service of this name; its process is known once it has reported.
    Service(String, Option<Handle>),
}

impl Spawned {
    /// Starts it. Outside of labs it is a service, so that neither the control group nor the sandbox of the daemon that
    /// ordered it is its own; if systemd cannot be reached, it is a child all the same.
    pub(crate) fn new(site: &Site, what: &str) -> io::Result<Self> {
        if geteuid().is_root() && pve_systemd::is_here(site) {
            match service(site, what) {
                Ok(spawned) => return Ok(spawned),
                // Should systemd start it after all, it finds no order and ends.
                Err(error) => log::warn!(
                    "'{what}' runs as a part of this service, within its limits, and ends if all of it is killed - {error}"
                ),
            }
        }
        child()
    }
}

/// Why there is no service.
#[derive(Debug, thiserror::Error)]
enum SpawnError {
    /// No pipe, for one.
    #[error("{}", errno_text(.0))]
    Io(#[from] io::Error),
    /// systemd does not do it.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
}

fn service(site: &Site, what: &str) -> Result<Spawned, SpawnError> {
    let name = service_name();
    let (stdin, order) = pipe()?;
    let (report, stdout) = pipe()?;
    // Not its path: what is at that may be another one by now, or not visible outside of a sandbox. Should this process die
    // before systemd has executed it, the service fails, as the order to the task, which comes from here, would.
    let program = format!("/proc/{}/exe", std::process::id());
    Manager::connect(site)?.start_service(Service {
        name: &name,
        description: what,
        program: &program,
        arguments: &[OWN_IMAGE, VERB],
        environment: &[&format!("PATH={SEARCH_PATH}")],
        // Its log and the list of tasks tell of it.
        expected_exits: &[i32::from(FAILED)],
        stdin: stdin.into(),
        stdout: stdout.into(),
    })?;
    Ok(Spawned {
        running: Running::Service(name, None),
        order,
        report,
    })
}

/// Unlike any other since the machine booted.
fn service_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let pid = std::process::id();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!(
        "pve-task-{pid:08X}-{:08X}-{count}.service",
        start_time(pid).unwrap_or(0)
    )
}

fn child() -> io::Result<Spawned> {
    let (stdin, order) = pipe()?;
    let (report, stdout) = pipe()?;
    let child = Command::new(OWN_IMAGE)
        .arg(VERB)
        .current_dir("/")
        .stdin(stdin)
        .stdout(stdout)
        .spawn()?;
    Ok(Spawned {
        running: Running::Child(child),
        order,
        report,
    })
}

impl Running {
    /// Whether the process that has this UPID is the one. It waits for its release, so its number is its own.
    pub(crate) fn is(&mut self, upid: &Upid) -> bool {
        match self {
            Self::Child(child) => child.id() == upid.pid,
            Self::Service(_, process) => {
                let held = Handle::of(upid.pid).ok().filter(|_| is_running(upid));
                *process = held;
                process.is_some()
            }
        }
    }

    /// Waits for its end. How a child exited is known to its parent alone.
    pub(crate) fn wait(self) -> Option<ExitStatus> {
        match self {
            Self::Child(mut child) => child.wait().ok(),
            Self::Service(_, process) => {
                if let Some(Err(error)) = process.map(|process| process.wait()) {
                    log::warn!("unable to wait for a task - {}", errno_text(&error));
                }
                None
            }
        }
    }

    /// Ends one that did not come up.
    pub(crate) fn kill(self, site: &Site) {
        match self {
            Self::Child(mut child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Self::Service(name, _) => {
                let stopped = Manager::connect(site).and_then(|manager| manager.run(Verb::Stop, &name, STOP));
                match stopped {
                    Ok(()) => {}
                    // Most end by themselves when nobody releases them.
                    Err(error) if error.is_no_such_unit() => {}
                    Err(error) => log::warn!("unable to stop '{name}' - {error}"),
                }
            }
        }
    }
}

/// How a process ended that left no status.
pub(crate) fn exit_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "successful".to_owned(),
        (Some(code), _) => format!("failed ({code})"),
        (None, signal) => format!("interrupted ({})", signal.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_without_a_status_are_told_by_the_exit() {
        assert_eq!(exit_text(ExitStatus::from_raw(0)), "successful");
        assert_eq!(exit_text(ExitStatus::from_raw(255 << 8)), "failed (255)");
        assert_eq!(exit_text(ExitStatus::from_raw(9)), "interrupted (9)");
    }

    #[test]
    fn no_two_services_have_the_same_name() {
        let (one, other) = (service_name(), service_name());
        assert_ne!(one, other);
        for name in [one, other] {
            let middle = name
                .strip_prefix("pve-task-")
                .and_then(|rest| rest.strip_suffix(".service"));
            let of_a_unit = |c: char| c.is_ascii_alphanumeric() || c == '-';
            assert!(middle.is_some_and(|middle| middle.chars().all(of_a_unit)), "{name}");
        }
    }
}
