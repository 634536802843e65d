//! The two kinds of guests.

use std::fmt;

use pve_schema::ids::{NodeName, VmId};
use serde::{Deserialize, Serialize};

/// A kind of guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuestKind {
    /// A virtual machine.
    Qemu,
    /// A container.
    Lxc,
}

impl GuestKind {
    /// The word for a guest in messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Qemu => "VM",
            Self::Lxc => "CT",
        }
    }

    /// The name of the folder with the configs.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Qemu => "qemu-server",
            Self::Lxc => "lxc",
        }
    }

    /// A config's path below `/etc/pve`.
    pub fn config_path(self, node: &NodeName, vmid: VmId) -> String {
        format!("nodes/{node}/{}/{vmid}.conf", self.folder())
    }

    /// The built-in path of the file whose `flock` serialises changes of a config (reference 06a §1, 07 §1).
    pub fn lock_path(self, vmid: VmId) -> String {
        match self {
            Self::Qemu => format!("/var/lock/qemu-server/lock-{vmid}.conf"),
            Self::Lxc => format!("/run/lock/lxc/pve-config-{vmid}.lock"),
        }
    }
}

impl fmt::Display for GuestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
