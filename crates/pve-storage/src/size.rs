//! How large a volume is (reference 08 §4.4).

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use pve_daemon::command::Output;

use crate::error::StorageError;
use crate::kind::ImageFormat;
use crate::qemu_img::{self, ImageInfo};

/// What is known of a volume's size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizeInfo {
    /// Bytes that a guest sees.
    pub size: u64,
    /// The format, or `invalid` when the file is not what its name says.
    pub format: String,
    /// Bytes on disk.
    pub used: u64,
    /// The backing file, as the image names it.
    pub parent: Option<String>,
    /// When the file was changed: Unix seconds.
    pub ctime: i64,
}

/// How large a file or directory is; `None` when nobody can tell, which listings skip.
///
/// The format is that of the volume's name. It is never guessed, because a guest writes what a guess would read.
///
/// # Errors
/// A directory where an image should be.
pub fn file_size_info(path: &Path, format: ImageFormat) -> Result<Option<SizeInfo>, StorageError> {
    let Ok(meta) = path.metadata() else { return Ok(None) };
    if meta.is_dir() {
        return directory_info(path, format, &meta).map(Some);
    }
    match format {
        ImageFormat::Subvol => Ok(None),
        ImageFormat::Raw if meta.is_file() => Ok(Some(raw_info(&meta, "raw"))),
        _ => Ok(image_info(path, format, &meta)),
    }
}

fn directory_info(path: &Path, format: ImageFormat, meta: &Metadata) -> Result<SizeInfo, StorageError> {
    if format != ImageFormat::Subvol {
        return Err(StorageError::IsDirectory {
            format,
            path: path.to_owned(),
        });
    }
    Ok(SizeInfo {
        size: 0,
        format: ImageFormat::Subvol.to_string(),
        used: 0,
        parent: None,
        ctime: meta.ctime(),
    })
}

/// A regular file as plain bytes: what a guest sees are whole sectors.
fn raw_info(meta: &Metadata, format: &str) -> SizeInfo {
    const SECTOR: u64 = 512;
    SizeInfo {
        size: meta.len().div_ceil(SECTOR).saturating_mul(SECTOR),
        format: format.to_owned(),
        used: meta.blocks().saturating_mul(SECTOR),
        parent: None,
        ctime: meta.ctime(),
    }
}

fn image_info(path: &Path, format: ImageFormat, meta: &Metadata) -> Option<SizeInfo> {
    let output = match qemu_img::info(path, Some(format)).outcome() {
        Ok(output) => output,
        Err(error) => {
            log::warn!("could not get size of '{}': {error}", path.display());
            return None;
        }
    };
    if is_of_other_format(&output) {
        log::warn!(
            "image '{}' is not in {format} format - treating it as raw",
            path.display()
        );
        return Some(raw_info(meta, "invalid"));
    }
    let info = ImageInfo::parse(&output.stdout)
        .ok()
        .filter(|_| output.status.success());
    let Some(info) = info else {
        log::warn!("could not get size of '{}': {}", path.display(), output.stderr_text());
        return None;
    };
    Some(SizeInfo {
        size: info.virtual_size,
        format: info.format,
        used: info.actual_size,
        parent: info.backing_filename,
        ctime: meta.ctime(),
    })
}

/// `Image is not in qcow2 format` and its like.
fn is_of_other_format(output: &Output) -> bool {
    let stderr = output.stderr_text();
    !output.status.success() && stderr.contains("mage is not in") && stderr.contains("format")
}

