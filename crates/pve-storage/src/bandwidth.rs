//! How fast volumes may be copied (reference 08 §4.2).

use std::collections::BTreeSet;
use std::str::FromStr;

use pve_access::UserConfig;
use pve_cfs::Datacenter;
use pve_schema::ids::{AuthId, StorageId};

use crate::error::StorageError;
use crate::storages::Storages;

/// Tells whether the caller holds a privilege on a path.
pub type Holds<'a> = &'a dyn Fn(&str, &str) -> bool;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A guest is copied.
    Clone,
    /// A guest moves to another node.
    Migration,
    /// A volume moves to another storage.
    Move,
    /// A guest comes back from a backup.
    Restore,
}

/// The `bwlimit` option: KiB per second, 0 is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    clone: Option<f64>,
    default: Option<f64>,
    migration: Option<f64>,
    r#move: Option<f64>,
    restore: Option<f64>,
}

/// A text that is no `bwlimit` option.
#[derive(Debug, thiserror::Error)]
#[error("invalid bandwidth limit '{0}'")]
pub struct InvalidLimits(String);

impl FromStr for Limits {
    type Err = InvalidLimits;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut limits = Self::default();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let invalid = || InvalidLimits(part.to_owned());
            let (key, value) = part.split_once('=').ok_or_else(invalid)?;
            let value: f64 = value.parse().map_err(|_| invalid())?;
            if !value.is_finite() || value < 0.0 {
                return Err(invalid());
            }
            *match key {
                "clone" => &mut limits.clone,
                "default" => &mut limits.default,
                "migration" => &mut limits.migration,
                "move" => &mut limits.r#move,
                "restore" => &mut limits.restore,
                _ => return Err(invalid()),
            } = Some(value);
        }
        Ok(limits)
    }
}

impl Limits {
    fn of(&self, operation: Operation) -> Option<f64> {
        let own = match operation {
            Operation::Clone => self.clone,
            Operation::Migration => self.migration,
            Operation::Move => self.r#move,
            Operation::Restore => self.restore,
        };
        own.or(self.default)
    }
}

/// The limit in KiB per second that holds for an operation on some storages; `None` is without limit.
///
/// `storages` are names with their `bwlimit` options, `wanted` is what the caller asks for, `datacenter` the option in
/// `datacenter.cfg`.
pub fn limit(
    operation: Operation,
    storages: &[(&str, Option<Limits>)],
    wanted: Option<f64>,
    datacenter: Option<Limits>,
    holds: Holds<'_>,
) -> Option<f64> {
    if wanted.is_some() && holds("/storage", "Datastore.Allocate") {
        return wanted.filter(|limit| *limit > 0.0);
    }
    let mut limit = wanted;
    // Without storages only the datacenter can say.
    let mut ask_datacenter = storages.is_empty();
    for (storage, limits) in storages {
        if wanted.is_some() && holds(&format!("/storage/{storage}"), "Datastore.Allocate") {
            continue;
        }
        match limits.as_ref().and_then(|limits| limits.of(operation)) {
            Some(own) => limit = lower(limit, own),
            None => ask_datacenter = true,
        }
    }
    let free = wanted.is_some() && holds("/", "Sys.Modify");
    if ask_datacenter
        && !free
        && let Some(own) = datacenter.and_then(|limits| limits.of(operation))
    {
        limit = lower(limit, own);
    }
    limit.filter(|limit| *limit > 0.0)
}

/// The lower of two limits, of which 0 is none.
fn lower(limit: Option<f64>, own: f64) -> Option<f64> {
    match limit.filter(|limit| *limit > 0.0) {
        Some(limit) if own > 0.0 => Some(limit.min(own)),
        Some(limit) => Some(limit),
        None => Some(own),
    }
}

impl Storages {
    /// The limit in KiB per second that holds for an operation on some storages; `None` is without limit. `wanted` is
    /// what the caller asks for.
    ///
    /// # Errors
    /// `datacenter.cfg` cannot be read.
    pub fn bandwidth_limit(
        &self,
        rights: &UserConfig,
        caller: &AuthId,
        operation: Operation,
        storages: &BTreeSet<StorageId>,
        wanted: Option<f64>,
    ) -> Result<Option<f64>, StorageError> {
        let option = |storage: &StorageId| self.config(storage).ok()?.get("bwlimit")?.parse().ok();
        let storages: Vec<_> = storages
            .iter()
            .map(|storage| (storage.as_str(), option(storage)))
            .collect();
        let options = Datacenter::read(self.cfs())?;
        let datacenter = options.text("bwlimit").and_then(|limits| limits.parse().ok());
        let holds = |path: &str, privilege: &str| rights.has(caller, path, &[privilege]);
        Ok(limit(operation, &storages, wanted, datacenter, &holds))
    }
}

#[cfg(test)]
mod tests {
    use super::Operation::{Clone, Migration, Restore};
    use super::*;

    /// Reference 08, vector V9.
    #[test]
    fn the_lowest_limit_counts() {
        let limits = |text: &str| Some(text.parse::<Limits>().unwrap());
        let a = ("a", limits("restore=1000,default=500"));
        let b = ("b", limits("clone=200"));
        let c = ("c", None);
        let datacenter = limits("default=800,clone=100");
        let nobody = |_: &str, _: &str| false;
        for (operation, storages, wanted, expected) in [
            (Restore, vec![a], None, 1000.0),
            (Clone, vec![a], None, 500.0),
            (Clone, vec![a, b], None, 200.0),
            (Clone, vec![c], None, 100.0),
            (Restore, vec![b], None, 800.0),
            (Restore, vec![a], Some(5000.0), 1000.0),
            (Restore, vec![a], Some(300.0), 300.0),
            (Restore, vec![a], Some(0.0), 1000.0),
            (Migration, vec![], None, 800.0),
        ] {
            assert_eq!(limit(operation, &storages, wanted, datacenter, &nobody), Some(expected));
        }
        let on = |wanted: &'static str| move |path: &str, _: &str| path == wanted;
        assert_eq!(
            limit(Restore, &[a], Some(5000.0), datacenter, &on("/storage")),
            Some(5000.0)
        );
        assert_eq!(
            limit(Restore, &[a], Some(5000.0), datacenter, &on("/storage/a")),
            Some(5000.0)
        );
        assert_eq!(limit(Restore, &[c], Some(5000.0), datacenter, &on("/")), Some(5000.0));
        assert_eq!(limit(Restore, &[c], None, None, &nobody), None);
        assert!("restore=x".parse::<Limits>().is_err() && "fast=1".parse::<Limits>().is_err());
    }
}
