//! Names on file based storages: `dir`, `btrfs`, `nfs`, `cifs`, `cephfs` (reference 08 §3.1).

use super::{BaseName, InvalidVolumeName, VolumeFormat, VolumeName, decimal};
use crate::kind::{Content, ImageFormat};

/// Compressions that container templates may have.
const TEMPLATE_COMPRESSIONS: [&str; 4] = ["gz", "xz", "zst", "bz2"];
/// Compressions that backup archives may have.
const BACKUP_COMPRESSIONS: [&str; 4] = ["gz", "lzo", "zst", "bz2"];

/// Reads a volume name of a file based storage.
pub(super) fn parse(volume: &str) -> Result<VolumeName, InvalidVolumeName> {
    let invalid = || InvalidVolumeName::Directory(volume.to_owned());
    let (first, rest) = volume.split_once('/').ok_or_else(invalid)?;
    if let Some(owner) = decimal(first) {
        return parse_image(owner, rest);
    }
    let raw = Some(VolumeFormat::Image(ImageFormat::Raw));
    match first {
        "iso" if is_iso_file(rest) => Ok(VolumeName::new(Content::Iso, rest, raw)),
        "vztmpl" if is_template_file(rest) => Ok(VolumeName::new(Content::Vztmpl, rest, raw)),
        "backup" if is_backup_file(rest) => Ok(VolumeName {
            owner: backup_owner(rest),
            ..VolumeName::new(Content::Backup, rest, raw)
        }),
        "snippets" if is_component(rest) => Ok(VolumeName::new(Content::Snippets, rest, raw)),
        "import" => parse_import(rest).ok_or_else(invalid),
        _ => Err(invalid()),
    }
}

/// `NAME`, or `BASE/OWNER/NAME` of a linked clone.
fn parse_image(first_owner: u32, rest: &str) -> Result<VolumeName, InvalidVolumeName> {
    let parts: Vec<&str> = rest.split('/').collect();
    if let [base, owner, name] = parts[..]
        && let Some(owner) = decimal(owner)
    {
        parse_image_file_name(base)?;
        let format = parse_image_file_name(name)?;
        return Ok(VolumeName {
            base: Some(BaseName {
                name: base.to_owned(),
                owner: first_owner,
            }),
            ..VolumeName::image(name, owner, format)
        });
    }
    let format = parse_image_file_name(rest)?;
    Ok(VolumeName::image(rest, first_owner, format))
}

/// The format of a disk's file, by its name.
///
/// # Errors
/// The name is no disk's: a blank or slash in it, no known extension, or a snapshot's file.
pub fn parse_image_file_name(name: &str) -> Result<ImageFormat, InvalidVolumeName> {
    let invalid = || InvalidVolumeName::FileName(name.to_owned());
    if name.contains(|c: char| c == '/' || c == '\0' || c.is_whitespace()) {
        return Err(invalid());
    }
    let (_, format) = ImageFormat::of_file_name(name).ok_or_else(invalid)?;
    if name.starts_with("snap-") && format == ImageFormat::Qcow2 {
        return Err(InvalidVolumeName::Snapshot(name.to_owned()));
    }
    Ok(format)
}

/// Whether a text is one file name, and one that names a file rather than a directory's own entries.
fn is_component(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

/// Whether a file name is that of an installation medium: `.iso` or `.img` in any case.
pub fn is_iso_file(name: &str) -> bool {
    let extension = |extension: &str| ["iso", "img"].iter().any(|known| extension.eq_ignore_ascii_case(known));
    is_component(name) && has_stem(name, extension)
}

/// Whether a file name is that of a container template: `.tar`, or `.tar.` and a compression.
pub fn is_template_file(name: &str) -> bool {
    if !is_component(name) {
        return false;
    }
    let plain = TEMPLATE_COMPRESSIONS
        .iter()
        .find_map(|compression| strip_extension(name, compression))
        .unwrap_or(name);
    strip_extension(plain, "tar").is_some()
}

/// Whether a file name is that of a backup archive: `.tgz`, or `.tar` or `.vma` and perhaps a compression.
pub fn is_backup_file(name: &str) -> bool {
    if !is_component(name) {
        return false;
    }
    let plain = BACKUP_COMPRESSIONS
        .iter()
        .find_map(|compression| strip_extension(name, compression))
        .unwrap_or(name);
    let archive = ["tar", "vma"]
        .iter()
        .any(|extension| strip_extension(plain, extension).is_some());
    archive || strip_extension(name, "tgz").is_some()
}

/// Whether a file name is that of something to import.
pub fn is_import_file(name: &str) -> bool {
    import_format(name).is_some()
}

/// What stands before `.EXTENSION`; something must.
fn strip_extension<'a>(name: &'a str, extension: &str) -> Option<&'a str> {
    let stem = name.strip_suffix(extension)?.strip_suffix('.')?;
    (!stem.is_empty()).then_some(stem)
}

/// Whether the name has something before its last dot and an extension that is wanted after it.
fn has_stem(name: &str, wanted: impl Fn(&str) -> bool) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(stem, extension)| !stem.is_empty() && wanted(extension))
}

/// The guest in `vzdump-TYPE-<D>-…`.
fn backup_owner(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("vzdump-")?;
    let (kind, rest) = rest.split_once('-')?;
    let (digits, _) = rest.split_once('-')?;
    if ["openvz", "lxc", "qemu"].contains(&kind) {
        decimal(digits)
    } else {
        None
    }
}

/// Whether the characters of a name are those that imports may have: blank and `[A-Za-z0-9-.+=_]`.
fn is_import_text(text: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b" -.+=_".contains(&b);
    !text.is_empty() && text.bytes().all(known)
}

fn import_format(name: &str) -> Option<VolumeFormat> {
    let (stem, extension) = name.rsplit_once('.')?;
    if !is_import_text(stem) {
        return None;
    }
    match extension {
        "ova" => Some(VolumeFormat::Ova),
        "ovf" => Some(VolumeFormat::Ovf),
        _ => disk_format(extension).map(VolumeFormat::Image),
    }
}

/// The formats that disks to import may have.
fn disk_format(extension: &str) -> Option<ImageFormat> {
    let format = extension.parse().ok()?;
    (format != ImageFormat::Subvol).then_some(format)
}

fn parse_import(rest: &str) -> Option<VolumeName> {
    let format = match rest.split_once('/') {
        None => import_format(rest)?,
        Some((archive, disk)) => {
            let (stem, extension) = disk.rsplit_once('.')?;
            let in_ova = strip_extension(archive, "ova").is_some_and(is_import_text) && is_import_text(stem);
            VolumeFormat::InOva(disk_format(extension).filter(|_| in_ova)?)
        }
    };
    Some(VolumeName::new(Content::Import, rest, Some(format)))
}
