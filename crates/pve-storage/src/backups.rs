//! Pruning a storage's backups (reference 08 §8.3, 05 §11.3).

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use pve_schema::ids::{StorageId, VmId};
use serde::Serialize;

use crate::VolumeEntry;
use crate::archive::ArchiveInfo;
use crate::config::Retention;
use crate::error::StorageError;
use crate::kind::Content;
use crate::prune::{self, Mark};
use crate::storages::Storages;

/// One row of what pruning would do **client-visible**.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PruneEntry {
    /// The volume id.
    pub volid: String,
    /// When it was made: Unix seconds.
    pub ctime: i64,
    /// What becomes of it.
    #[serde(serialize_with = "mark_word")]
    pub mark: Mark,
    /// The type of its guest, or `unknown`.
    pub r#type: &'static str,
    /// The guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vmid: Option<u32>,
}

fn mark_word<S: serde::Serializer>(mark: &Mark, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(mark.as_str())
}

impl Storages {
    /// What becomes of a storage's backups, by a retention or by its own.
    ///
    /// # Errors
    /// The storage holds no backups or cannot be used; nobody says what to keep.
    pub fn prune_marks(
        &self,
        storage: &StorageId,
        retention: Option<Retention>,
        vmid: Option<VmId>,
        guest_type: Option<&str>,
    ) -> Result<Vec<PruneEntry>, StorageError> {
        let config = self.check_enabled(storage, None)?;
        if !config.holds(Content::Backup) {
            return Err(StorageError::NoBackups(storage.clone()));
        }
        let retention = retention.or_else(|| config.retention());
        let retention = retention.ok_or_else(|| StorageError::NoRetention(storage.clone()))?;
        let backups = self.list(storage, Some(Content::Backup), vmid)?;
        let wanted = |row: &VolumeEntry| guest_type.is_none_or(|wanted| row.subtype == Some(wanted));
        Ok(marks(&retention, backups.into_iter().filter(wanted)))
    }
}

/// Marks backups guest by guest.
fn marks(retention: &Retention, backups: impl Iterator<Item = VolumeEntry>) -> Vec<PruneEntry> {
    let mut entries: Vec<PruneEntry> = backups.map(entry).collect();
    let mut groups: BTreeMap<(&'static str, Option<u32>), Vec<usize>> = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        if entry.mark == Mark::Keep {
            groups.entry((entry.r#type, entry.vmid)).or_default().push(at);
        }
    }
    let zone = TimeZone::system();
    for group in groups.into_values() {
        let times: Vec<i64> = group.iter().filter_map(|at| Some(entries.get(*at)?.ctime)).collect();
        for (at, mark) in group.iter().zip(prune::mark(retention, &times, &zone)) {
            if let Some(entry) = entries.get_mut(*at) {
                entry.mark = mark;
            }
        }
    }
    entries
}

/// A backup before its group is looked at: what takes no part in pruning is marked already.
fn entry(row: VolumeEntry) -> PruneEntry {
    let name = row.volid.rsplit('/').next().unwrap_or_default();
    let standard = ArchiveInfo::of_listed(name).is_ok_and(|info| info.is_standard());
    let mark = match (standard, row.protected) {
        (_, Some(_)) => Mark::Protected,
        (false, None) => Mark::Renamed,
        (true, None) => Mark::Keep,
    };
    PruneEntry {
        ctime: row.ctime.unwrap_or_default(),
        mark,
        r#type: row.subtype.unwrap_or("unknown"),
        vmid: row.vmid,
        volid: row.volid,
    }
}
