//! Why no command line can be made of a config.

use pve_schema::{Failure, ParamErrors};

use crate::config::ConfigError;

/// Why no command line can be made of a config.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The config itself is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A key that this release does not carry out.
    #[error("unable to use '{key}' - {reason}")]
    Unsupported {
        /// The key.
        key: String,
        /// What is missing.
        reason: &'static str,
    },
    /// More virtual CPUs than the node has.
    #[error("MAX {0} vcpus allowed per VM on this node")]
    TooManyCpus(u64),
    /// QEMU is older than the machine type.
    #[error("Installed QEMU version '{qemu}' is too old to run machine type '{machine}', please upgrade node '{node}'")]
    QemuTooOld {
        /// The version.
        qemu: String,
        /// The machine type.
        machine: String,
        /// The node.
        node: String,
    },
    /// The machine type's revision is newer than what is known here.
    #[error(
        "Installed qemu-server (max feature level for {version} is pve{known}) is too old to run machine type \
         '{machine}', please upgrade node '{node}'"
    )]
    RevisionTooNew {
        /// The machine version.
        version: String,
        /// The highest revision known.
        known: u32,
        /// The machine type.
        machine: String,
        /// The node.
        node: String,
    },
    /// QEMU is older than anything that works.
    #[error("Detected old QEMU binary ('{0}', at least 6.0 is required)")]
    AncientQemu(String),
    /// No such CPU model.
    #[error("Built-in cputype '{0}' is not defined (missing 'custom-' prefix?)")]
    UnknownCpu(String),
    /// A flag that a VM may not set.
    #[error("VM-specific CPU flags must be a subset of: {0}")]
    CpuFlag(String),
    /// UEFI needs 64 bits.
    #[error("OVMF (UEFI) BIOS is not supported on 32-bit CPU types")]
    OvmfOn32Bit,
    /// No UEFI firmware is installed.
    #[error("EFI base image '{0}' not found")]
    NoFirmware(String),
    /// Memory hotplug without NUMA.
    #[error("NUMA needs to be enabled for memory hotplug")]
    HotplugNeedsNuma,
    /// Memory hotplug with NUMA nodes by hand.
    #[error("cannot enable memory hotplugging with custom NUMA topology")]
    HotplugCustomNuma,
    /// Less memory than memory hotplug starts with.
    #[error("minimum memory must be {0}MB")]
    MinimumMemory(u64),
    /// Memory that the modules cannot add up to.
    #[error("memory size ({size}) must be aligned to {step} for hotplugging")]
    MemoryAlignment {
        /// What was asked for, in MiB.
        size: u64,
        /// The module size in MiB.
        step: u64,
    },
    /// More memory than can be plugged in.
    #[error("memory size ({size}) exceeds the maximum of {max} MiB for hotplugging")]
    MemoryMaximum {
        /// What was asked for, in MiB.
        size: u64,
        /// The limit in MiB.
        max: u64,
    },
    /// Huge pages without NUMA.
    #[error("numa needs to be enabled to use hugepages")]
    HugepagesNeedNuma,
    /// A NUMA node without memory.
    #[error("missing NUMA node{0} memory value")]
    NumaMemory(u8),
    /// A NUMA node bound to the host without saying how.
    #[error("you need to define a policy for hostnode {0}")]
    NumaPolicy(String),
    /// NUMA nodes whose memory does not add up.
    #[error("total memory for NUMA nodes must be equal to vm static memory")]
    NumaTotal,
    /// The kernel takes 15 characters.
    #[error("interface name '{0}' is too long (max 15 character)")]
    InterfaceName(String),
    /// There is no such bridge.
    #[error("bridge '{0}' does not exist")]
    NoBridge(String),
    /// Less than IP needs.
    #[error("netdev net{net}: MTU '{mtu}' is smaller than the IP minimum MTU '576'")]
    MtuTooSmall {
        /// The card.
        net: u8,
        /// The MTU.
        mtu: u64,
    },
    /// More than the bridge takes.
    #[error(
        "netdev net{net}: MTU '{mtu}' is bigger than the bridge MTU '{bridge}' - adjust the MTU of the network device or bridge"
    )]
    MtuTooBig {
        /// The card.
        net: u8,
        /// The MTU.
        mtu: u64,
        /// The bridge's MTU.
        bridge: u64,
    },
    /// A drive's volume was not resolved.
    #[error("no path for drive '{0}'")]
    NoBacking(String),
    /// An option of drives that the block graph does not have.
    #[error("'snapshot' option is not yet supported for '-blockdev'")]
    DriveSnapshot,
    /// An option that only some SCSI devices have.
    #[error("Parameter verification failed.")]
    Parameters(ParamErrors),
    /// The clipboard needs another display.
    #[error("vga type {0} is not compatible with VNC clipboard")]
    Clipboard(String),
    /// A USB device beyond what old machines have.
    #[error("using usb{0} is only possible with machine type >= 7.1 and ostype l26 or windows > 7")]
    UsbNumber(u8),
    /// A path that is no serial line.
    #[error("no such serial device")]
    NoSerialDevice,
    /// The `args` key cannot be split into words.
    #[error("unable to parse 'args' - unbalanced quotes")]
    Args,
}

impl Failure for CommandError {
    fn status(&self) -> u16 {
        if matches!(self, Self::Parameters(_)) { 400 } else { 500 }
    }

    fn param_errors(&self) -> Option<&ParamErrors> {
        match self {
            Self::Parameters(errors) => Some(errors),
            _ => None,
        }
    }
}
