//! Turning the machine off, or off and on again (reference 09 §8).

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pve_schema::{Failure, Site, errno_text};

/// How long the caller has to get its answer.
const GRACE: Duration = Duration::from_secs(2);

/// What becomes of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Off and on again.
    Reboot,
    /// Off.
    Off,
}

/// Why nothing becomes of it.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    /// A lab is not the machine.
    #[error("this is a lab below '{0}' - it neither reboots nor shuts down the machine it runs on")]
    Lab(String),
    /// The machine has no such command.
    #[error("unable to find command '{0}'")]
    NoCommand(String),
    /// The command did not start.
    #[error("unable to run '{command}' - {reason}")]
    Run {
        /// The command.
        command: String,
        /// The system's word.
        reason: String,
    },
}

impl Failure for PowerError {}

impl Power {
    /// What a word of the API means.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "reboot" => Some(Self::Reboot),
            "shutdown" => Some(Self::Off),
            _ => None,
        }
    }

    fn command(self) -> &'static str {
        match self {
            Self::Reboot => "/sbin/reboot",
            Self::Off => "/sbin/poweroff",
        }
    }
}

/// Lets it happen, a moment after the return: who asked is to learn that it will.
///
/// # Errors
/// [`PowerError`].
pub fn request(site: &Site, power: Power) -> Result<(), PowerError> {
    if !site.is_system() {
        return Err(PowerError::Lab(site.root.display().to_string()));
    }
    run_after(GRACE, Path::new(power.command()))
}

/// Starts a command after a while, even if this process has ended by then, as one that serves a single call has.
fn run_after(delay: Duration, command: &Path) -> Result<(), PowerError> {
    let shown = command.display().to_string();
    if !command.exists() {
        return Err(PowerError::NoCommand(shown));
    }
    let run = |error: std::io::Error| PowerError::Run {
        command: shown.clone(),
        reason: errno_text(&error),
    };
    let mut waiting = Command::new("/bin/sh")
        .args([
            "-c",
            "sleep \"$1\" && exec \"$2\"",
            "sh",
            &delay.as_secs_f64().to_string(),
        ])
        .arg(command)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A terminal's Ctrl-C is for who called, not for this.
        .process_group(0)
        .spawn()
        .map_err(run)?;
    let told = shown.clone();
    let thread = std::thread::Builder::new().name("power".to_owned());
    let waits = thread.spawn(move || match waiting.wait() {
        Ok(status) if status.success() => {}
        Ok(status) => log::error!("'{told}' failed - {status}"),
        Err(error) => log::error!("unable to wait for '{told}' - {}", errno_text(&error)),
    });
    waits.map(drop).map_err(run)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_lab_leaves_the_machine_alone() {
        let root = tempfile::tempdir().unwrap();
        let site = pve_testing::site(root.path(), "n1");
        for word in ["reboot", "shutdown"] {
            let error = request(&site, Power::from_word(word).unwrap()).unwrap_err();
            assert!(error.to_string().starts_with("this is a lab below "), "{error}");
        }
        assert_eq!(Power::from_word("halt"), None);
    }

    #[test]
    fn the_command_runs_after_the_return() {
        let root = tempfile::tempdir().unwrap();
        let script = root.path().join("reboot");
        let ran = root.path().join("ran");
        assert!(
            run_after(Duration::ZERO, &script)
                .unwrap_err()
                .to_string()
                .starts_with("unable to find command")
        );
        std::fs::write(&script, format!("#!/bin/sh\ntouch {}\n", ran.display())).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        run_after(Duration::from_millis(1), &script).unwrap();
        pve_testing::wait_for("the command", || ran.exists());
    }
}
