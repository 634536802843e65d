//! `qemu-img`: its command lines as values, and what its answers mean (reference 08 §4.3, §4.4).
//!
//! Every line forces the share of the image's lock for reading (`-U`): stock QEMU locks images of running guests, and
//! asking for a size must not fail because of that.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use pve_daemon::command::Command;
use serde::Deserialize;

use crate::kind::ImageFormat;

/// The program.
const QEMU_IMG: &str = "/usr/bin/qemu-img";
/// Questions are answered from an image's head.
const INFO_DEADLINE: Duration = Duration::from_secs(10);
/// A resize only writes metadata, unless the new space is to be filled (reference 08 §4.3).
const RESIZE_DEADLINE: Duration = Duration::from_secs(10);
/// To fill terabytes takes its time; nothing else does.
const FILL_DEADLINE: Duration = Duration::from_secs(24 * 3600);
/// To make, or to change, the metadata of a large image on a slow disk.
const CHANGE_DEADLINE: Duration = Duration::from_secs(600);
/// KiB up to which the metadata of a new qcow2 image is written at once: 2 TiB, whose metadata is 320 MiB, some ten
/// seconds of work. It grows with the size, the storage's lock is held meanwhile, and the size may come from an archive
/// that somebody made up: 64 TiB would keep all others from the storage for minutes.
const MAX_METADATA_KIB: u64 = 2 << 30;

/// How much of a new image is allotted at once: the `preallocation` option as `qemu-img` is told it; `None` for formats
/// that have no such thing (reference 08 §4.3, vector V7).
pub fn preallocation(format: ImageFormat, option: Option<&str>) -> Option<&str> {
    match (format, option) {
        (ImageFormat::Raw, None | Some("metadata")) => Some("off"),
        (ImageFormat::Qcow2, None) => Some("metadata"),
        (ImageFormat::Raw | ImageFormat::Qcow2, Some(mode)) => Some(mode),
        (ImageFormat::Vmdk | ImageFormat::Subvol, _) => None,
    }
}

/// [`preallocation`] of a new image of this size: beyond [`MAX_METADATA_KIB`] QEMU makes the metadata when it needs it.
fn preallocation_for(format: ImageFormat, option: Option<&str>, size_kib: u64) -> Option<&str> {
    match preallocation(format, option) {
        Some("metadata") if size_kib > MAX_METADATA_KIB => Some("off"),
        mode => mode,
    }
}

fn deadline(mode: Option<&str>, usual: Duration) -> Duration {
    match mode {
        Some("full" | "falloc") => FILL_DEADLINE,
        _ => usual,
    }
}

/// Makes an image of `size_kib` KiB.
pub fn create(path: &Path, format: ImageFormat, size_kib: u64, option: Option<&str>) -> Command {
    let mode = preallocation_for(format, option, size_kib);
    let mut command = Command::new(QEMU_IMG, deadline(mode, CHANGE_DEADLINE)).arg("create");
    if let Some(mode) = mode {
        command = command.args(["-o", &format!("preallocation={mode}")]);
    }
    command
        .args(["-f", format.as_str()])
        .arg(path)
        .arg(format!("{size_kib}K"))
}

/// Makes a qcow2 image on top of another. `backing` is taken as it is: relative to the new image's directory.
pub fn create_backed(path: &Path, backing: &Path, backing_format: ImageFormat, option: Option<&str>) -> Command {
    let mut options = "extended_l2=on,cluster_size=128k".to_owned();
    let mode = preallocation(ImageFormat::Qcow2, option);
    if let Some(mode) = mode {
        options.push_str(",preallocation=");
        options.push_str(mode);
    }
    Command::new(QEMU_IMG, deadline(mode, CHANGE_DEADLINE))
        .args(["create", "-F", backing_format.as_str(), "-b"])
        .arg(backing)
        .args(["-f", "qcow2"])
        .arg(path)
        .args(["-o", &options])
}

/// Asks what an image is; without a format QEMU guesses, which is for files that no guest owns.
pub fn info(path: &Path, format: Option<ImageFormat>) -> Command {
    let command = Command::new(QEMU_IMG, INFO_DEADLINE)
        .args(["info", "-U", "--output=json"])
        .arg(path);
    match format {
        Some(format) => command.args(["-f", format.as_str()]),
        None => command,
    }
}

/// Sets an image's size in bytes.
pub fn resize(path: &Path, format: ImageFormat, bytes: u64, option: Option<&str>) -> Command {
    let mode = preallocation_for(format, option, bytes >> 10);
    let mut command = Command::new(QEMU_IMG, deadline(mode, RESIZE_DEADLINE)).arg("resize");
    if let Some(mode) = mode {
        command = command.arg(format!("--preallocation={mode}"));
    }
    command.args(["-f", format.as_str()]).arg(path).arg(bytes.to_string())
}

