//! The content of a VM's disks at one instant, into an archive (reference 05 §8, §14.1, §14.3).
//!
//! ```text
//! QEMU: disk ─ backup job ─▶ NBD ═ socket ═▶ connection ─▶ queue ─▶ archive writer ─▶ output (file, compressor)
//!         guest's writes to what is not copied yet: old content first ┘    └ full: nobody reads the socket,
//!                                                                            QEMU waits, and the guest's writes
//! ```
//!
//! The life of a copy:
//!
//! ```text
//! remove leftovers ─▶ sizes, sockets, nodes ─▶ freeze ─▶ transaction ─▶ thaw, started ─▶ one disk after the other
//!                                                                                                │         │
//!      no jobs, no nodes, no server ◀─ dismiss, delete ◀─ cancel, wait ◀─ discard all writes ◀─ failure    │
//!                                 ▲                                                                        │
//!                                 └────────────────────────────────────────────────── all jobs concluded ◀─┘
//! ```
//!
//! **The rule**: while a job is active, no write of QEMU is answered with an error and none is left waiting for a broken
//! output, because the guest's own write would fail or hang with it. What goes wrong here switches the queue to discard
//! everything; the jobs are cancelled; the server stops when they are gone.
//!
//! | module | holds |
//! |---|---|
//! | `jobs` | what QEMU is told |
//! | `queue` | between the connections and the writer |
//! | `progress` | the lines of the log |
//! | [`error`] | what can go wrong |
//!
//! Not here: whether the VM has to be started, frozen or resumed for it, names and locks of archives, and what is in the
//! configurations.

pub mod error;
mod jobs;
mod progress;
mod queue;
mod run;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use pve_qemu::config::DriveKey;
use pve_schema::Context;
use pve_schema::ids::VmId;

pub use error::CopyError;
pub(crate) use run::socket_path;

use crate::vma::{Config, Header, Uuid, Writer};

/// A disk to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its key in the config. QEMU's node is named `drive-<key>`.
    pub key: DriveKey,
    /// Its name in the archive: `drive-scsi0`, `drive-tpmstate0-backup`.
    pub device: String,
    /// For what is no disk of the running QEMU, the state of a TPM: where it is. QEMU opens it for reading, for the time
    /// of the backup.
    pub volume: Option<Volume>,
}

/// An image that QEMU has not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// A file or a block device.
    pub path: PathBuf,
    /// QEMU's name of its format: `raw`.
    pub format: String,
}

/// What to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The VM; it runs, or is started but paused, unless it has no disks.
    pub vmid: VmId,
    /// Its disks, in the order of the archive (reference 05 §8: by key, byte-wise).
    pub disks: Vec<Disk>,
    /// What the archive has besides them: [`crate::vma::VM_CONFIG`], [`crate::vma::VM_FIREWALL`].
    pub configs: Vec<Config>,
    /// When the backup began, Unix seconds.
    pub ctime: i64,
}

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes to read per second.
    pub bytes_per_second: Option<u64>,
    /// Requests that QEMU has in flight per disk: 1 to 256 (reference 05 §6.1, `performance`).
    pub max_workers: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_per_second: None,
            max_workers: 16,
        }
    }
}

/// Who follows a copy. All is called by the thread that called [`copy`].
pub trait Watch {
    /// A line for the log.
    fn log(&mut self, line: &str);

    /// All is prepared: freeze the guest's file systems now, if that is wanted. Not called without disks.
    fn freeze(&mut self) {}

    /// The instant has passed, or the start failed: thaw. Called exactly once after [`Watch::freeze`].
    fn thaw(&mut self) {}

    /// The jobs run, and the instant has passed: say `started backup task '<job>'`, resume. Not called without disks.
    fn started(&mut self, job: &str);

    /// A line of progress, without `INFO: `.
    fn progress(&mut self, line: &str);

    /// Whether to give up. Asked several times per second.
    fn is_interrupted(&self) -> bool;
}

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of all disks.
    pub bytes: u64,
    /// How many of them were zero, and so are not in the archive.
    pub zero_bytes: u64,
    /// Bytes of the archive before it was compressed.
    pub archive_bytes: u64,
    /// From the start of the jobs to the end of the archive.
    pub duration: Duration,
}

/// Copies what is on a VM's disks at one instant, with its configurations, into an archive.
///
/// The archive is complete when this returns `Ok`; what `output` holds back (a compressor) is still the caller's to
/// finish: pass `&mut compressor`. Lines about start, progress, totals and `aborting backup job` go to `watch`.
///
/// # Errors
/// [`CopyError`]. Then all jobs and nodes are gone from the VM already. If `output` was a compressor, its exit status
/// tells more than the broken pipe that is reported here.
pub fn copy<W: Write + Send>(
    context: &Context,
    source: &Source,
    limits: &Limits,
    output: W,
    watch: &mut dyn Watch,
) -> Result<Summary, CopyError> {
    let mut header = Header::new(make_uuid()?, source.ctime);
    for config in &source.configs {
        header.add_config(&config.name, &config.data)?;
    }
    if source.disks.is_empty() {
        return copy_configs(header, output, watch);
    }
    run::run(&context.site, source, limits, header, output, watch)
}

/// An archive without disks.
fn copy_configs<W: Write>(header: Header, output: W, watch: &mut dyn Watch) -> Result<Summary, CopyError> {
    watch.log("backup contains no disks");
    watch.log("starting diskless backup");
    let begin = std::time::Instant::now();
    let (_, _, archive_bytes) = Writer::new(output, header)?.finish_counted()?;
    Ok(Summary {
        archive_bytes,
        duration: begin.elapsed(),
        ..Summary::default()
    })
}

/// A random uuid, version 4.
fn make_uuid() -> Result<Uuid, CopyError> {
    let mut uuid: Uuid = [0; 16];
    getrandom::fill(&mut uuid).map_err(|error| CopyError::Random(error.to_string()))?;
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut uuid;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    Ok(uuid)
}

/// The usual text of a uuid.
fn uuid_text(uuid: &Uuid) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in uuid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_uuids() {
        let (one, other) = (uuid_text(&make_uuid().unwrap()), uuid_text(&make_uuid().unwrap()));
        assert_ne!(one, other);
        assert_eq!((one.len(), one.chars().nth(14)), (36, Some('4')));
        assert!(matches!(one.chars().nth(19), Some('8' | '9' | 'a' | 'b')), "{one}");
    }
}
