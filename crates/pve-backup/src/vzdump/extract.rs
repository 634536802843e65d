//! The guest's config inside an archive (reference 05 §10, §12.3). Of an archive only the beginning is read.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use pve_access::UserConfig;
use pve_daemon::command::Command;
use pve_schema::Context;
use pve_schema::ids::{AuthId, VmId, VolumeId};
use pve_storage::archive::ArchiveInfo;
use pve_storage::{Content, StorageError, Storages};

use super::VzdumpError;
use crate::vma::{Header, Limits, VM_CONFIG, VmaError};

/// How long an archive may take to tell its config: a header of some kilobytes, be it on a slow storage.
const LIMIT: Duration = Duration::from_secs(60);
/// The config of a container in its archive.
const CT_CONFIG: &str = "./etc/vzdump/pct.conf";

/// The config of the guest that an archive is of. `volume` is a volume id, or – root only – a path.
///
/// # Errors
/// Missing rights, no such archive, an archive without a config.
pub fn config(context: &Context, access: &UserConfig, caller: &AuthId, volume: &str) -> Result<String, VzdumpError> {
    let storages = Storages::open(context)?;
    storages.check_volume_access(access, caller, volume, None, Some(Content::Backup))?;
    let path = match volume.parse::<VolumeId>() {
        Ok(id) => {
            let (_, name) = storages.parse(&id)?;
            let owner: Option<VmId> = name.owner.and_then(|owner| owner.try_into().ok());
            if let Some(owner) = owner {
                access.require_all(caller, &format!("/vms/{owner}"), &["VM.Backup"])?;
            }
            storages.activate(&id.storage)?;
            let path = storages.path(&id)?;
            if !path.exists() {
                return Err(StorageError::NoVolume(id).into());
            }
            path
        }
        Err(_) => PathBuf::from(volume),
    };
    of_archive(&path)
}

/// The config inside of an archive.
///
/// # Errors
/// Its name does not say what it is, it cannot be read, or has no config.
pub fn of_archive(path: &Path) -> Result<String, VzdumpError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let no_archive = || VzdumpError::NoArchive(path.to_owned());
    let info = ArchiveInfo::of(name).map_err(|_| no_archive())?;
    // Whoever opens a pipe waits for somebody at its other end.
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(no_archive());
    }
    if info.format == "tar" {
        return of_tar(path, &info);
    }
    let header = header_within(path, info.decompressor())?;
    let config = header.config(VM_CONFIG).ok_or(VzdumpError::NoConfig)?;
    Ok(String::from_utf8_lossy(config).into_owned())
}

fn of_tar(path: &Path, info: &ArchiveInfo) -> Result<String, VzdumpError> {
    let flag = match info.compression {
        Some("gz") => Some("-z"),
        Some("lzo") => Some("--lzop"),
        Some("zst") => Some("--zstd"),
        Some(_) => Some("--bzip2"),
        None => None,
    };
    // The config is the first member: with the first occurrence found tar stops reading.
    let tar = Command::new("tar", LIMIT)
        .args(flag)
        .args(["-xO", "--occurrence=1", "-f"]);
    let output = tar.arg(path).arg(CT_CONFIG).run().map_err(|_| VzdumpError::NoConfig)?;
    Ok(output.stdout_text())
}

/// Reads a header on a thread of its own: a storage that hangs must not hold the caller.
fn header_within(path: &Path, decompressor: Option<&'static [&'static str]>) -> Result<Header, VzdumpError> {
    let failed = VzdumpError::file("read", path);
    let (mut input, mut child): (Box<dyn Read + Send>, Option<Child>) = match decompressor.and_then(|c| c.split_first())
    {
        None => (Box::new(File::open(path).map_err(&failed)?), None),
        Some((program, arguments)) => {
            let mut command = Process::new(program);
            command
                .args(arguments)
                .arg(path)
                .stdin(Stdio::null())
                .stderr(Stdio::null());
            let mut child = command.stdout(Stdio::piped()).spawn().map_err(&failed)?;
            let output = child.stdout.take();
            let output = output.ok_or_else(|| failed(std::io::ErrorKind::BrokenPipe.into()))?;
            (Box::new(output), Some(child))
        }
    };
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::Builder::new()
        .name("vma-header".to_owned())
        .spawn(move || {
            let header: Result<Header, VmaError> = Header::read(&mut input, &Limits::default());
            // Nobody listens any more after the deadline.
            let _ = sender.send(header);
        });
    let header = match reader {
        Ok(_) => receiver.recv_timeout(LIMIT),
        Err(error) => return Err(failed(error)),
    };
    if let Some(child) = &mut child {
        // It has the rest of the archive before it, which nobody wants.
        let _ = child.kill();
        let _ = child.wait();
    }
    match header {
        Ok(header) => Ok(header?),
        Err(_) => Err(VzdumpError::File {
            action: "read",
            path: path.to_owned(),
            reason: "got timeout".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        for extension in ["vma", "vma.zst", "tar"] {
            let name = format!("vzdump-qemu-100-2026_01_01-00_00_00.{extension}");
            let pipe = directory.path().join(name);
            nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
            assert!(
                matches!(of_archive(&pipe), Err(VzdumpError::NoArchive(_))),
                "{extension}"
            );
        }
    }
}
