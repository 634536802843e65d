//! What one step of a cycle of the statistics daemon saw, for those that are told of it as it was seen: external metric
//! servers and those who ask for all figures at once ([`crate::pull`]). Reference 04 §16.3.
//!
//! Unlike a [`Record`](crate::Record), which has a fixed row of figures, an object has all that the step knows.

use std::collections::BTreeMap;

use pve_schema::ids::{StorageId, VmId};
use serde_json::{Map, Value};

/// What is known of one thing: a row of a list, or for the node a tree.
pub type Object = Map<String, Value>;

/// What one step of a cycle saw (reference 04 §16.3).
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// When it was seen, Unix seconds.
    pub time: i64,
    /// What was seen.
    pub objects: Objects,
}

/// The things that one step looks at.
#[derive(Debug, Clone, PartialEq)]
pub enum Objects {
    /// The node: `uptime`; `cpustat`, `memory`, `blockstat` with figures, `nics` with an object for each interface.
    Node(Object),
    /// Its VMs: their rows with all details.
    Qemu(BTreeMap<VmId, Object>),
    /// Its containers: their rows.
    Lxc(BTreeMap<VmId, Object>),
    /// Its storages: `total`, `avail`, `used`, `active`, `enabled`, `shared`, `type`, `content`. One that is not active
    /// has zeros, and is not told to metric servers.
    Storage(BTreeMap<StorageId, Object>),
}

impl Objects {
    /// The word for the step, as the lists of pulled figures have it.
    pub fn subsystem(&self) -> &'static str {
        match self {
            Self::Node(_) => "node",
            Self::Qemu(_) => "qemu",
            Self::Lxc(_) => "lxc",
            Self::Storage(_) => "storage",
        }
    }
}
