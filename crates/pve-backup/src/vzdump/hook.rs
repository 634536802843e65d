//! The hook script: a program of the administrator's that is run at turns of a run (reference 05 §7.6).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pve_daemon::command::{Command, CommandError};

use super::log::RunLog;

/// How long a script may take: it may move archives to tape, but nothing waits for ever.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Why a script failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It is not there.
    #[error("Error: The hook script '{}' does not exist.", .0.display())]
    Missing(PathBuf),
    /// It is no program.
    #[error("Error: The hook script '{}' is not executable.", .0.display())]
    NotExecutable(PathBuf),
    /// It ended with an error.
    #[error("{0}")]
    Failed(#[from] CommandError),
}

/// What a script is told of a guest.
#[derive(Debug, Clone, Default)]
pub(super) struct GuestFacts {
    pub(super) mode: &'static str,
    pub(super) vmid: String,
    pub(super) kind: &'static str,
    pub(super) hostname: Option<String>,
    pub(super) target: Option<PathBuf>,
    pub(super) log_file: Option<PathBuf>,
}

/// The script of a run, and what it is told of the run.
#[derive(Debug, Clone, Default)]
pub(super) struct Hook {
    pub(super) script: Option<PathBuf>,
    pub(super) storage: Option<String>,
    pub(super) dump_directory: Option<PathBuf>,
}

impl Hook {
    /// Whether the script can be run at all.
    ///
    /// # Errors
    /// [`HookError::Missing`], [`HookError::NotExecutable`].
    pub(super) fn check(&self) -> Result<(), HookError> {
        let Some(script) = &self.script else { return Ok(()) };
        let metadata = std::fs::metadata(script).map_err(|_| HookError::Missing(script.clone()))?;
        if !metadata.is_file() {
            return Err(HookError::Missing(script.clone()));
        }
        if metadata.permissions().mode() & 0o111 == 0 {
            return Err(HookError::NotExecutable(script.clone()));
        }
        Ok(())
    }

    /// Runs the script at a turn of the whole run, or of a guest's backup; its output becomes lines of the log.
    ///
    /// # Errors
    /// [`HookError`].
    pub(super) fn run(&self, phase: &str, guest: Option<&GuestFacts>, log: &mut RunLog<'_>) -> Result<(), HookError> {
        self.check()?;
        let Some(script) = &self.script else { return Ok(()) };
        let command = self.command(script, phase, guest);
        command.run_lines(&mut |_, line| log.info(line))?;
        Ok(())
    }

    fn command(&self, script: &Path, phase: &str, guest: Option<&GuestFacts>) -> Command {
        let mut command = Command::new(script, LIMIT).clean_environment().arg(phase);
        if let Some(storage) = &self.storage {
            command = command.env("STOREID", storage);
        }
        if let Some(directory) = &self.dump_directory {
            command = command.env("DUMPDIR", directory);
        }
        let Some(guest) = guest else { return command };
        command = command.arg(guest.mode).arg(&guest.vmid);
        if !guest.kind.is_empty() {
            command = command.env("VMTYPE", guest.kind);
        }
        if let Some(hostname) = &guest.hostname {
            command = command.env("HOSTNAME", hostname);
        }
        if let Some(target) = &guest.target {
            command = command.env("TARGET", target);
        }
        if let Some(log_file) = &guest.log_file {
            command = command.env("LOGFILE", log_file);
        }
        command
    }
}
