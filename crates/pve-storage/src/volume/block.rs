//! Names on storages that are not directories of files (reference 08 §3.2).

use super::{BaseName, InvalidVolumeName, VolumeFormat, VolumeName, decimal, owner_after_prefix};
use crate::kind::{Content, ImageFormat};

/// Whether LVM takes a name: letters, digits and inner `-_.`, two characters at least.
pub(super) fn is_lvm_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let inner = bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b));
    let ends = |end: Option<&u8>| end.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() >= 2 && inner && ends(bytes.first()) && ends(bytes.last())
}

fn check_lvm_name(name: &str) -> Result<(), InvalidVolumeName> {
    if is_lvm_name(name) {
        Ok(())
    } else {
        Err(InvalidVolumeName::LvmCharacters(name.to_owned()))
    }
}

pub(super) fn parse_lvm(name: &str) -> Result<VolumeName, InvalidVolumeName> {
    check_lvm_name(name)?;
    let owner = owner_after_prefix(name, &["vm"]).ok_or_else(|| InvalidVolumeName::Lvm(name.to_owned()))?;
    let format = if name.ends_with(".qcow2") {
        ImageFormat::Qcow2
    } else {
        ImageFormat::Raw
    };
    Ok(VolumeName::image(name, owner, format))
}

pub(super) fn parse_lvmthin(name: &str) -> Result<VolumeName, InvalidVolumeName> {
    check_lvm_name(name)?;
    let owner = owner_after_prefix(name, &["vm", "base"]).ok_or_else(|| InvalidVolumeName::Lvm(name.to_owned()))?;
    Ok(VolumeName::image(name, owner, ImageFormat::Raw))
}

/// `[BASE/]NAME` without white space, a further slash, or the marks of snapshots.
fn parse_with_base(volume: &str, bases: &[&str], names: &[&str]) -> Option<VolumeName> {
    let (base, name) = match volume.split_once('/') {
        Some((base, name)) => (Some(base), name),
        None => (None, volume),
    };
    let plain = |text: &str| !text.contains(|c: char| c.is_whitespace() || "/@\0".contains(c));
    if !plain(name) || !base.is_none_or(plain) {
        return None;
    }
    let owner = owner_after_prefix(name, names)?;
    let format = if name.starts_with("subvol-") || name.starts_with("basevol-") {
        ImageFormat::Subvol
    } else {
        ImageFormat::Raw
    };
    let mut parsed = VolumeName::image(name, owner, format);
    if let Some(base) = base {
        parsed.base = Some(BaseName {
            name: base.to_owned(),
            owner: owner_after_prefix(base, bases)?,
        });
    }
    Some(parsed)
}

pub(super) fn parse_zfs(volume: &str) -> Result<VolumeName, InvalidVolumeName> {
    let names = ["base", "basevol", "vm", "subvol"];
    parse_with_base(volume, &["base", "basevol"], &names).ok_or_else(|| InvalidVolumeName::Zfs(volume.to_owned()))
}

pub(super) fn parse_rbd(volume: &str) -> Result<VolumeName, InvalidVolumeName> {
    parse_with_base(volume, &["base"], &["base", "vm"]).ok_or_else(|| InvalidVolumeName::Rbd(volume.to_owned()))
}

/// `d.d.d.NAME`; NAME is the volume's name, that of its link in `/dev/disk/by-id`.
pub(super) fn parse_iscsi(volume: &str) -> Result<VolumeName, InvalidVolumeName> {
    let mut parts = volume.splitn(4, '.');
    let numbers = parts.by_ref().take(3).filter(|part| is_digits(part)).count();
    let name = parts.next().unwrap_or_default();
    let plain =
        !name.is_empty() && name != "." && name != ".." && !name.contains(|c: char| c == '/' || c.is_whitespace());
    if numbers != 3 || !plain {
        return Err(InvalidVolumeName::Iscsi(volume.to_owned()));
    }
    Ok(VolumeName::new(
        Content::Images,
        name,
        Some(VolumeFormat::Image(ImageFormat::Raw)),
    ))
}

pub(super) fn parse_iscsidirect(volume: &str) -> Result<VolumeName, InvalidVolumeName> {
    let lun = volume.strip_prefix("lun").and_then(decimal);
    lun.ok_or_else(|| InvalidVolumeName::Iscsi(volume.to_owned()))?;
    Ok(VolumeName::new(
        Content::Images,
        volume,
        Some(VolumeFormat::Image(ImageFormat::Raw)),
    ))
}

/// `backup/TYPE/ID/YYYY-MM-DDTHH:MM:SSZ`.
pub(super) fn parse_pbs(volume: &str) -> Result<VolumeName, InvalidVolumeName> {
    let parts: Vec<&str> = volume.split('/').collect();
    let parsed = match parts[..] {
        ["backup", kind, id, time] if is_word(kind) && is_word(&id.replace(['-', '.'], "_")) && is_pbs_time(time) => {
            Some((kind, id))
        }
        _ => None,
    };
    let (kind, id) = parsed.ok_or_else(|| InvalidVolumeName::Pbs(volume.to_owned()))?;
    let name = volume.strip_prefix("backup/").unwrap_or(volume);
    Ok(VolumeName {
        owner: decimal(id),
        ..VolumeName::new(Content::Backup, name, Some(VolumeFormat::Pbs(kind.to_owned())))
    })
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Digits and marks stand where `2026-02-03T04:05:06Z` has them.
fn is_pbs_time(text: &str) -> bool {
    let shape = |b: u8| if b.is_ascii_digit() { b'0' } else { b };
    text.bytes().map(shape).eq(*b"0000-00-00T00:00:00Z")
}

/// `DATACENTER/DATASTORE/PATH`.
pub(super) fn parse_esxi(volume: &str) -> Result<VolumeName, InvalidVolumeName> {
    let invalid = || InvalidVolumeName::Esxi(volume.to_owned());
    let parts: Vec<&str> = volume.split('/').collect();
    if parts.len() < 3 || parts.iter().any(|part| ["", ".", ".."].contains(part)) {
        return Err(invalid());
    }
    if volume.ends_with(".vmx") {
        return Ok(VolumeName::new(Content::Import, volume, Some(VolumeFormat::Vmx)));
    }
    let format = if volume.ends_with(".vmdk") {
        ImageFormat::Vmdk
    } else {
        ImageFormat::Raw
    };
    Ok(VolumeName::new(
        Content::Images,
        volume,
        Some(VolumeFormat::Image(format)),
    ))
}
