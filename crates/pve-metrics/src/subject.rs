//! What figures are about.

use std::fmt;

use pve_schema::ids::{NodeName, StorageId, VmId};

/// What figures are about. Its text is the key of its record and the place of its file: `pve-vm-9.0/100`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A node.
    Node(NodeName),
    /// A guest of any kind, wherever it is.
    Guest(VmId),
    /// A storage as one node sees it.
    Storage(NodeName, StorageId),
}

impl Subject {
    /// What its file remembers: names of the sources in their order (reference 04 §13.1).
    pub(crate) fn sources(&self) -> &'static [&'static str] {
        match self {
            Self::Node(_) => &[
                "loadavg",
                "maxcpu",
                "cpu",
                "iowait",
                "memtotal",
                "memused",
                "swaptotal",
                "swapused",
                "roottotal",
                "rootused",
                "netin",
                "netout",
                "memavailable",
                "arcsize",
                "pressurecpusome",
                "pressureiosome",
                "pressureiofull",
                "pressurememorysome",
                "pressurememoryfull",
            ],
            Self::Guest(_) => &[
                "maxcpu",
                "cpu",
                "maxmem",
                "mem",
                "maxdisk",
                "disk",
                "netin",
                "netout",
                "diskread",
                "diskwrite",
                "memhost",
                "pressurecpusome",
                "pressurecpufull",
                "pressureiosome",
                "pressureiofull",
                "pressurememorysome",
                "pressurememoryfull",
            ],
            Self::Storage(..) => &["total", "used"],
        }
    }

    /// The key of its record in releases before 9.0.
    pub(crate) fn key_before_9(&self) -> String {
        match self {
            Self::Guest(vmid) => format!("pve2.3-vm/{vmid}"),
            Self::Node(_) | Self::Storage(..) => self.folder_before_9(),
        }
    }

    /// The place of its file in releases before 9.0.
    pub(crate) fn folder_before_9(&self) -> String {
        match self {
            Self::Node(node) => format!("pve2-node/{node}"),
            Self::Guest(vmid) => format!("pve2-vm/{vmid}"),
            Self::Storage(node, storage) => format!("pve2-storage/{node}/{storage}"),
        }
    }

    /// How many fields of a record come before its time, which the file does not remember.
    pub(crate) fn fields_before_time(&self) -> usize {
        match self {
            Self::Node(_) => 2,
            Self::Guest(_) => 4,
            Self::Storage(..) => 0,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "pve-node-9.0/{node}"),
            Self::Guest(vmid) => write!(f, "pve-vm-9.0/{vmid}"),
            Self::Storage(node, storage) => write!(f, "pve-storage-9.0/{node}/{storage}"),
        }
    }
}
