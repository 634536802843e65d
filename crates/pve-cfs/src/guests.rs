//! Which guest lives where, and which number is free.
//!
//! The directory that holds a guest's config decides which node owns the guest (reference 04 §1.1). What is in the
//! config is the affair of the guest crates.

use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use pve_schema::ids::{NodeName, VmId};
use serde::{Deserialize, Serialize};

use crate::cached::GUESTS;
use crate::{Cfs, CfsError};

/// What a guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuestKind {
    /// A virtual machine.
    Qemu,
    /// A container.
    Lxc,
}

impl GuestKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Qemu, Self::Lxc];

    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Lxc => "lxc",
        }
    }

    /// The folder below a node's directory.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Qemu => "qemu-server",
            Self::Lxc => "lxc",
        }
    }

    /// The word in messages.
    pub fn label(self) -> &'static str {
        match self {
            Self::Qemu => "VM",
            Self::Lxc => "CT",
        }
    }
}

impl fmt::Display for GuestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A guest that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestEntry {
    /// Its number.
    pub vmid: VmId,
    /// The node that owns it.
    pub node: NodeName,
    /// What it is.
    pub kind: GuestKind,
}

impl Cfs {
    /// All guests of the cluster, by number.
    ///
    /// # Errors
    /// As [`Cfs::list`].
    pub fn guests(&self) -> Result<Vec<GuestEntry>, CfsError> {
        let mut guests = Vec::new();
        for name in self.list("nodes")? {
            if let Ok(node) = name.parse::<NodeName>() {
                for kind in GuestKind::ALL {
                    self.guests_in(&node, kind, &mut guests)?;
                }
            }
        }
        guests.sort_by_key(|guest| guest.vmid);
        Ok(guests)
    }

    fn guests_in(&self, node: &NodeName, kind: GuestKind, found: &mut Vec<GuestEntry>) -> Result<(), CfsError> {
        let names = self.list(&format!("nodes/{node}/{}", kind.folder()))?;
        found.extend(
            names
                .iter()
                .filter_map(|name| config_vmid(name))
                .map(|vmid| GuestEntry {
                    vmid,
                    node: node.clone(),
                    kind,
                }),
        );
        Ok(())
    }

    /// Where a guest's config is, relative to `/etc/pve`.
    pub fn guest_config_path(kind: GuestKind, node: &NodeName, vmid: VmId) -> String {
        format!("nodes/{node}/{}/{vmid}.conf", kind.folder())
    }

    /// The guest of a number.
    ///
    /// # Errors
    /// As [`Cfs::list`].
    pub fn find_guest(&self, vmid: VmId) -> Result<Option<GuestEntry>, CfsError> {
        for name in self.list("nodes")? {
            let Ok(node) = name.parse::<NodeName>() else { continue };
            for kind in GuestKind::ALL {
                if self.exists(&Self::guest_config_path(kind, &node, vmid))? {
                    return Ok(Some(GuestEntry { vmid, node, kind }));
                }
            }
        }
        Ok(None)
    }

    /// Checks that a number is free; upstream's words name the guest that has it.
    ///
    /// # Errors
    /// [`CfsError::GuestExists`]; else as [`Cfs::list`].
    pub fn check_vmid_free(&self, vmid: VmId) -> Result<(), CfsError> {
        match self.find_guest(vmid)? {
            None => Ok(()),
            Some(guest) => Err(CfsError::GuestExists {
                kind: guest.kind.label(),
                vmid: vmid.get(),
                node: guest.node.to_string(),
            }),
        }
    }

    /// Options of a guest's config by name, without taking the config apart: only what stands before snapshots and
    /// pending changes counts, and an empty value is none (reference 04 §1.10).
    ///
    /// # Errors
    /// As [`Cfs::read_text`]. A guest that is gone has no options.
    pub fn guest_options(&self, guest: &GuestEntry, names: &[&str]) -> Result<BTreeMap<String, String>, CfsError> {
        let path = Self::guest_config_path(guest.kind, &guest.node, guest.vmid);
        let text = self.read(&path)?.unwrap_or_default();
        Ok(options(&String::from_utf8_lossy(&text), names))
    }

    /// What `make` makes of a guest's config (`None` for no file), from memory if the file is as it was. `what` tells apart
    /// what different callers make of one config.
    ///
    /// # Errors
    /// As [`Cfs::read`].
    pub fn cached_guest<T, F>(
        &self,
        kind: GuestKind,
        node: &NodeName,
        vmid: VmId,
        what: &'static str,
        make: F,
    ) -> Result<Arc<T>, CfsError>
    where
        T: Any + Send + Sync,
        F: FnOnce(Option<&[u8]>) -> T,
    {
        let path = Self::guest_config_path(kind, node, vmid);
        GUESTS.get(self.full_path(&path)?, what, |_| Ok(make(self.read(&path)?.as_deref())))
    }

    /// The options that the list of all guests shows, `tags` and `lock`; from memory for a config that is as it was,
    /// since all clients poll that list. Everything else as [`Cfs::guest_options`].
    ///
    /// # Errors
    /// As [`Cfs::guest_options`].
    pub fn listed_options(&self, guest: &GuestEntry) -> Result<Arc<BTreeMap<String, String>>, CfsError> {
        let path = Self::guest_config_path(guest.kind, &guest.node, guest.vmid);
        GUESTS.get(self.full_path(&path)?, "listed", |_| {
            self.guest_options(guest, &["tags", "lock"])
        })
    }

    /// The lowest free number of `lower..upper`.
    ///
    /// # Errors
    /// [`CfsError::NoFreeVmId`]; else as [`Cfs::list`].
    pub fn next_free_vmid(&self, lower: u32, upper: u32) -> Result<VmId, CfsError> {
        let taken: HashSet<u32> = self.guests()?.iter().map(|guest| guest.vmid.get()).collect();
        (lower..upper)
            .filter(|number| !taken.contains(number))
            .find_map(|number| VmId::try_from(number).ok())
            .ok_or(CfsError::NoFreeVmId { lower, upper })
    }
}

fn options(text: &str, names: &[&str]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for line in text.lines().take_while(|line| !line.starts_with('[')) {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if !names.contains(&name) {
            continue;
        }
        match value.trim() {
            "" => found.remove(name),
            value => found.insert(name.to_owned(), value.to_owned()),
        };
    }
    found
}

/// The number in a config's file name.
fn config_vmid(name: &str) -> Option<VmId> {
    name.strip_suffix(".conf")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_before_the_first_section() {
        let text = "#tags: no\ntags: x\nlock:\n name: b\nmemory: 5\ntags:  a;b \n[snap]\nlock: backup\n";
        let found = options(text, &["tags", "lock"]);
        assert_eq!(found, BTreeMap::from([("tags".to_owned(), "a;b".to_owned())]));
    }

    /// Reference 04 §20, vector 7.
    #[test]
    fn config_names() {
        for (name, vmid) in [
            ("0100.conf", None),
            ("100.conf.tmp.77", None),
            ("100.conf", Some(100)),
            ("4294967296.conf", None),
            ("+100.conf", None),
            (".conf", None),
        ] {
            assert_eq!(config_vmid(name).map(VmId::get), vmid, "{name}");
        }
    }
}
