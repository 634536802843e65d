//! Names of users, pools, storages, volumes, bridges; privileges; content types.

use super::{Checked, digits, number_in, when};
use crate::format::NamedFormat;
use crate::ids::{StorageId, UserId, VolumeId};

/// `string`: anything.
pub fn string(_: &'static NamedFormat, _: &str) -> Checked {
    Ok(())
}

/// `pve-userid`: `NAME@REALM`, 3 to 64 characters.
pub fn pve_userid(_: &'static NamedFormat, value: &str) -> Checked {
    value.parse::<UserId>().map(drop).map_err(|error| error.to_string())
}

/// Deepest nesting of pools.
const MAX_POOL_LEVELS: usize = 3;

/// `pve-poolid`: up to three names with `/` between them.
pub fn pve_poolid(format: &'static NamedFormat, value: &str) -> Checked {
    let name = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let levels: Vec<&str> = value.split('/').collect();
    if levels.len() > MAX_POOL_LEVELS {
        return Err(format!(
            "pool name '{value}' nested too deeply (max levels = {MAX_POOL_LEVELS})"
        ));
    }
    when(levels.into_iter().all(name), format, value)
}

/// `pve-priv`: a known privilege.
pub fn pve_priv(format: &'static NamedFormat, value: &str) -> Checked {
    when(format.words.contains(&value), format, value)
}

/// `pve-storage-content`: a known content type.
pub fn pve_storage_content(format: &'static NamedFormat, value: &str) -> Checked {
    when(format.words.contains(&value), format, value)
}

/// `pve-volume-id-or-absolute-path`
pub fn pve_volume_id_or_absolute_path(format: &'static NamedFormat, value: &str) -> Checked {
    when(
        value.starts_with('/') || value.parse::<VolumeId>().is_ok(),
        format,
        value,
    )
}

/// `pve-volume-id-or-qm-path`
pub fn pve_volume_id_or_qm_path(format: &'static NamedFormat, value: &str) -> Checked {
    if matches!(value, "none" | "cdrom") {
        return Ok(());
    }
    pve_volume_id_or_absolute_path(format, value)
}

/// One entry of an id map: `0`, `1`, `ID` or `ID:ID`.
fn pair(value: &str, id: impl Fn(&str) -> Checked) -> Checked {
    if matches!(value, "0" | "1") {
        return Ok(());
    }
    let (source, target) = value.split_once(':').unwrap_or((value, value));
    id(source)
        .and_then(|()| id(target))
        .map_err(|inner| format!("entry '{value}' contains invalid ID - {inner}"))
}

/// `storage-pair`
pub fn storage_pair(_: &'static NamedFormat, value: &str) -> Checked {
    pair(value, |id| {
        id.parse::<StorageId>().map(drop).map_err(|error| error.to_string())
    })
}

/// `bridge-pair`
pub fn bridge_pair(_: &'static NamedFormat, value: &str) -> Checked {
    pair(value, |id| {
        let fits = !id.is_empty() && id.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c));
        if fits {
            Ok(())
        } else {
            Err(format!("invalid bridge ID '{id}'"))
        }
    })
}

/// Guests below this number are reserved.
const FIRST_GUEST: u64 = 100;

/// `pve-replication-job-id`: `GUEST-JOBNUM`.
pub fn pve_replication_job_id(format: &'static NamedFormat, value: &str) -> Checked {
    let refuse = || Err(format.refusal(value));
    let Some((guest, job)) = value
        .split_once('-')
        .filter(|(guest, job)| digits(guest) && digits(job))
    else {
        return refuse();
    };
    if number_in(job, 0..=u64::MAX).is_none() {
        return refuse();
    }
    match number_in(guest, 0..=u64::MAX) {
        None => refuse(),
        Some(guest) if guest < FIRST_GUEST => Err(format!(
            "{} (guest IDs < {FIRST_GUEST} are reserved)",
            format.refusal(value)
        )),
        Some(_) => Ok(()),
    }
}

/// Most characters of an overriding path, and of each of its components.
const MAX_PATH: usize = 1023;
const MAX_COMPONENT: usize = 255;

/// `pve-dir-override`: `CONTENT=PATH`, a path without `..`, dots at the end or two in a row.
pub fn pve_dir_override(format: &'static NamedFormat, value: &str) -> Checked {
    /// The content types of `pve-storage-content`.
    const CONTENT: [&str; 8] = [
        "images", "rootdir", "vztmpl", "iso", "backup", "snippets", "none", "import",
    ];
    // `^[^.]*(?:\.?[^.]+)+$`: something stands behind every dot, and it is no dot.
    let dots = |path: &str| !path.is_empty() && !path.ends_with('.') && !path.contains("..");
    let lengths =
        |path: &str| path.len() < MAX_PATH && path.split('/').all(|component| component.len() < MAX_COMPONENT);
    let fits = value
        .split_once('=')
        .is_some_and(|(content, path)| CONTENT.contains(&content) && dots(path) && lengths(path));
    when(fits, format, value)
}