/// What is done with a snapshot inside a qcow2 image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotAction {
    /// Take it.
    Create,
    /// Go back to it.
    Apply,
    /// Remove it.
    Delete,
}

/// Takes, applies or removes a snapshot inside a qcow2 image.
pub fn snapshot(path: &Path, action: SnapshotAction, name: &str) -> Command {
    let flag = match action {
        SnapshotAction::Create => "-c",
        SnapshotAction::Apply => "-a",
        SnapshotAction::Delete => "-d",
    };
    Command::new(QEMU_IMG, CHANGE_DEADLINE)
        .args(["snapshot", flag, name])
        .arg(OsString::from(path))
}

/// What `qemu-img info` says of an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageInfo {
    /// Bytes that a guest sees.
    pub virtual_size: u64,
    /// The format.
    pub format: String,
    /// Bytes on disk.
    #[serde(default)]
    pub actual_size: u64,
    /// The backing file as the image names it.
    pub backing_filename: Option<String>,
    /// What only this format has.
    #[serde(default)]
    format_specific: FormatSpecific,
    /// The nodes below.
    #[serde(default)]
    children: Vec<serde_json::Value>,
    /// Internal snapshots.
    #[serde(default)]
    snapshots: Vec<Snapshot>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
struct FormatSpecific {
    #[serde(default)]
    data: FormatData,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FormatData {
    data_file: Option<String>,
    #[serde(default)]
    extents: Vec<serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Snapshot {
    name: String,
}

impl ImageInfo {
    /// Reads the answer of [`info`].
    ///
    /// # Errors
    /// It is not what `qemu-img` writes.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// What makes the image reach outside of its own file, if anything: no such file may come from a user.
    pub fn outside_reference(&self) -> Option<&'static str> {
        if self.backing_filename.is_some() {
            Some("backing file")
        } else if self.format_specific.data.data_file.is_some() {
            Some("data-file")
        } else if self.format_specific.data.extents.len() > 1 || self.children.len() > 1 {
            Some("multiple extents or children")
        } else {
            None
        }
    }

    /// The names of the internal snapshots, oldest first.
    pub fn snapshot_names(&self) -> impl Iterator<Item = &str> {
        self.snapshots.iter().map(|snapshot| snapshot.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 08, vector V7.
    #[test]
    fn preallocation_per_format() {
        use ImageFormat::{Qcow2, Raw, Vmdk};
        for (option, expected) in [
            (None, "off"),
            (Some("off"), "off"),
            (Some("metadata"), "off"),
            (Some("falloc"), "falloc"),
            (Some("full"), "full"),
        ] {
            assert_eq!(preallocation(Raw, option), Some(expected));
        }
        assert_eq!(preallocation(Qcow2, None), Some("metadata"));
        assert_eq!(preallocation(Vmdk, Some("full")), None);
    }

    /// Reference 08 §4.3.
    #[test]
    fn command_lines() {
        let path = Path::new("/srv/a/images/812/vm-812-disk-0.qcow2");
        let lines = [
            (
                create(path, ImageFormat::Qcow2, 4096, None),
                "create -o preallocation=metadata -f qcow2 PATH 4096K",
            ),
            (
                create(path, ImageFormat::Qcow2, 2 << 30, None),
                "create -o preallocation=metadata -f qcow2 PATH 2147483648K",
            ),
            (
                create(path, ImageFormat::Qcow2, (2 << 30) + 1, Some("metadata")),
                "create -o preallocation=off -f qcow2 PATH 2147483649K",
            ),
            (
                resize(path, ImageFormat::Qcow2, 64 << 40, None),
                "resize --preallocation=off -f qcow2 PATH 70368744177664",
            ),
            (create(path, ImageFormat::Vmdk, 1, None), "create -f vmdk PATH 1K"),
            (
                create_backed(path, Path::new("../9/base-9-disk-0.raw"), ImageFormat::Raw, Some("off")),
                "create -F raw -b ../9/base-9-disk-0.raw -f qcow2 PATH \
                 -o extended_l2=on,cluster_size=128k,preallocation=off",
            ),
            (
                info(path, Some(ImageFormat::Qcow2)),
                "info -U --output=json PATH -f qcow2",
            ),
            (
                resize(path, ImageFormat::Raw, 2048, Some("full")),
                "resize --preallocation=full -f raw PATH 2048",
            ),
            (snapshot(path, SnapshotAction::Delete, "a b"), "snapshot -d 'a b' PATH"),
        ];
        for (command, expected) in lines {
            let expected = format!(
                "/usr/bin/qemu-img {}",
                expected.replace("PATH", &path.display().to_string())
            );
            assert_eq!(command.to_string(), expected);
        }
    }
}