/// Makes sure that an image from a user reaches for nothing outside of its own file. Without a format QEMU guesses: this
/// is for files that claim to be installation media.
///
/// # Errors
/// The file cannot be read, is no image of the format, or refers to other files.
pub fn check_untrusted(path: &Path, format: Option<ImageFormat>) -> Result<SizeInfo, StorageError> {
    let shown = || path.display().to_string();
    let meta = path.metadata().map_err(|_| StorageError::Stat(shown()))?;
    let output = qemu_img::info(path, format).run()?;
    let info = ImageInfo::parse(&output.stdout).map_err(|source| StorageError::ImageInfo { path: shown(), source })?;
    if let Some(what) = info.outside_reference() {
        return Err(StorageError::Untrusted { what, path: shown() });
    }
    Ok(SizeInfo {
        size: info.virtual_size,
        format: info.format,
        used: info.actual_size,
        parent: None,
        ctime: meta.ctime(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use pve_daemon::command::Command;

    use super::*;

    fn qemu_img(args: &[&str], at: &Path) {
        let mut args: Vec<String> = args
            .iter()
            .map(|arg| arg.replace("PATH", &at.display().to_string()))
            .collect();
        args.insert(1, "-q".into());
        Command::new("/usr/bin/qemu-img", Duration::from_secs(30))
            .args(args)
            .run()
            .unwrap();
    }

    #[test]
    fn sizes_of_every_format() {
        let dir = tempfile::tempdir().unwrap();
        for format in [ImageFormat::Raw, ImageFormat::Qcow2, ImageFormat::Vmdk] {
            let path = dir.path().join(format!("a.{format}"));
            qemu_img(&["create", "-f", format.as_str(), "PATH", "8M"], &path);
            let info = file_size_info(&path, format).unwrap().unwrap();
            assert_eq!((info.size, info.format.as_str()), (8 << 20, format.as_str()));
            assert!(info.used < 4 << 20, "{info:?}");
        }
        let info = file_size_info(dir.path(), ImageFormat::Subvol).unwrap().unwrap();
        assert_eq!((info.size, info.format.as_str()), (0, "subvol"));
        let error = file_size_info(dir.path(), ImageFormat::Raw).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("expected format 'raw', but '{}' is a directory", dir.path().display())
        );
        assert_eq!(
            file_size_info(&dir.path().join("none"), ImageFormat::Raw).unwrap(),
            None
        );
    }

    #[test]
    fn a_file_that_is_not_what_its_name_says_is_invalid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fake.qcow2");
        fs::write(&path, b"hello").unwrap();
        let info = file_size_info(&path, ImageFormat::Qcow2).unwrap().unwrap();
        assert_eq!((info.size, info.format.as_str()), (512, "invalid"));
    }

    #[test]
    fn what_a_guest_wrote_into_a_raw_disk_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vm-812-disk-0.raw");
        qemu_img(&["create", "-f", "qcow2", "PATH", "1T"], &path);
        let info = file_size_info(&path, ImageFormat::Raw).unwrap().unwrap();
        assert!(info.size < 1 << 30, "{info:?}");
    }

    #[test]
    fn images_that_reach_outside_of_their_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let message = |path: &Path, format| check_untrusted(path, format).unwrap_err().to_string();
        let plain = dir.path().join("plain.qcow2");
        qemu_img(&["create", "-f", "qcow2", "PATH", "1M"], &plain);
        assert_eq!(check_untrusted(&plain, Some(ImageFormat::Qcow2)).unwrap().size, 1 << 20);

        let backed = dir.path().join("backed.qcow2");
        let options = ["create", "-f", "qcow2", "-F", "qcow2", "-b", "plain.qcow2", "PATH"];
        qemu_img(&options, &backed);
        let expected = format!("backing file not allowed for untrusted image '{}'!", backed.display());
        assert_eq!(message(&backed, Some(ImageFormat::Qcow2)), expected);
        // Called an installation medium it is looked at just the same.
        let iso = dir.path().join("evil.iso");
        fs::rename(&backed, &iso).unwrap();
        assert!(message(&iso, None).starts_with("backing file not allowed"));

        let external = dir.path().join("external.qcow2");
        let option = format!("data_file={}", dir.path().join("data.raw").display());
        qemu_img(&["create", "-f", "qcow2", "-o", &option, "PATH", "1M"], &external);
        assert!(message(&external, Some(ImageFormat::Qcow2)).starts_with("data-file not allowed"));

        let split = dir.path().join("split.vmdk");
        qemu_img(
            &[
                "create",
                "-f",
                "vmdk",
                "-o",
                "subformat=twoGbMaxExtentSparse",
                "PATH",
                "5G",
            ],
            &split,
        );
        assert!(message(&split, Some(ImageFormat::Vmdk)).contains("not allowed for untrusted image"));
        let single = dir.path().join("single.vmdk");
        qemu_img(&["create", "-f", "vmdk", "PATH", "1M"], &single);
        check_untrusted(&single, Some(ImageFormat::Vmdk)).unwrap();

        let none = dir.path().join("none");
        assert_eq!(message(&none, None), format!("failed to stat '{}'", none.display()));
    }
}
