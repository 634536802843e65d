//! What a QEMU binary can do, found out by asking it once.
//!
//! A start must not run three extra programs each time, so the answers lie in a runtime file, and hold for as long as
//! the binary is the same: by inode, size and time of change.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pve_daemon::command::{Command, CommandError};
use pve_daemon::volatile;
use pve_schema::Site;
use serde::{Deserialize, Serialize};

use crate::runtime;

/// How long the binary may take to print a list.
const LIMIT: Duration = Duration::from_secs(10);

/// What a QEMU binary can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probe {
    /// Its version: `10.0.2`.
    pub version: String,
    /// Names of its machine types.
    pub machines: Vec<String>,
    /// Names of its CPU models.
    pub cpus: Vec<String>,
    /// Whether it has SPICE, which is a module of its own on Debian.
    pub spice: bool,
}

/// A probe and the binary it was made of.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    binary: PathBuf,
    inode: u64,
    size: u64,
    changed: (i64, i64),
    probe: Probe,
}

/// Why nothing is known of the binary.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It is not there.
    #[error("unable to use '{path}' - {source}")]
    Binary {
        /// The binary.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It does not run.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// It does not say what it is.
    #[error("unable to tell the version of '{0}'")]
    Version(PathBuf),
}

/// What a binary can do: from the runtime file if that is about the same binary, else by asking.
///
/// # Errors
/// [`ProbeError`].
pub(crate) fn of(site: &Site, binary: &Path) -> Result<Probe, ProbeError> {
    let metadata = fs::metadata(binary).map_err(|source| ProbeError::Binary {
        path: binary.to_owned(),
        source,
    })?;
    let identity = (
        metadata.ino(),
        metadata.size(),
        (metadata.mtime(), metadata.mtime_nsec()),
    );
    let name = binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = runtime::directory(site).join(format!("probe-{name}.json"));
    let kept = fs::read(&file)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
    if let Some(kept) = kept
        && kept.binary == binary
        && (kept.inode, kept.size, kept.changed) == identity
    {
        return Ok(kept.probe);
    }
    let probe = ask(binary)?;
    let kept = Kept {
        binary: binary.to_owned(),
        inode: identity.0,
        size: identity.1,
        changed: identity.2,
        probe: probe.clone(),
    };
    keep(&file, &kept);
    Ok(probe)
}

/// A probe that cannot be kept is made again next time.
fn keep(file: &Path, kept: &Kept) {
    let written = serde_json::to_vec(kept)
        .map_err(io::Error::from)
        .and_then(|bytes| volatile::replace(file, &bytes));
    if let Err(error) = written {
        log::debug!("unable to keep what is known of QEMU - {error}");
    }
}

fn ask(binary: &Path) -> Result<Probe, ProbeError> {
    let list = |arguments: &[&str]| -> Result<String, CommandError> {
        let output = Command::new(binary, LIMIT).args(arguments.iter().copied()).run()?;
        Ok(output.stdout_text())
    };
    let version = parse_version(&list(&["--version"])?).ok_or_else(|| ProbeError::Version(binary.to_owned()))?;
    Ok(Probe {
        version,
        machines: parse_machines(&list(&["-machine", "help"])?),
        cpus: parse_cpus(&list(&["-cpu", "help"])?),
        spice: list(&["-device", "help"])?.contains("name \"qxl-vga\""),
    })
}

/// `QEMU emulator version 10.0.2 (Debian …)`
fn parse_version(text: &str) -> Option<String> {
    let version = text.split_once("version ")?.1;
    let end = version
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(version.len());
    version
        .get(..end)
        .filter(|version| !version.is_empty())
        .map(str::to_owned)
}

/// `pc-i440fx-10.0       Standard PC …` lines below a heading.
fn parse_machines(text: &str) -> Vec<String> {
    let names = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_ascii_whitespace().next());
    names.map(str::to_owned).collect()
}

/// Indented lines below `Available CPUs:`, up to the empty line before the flags.
fn parse_cpus(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with("Available CPUs"))
        .skip(1);
    lines
        .take_while(|line| !line.trim().is_empty())
        .filter_map(|line| line.split_ascii_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        let version = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds)\nCopyright";
        assert_eq!(parse_version(version).as_deref(), Some("10.0.2"));
        assert_eq!(parse_version("version x"), None);
        let machines = "Supported machines are:\nmicrovm   microvm\npc-q35-10.0          Standard PC\n";
        assert_eq!(parse_machines(machines), ["microvm", "pc-q35-10.0"]);
        let cpus = "Available CPUs:\n  486   (alias)\n  qemu64\n\nRecognized CPUID flags:\n  fpu\n";
        assert_eq!(parse_cpus(cpus), ["486", "qemu64"]);
    }

    #[test]
    fn a_binary_is_asked_once() {
        let directory = tempfile::tempdir().unwrap();
        let site = crate::test_site(directory.path());
        runtime::create_directory(&site).unwrap();
        let count = directory.path().join("count");
        let binary = directory.path().join("qemu");
        let script = format!(
            "#!/bin/sh\necho x >> {}\necho 'QEMU emulator version 9.2.1'\n",
            count.display()
        );
        // Another process writes it: what this one has open for writing is inherited by whatever another test starts at
        // that moment, and cannot be executed until that is gone.
        let write = |text: &str| {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""]);
            assert!(shell.arg(&binary).arg(text).status().unwrap().success());
        };
        write(&script);
        let runs = || fs::read_to_string(&count).unwrap().lines().count();
        assert_eq!(of(&site, &binary).unwrap().version, "9.2.1");
        let asked = runs();
        of(&site, &binary).unwrap();
        assert_eq!(runs(), asked);
        write(&script.replace("9.2.1", "10.0.22"));
        assert_eq!(of(&site, &binary).unwrap().version, "10.0.22");
    }
}
