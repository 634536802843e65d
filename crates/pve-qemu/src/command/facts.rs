//! What a command line depends on besides the config: facts of the node and of the volumes, as data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use pve_schema::Site;
use pve_schema::ids::VmId;
use serde_json::{Map, Value};

use crate::accel::Accel;
use crate::config::{DriveKey, MachineType, Version, VmConfig};

/// Who made the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuVendor {
    /// Intel.
    Intel,
    /// AMD.
    Amd,
    /// Somebody else, or nobody knows.
    Other,
}

/// Facts of the node.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// QEMU's binary. Under the name `kvm` QEMU takes KVM by itself; under any other it is told.
    pub program: PathBuf,
    /// Its version.
    pub qemu: Version,
    /// The machine types that it knows; empty when they were not asked for.
    pub machines: BTreeSet<String>,
    /// What runs the guest: decided by [`crate::accel::decide`].
    pub accel: Accel,
    /// The number of processors.
    pub cpus: u64,
    /// Who made them.
    pub vendor: CpuVendor,
    /// The width of their physical addresses.
    pub physical_bits: Option<u64>,
    /// Whether QEMU has its SPICE parts.
    pub spice: bool,
    /// Whether `io_uring` may be used.
    pub io_uring: bool,
    /// Whether `/dev/vhost-net` is there.
    pub vhost_net: bool,
    /// The firmware files that are installed.
    pub firmware: BTreeSet<PathBuf>,
    /// The MTU of each bridge that exists.
    pub bridges: BTreeMap<String, u64>,
    /// The node's iSCSI name, if it has one and QEMU has the iSCSI driver.
    pub iscsi_initiator: Option<String>,
}

/// How QEMU reads a drive.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockDriver {
    /// A file.
    File(PathBuf),
    /// A block device.
    HostDevice(PathBuf),
    /// The node's CD-ROM drive.
    HostCdrom(PathBuf),
    /// Anything else, with the driver's own options (`rbd`, `iscsi`, `nbd`).
    Other(Map<String, Value>),
}

/// A drive's volume as QEMU is to read it.
#[derive(Debug, Clone, PartialEq)]
pub struct Backing {
    /// How it is read.
    pub driver: BlockDriver,
    /// The image format: `raw`, `qcow2`, `vmdk`.
    pub format: String,
    /// Whether direct I/O is the default (not on btrfs with copy-on-write).
    pub direct: bool,
    /// Whether the storage takes `io_uring` well (not thick LVM, CIFS, mapped RBD without direct I/O).
    pub io_uring: bool,
    /// The answer to a SCSI inquiry of a passed-through device: 0 for a disk, 1 for a tape.
    pub scsi_type: Option<u8>,
}

impl Backing {
    /// A file with the usual abilities.
    pub fn file(path: impl Into<PathBuf>, format: impl Into<String>) -> Self {
        Self {
            driver: BlockDriver::File(path.into()),
            format: format.into(),
            direct: true,
            io_uring: true,
            scsi_type: None,
        }
    }

    /// A block device with the usual abilities.
    pub fn device(path: impl Into<PathBuf>) -> Self {
        Self {
            driver: BlockDriver::HostDevice(path.into()),
            ..Self::file("", "raw")
        }
    }
}

/// How the guest comes to life.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StartMode {
    /// From power-off.
    #[default]
    Cold,
    /// From power-off, but it waits for the word to go.
    Paused,
    /// With the memory that was saved into a file or block device.
    Saved(PathBuf),
    /// With what another QEMU sends, from a URI that QEMU understands; `defer` to be told later.
    Incoming(String),
}

/// What a command line is made of.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Where the instance lives: its sockets are below this site's root.
    pub site: &'a Site,
    /// The number.
    pub vmid: VmId,
    /// The config.
    pub vm: VmConfig<'a>,
    /// The node.
    pub host: &'a HostFacts,
    /// The volume of each drive that has one (and the path of the node's CD-ROM drive).
    pub backings: &'a BTreeMap<DriveKey, Backing>,
    /// How the guest comes to life.
    pub mode: &'a StartMode,
    /// A machine type to use instead of the config's: that of a saved or migrated guest.
    pub forced_machine: Option<MachineType>,
    /// A `-cpu` argument to use instead of the config's, for the same reason.
    pub forced_cpu: Option<&'a str>,
    /// A free port for SPICE, needed where [`super::needs_spice`] says so.
    pub spice_port: Option<u16>,
}
