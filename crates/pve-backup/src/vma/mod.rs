//! VMA, the archive format of VM backups, version 1 (reference 05 §13).
//!
//! ```text
//! ┌ header: 12288 bytes + blobs ───────────────┐ ┌ extent: 512 bytes + blocks ──────────┐ ┌ extent ┐
//! │ uuid, ctime, MD5, config and device tables │ │ MD5, up to 59 × (device, cluster,    │ │ …      │ … EOF
//! │ blobs: names, configs                      │ │ mask), then the blocks the masks tell│ │        │
//! └────────────────────────────────────────────┘ └──────────────────────────────────────┘ └────────┘
//! ```
//!
//! There is no index and no trailer: an archive is read and written through a pipe, with the memory of one extent and
//! a set of the clusters seen so far. A cluster is 64 KiB of one device, its mask tells which of its sixteen 4 KiB
//! blocks are stored; the others are zero. Each cluster of each device occurs once, in any order.
//!
//! | module | holds |
//! |---|---|
//! | [`header`] | what is in an archive: [`Header`], [`Config`], [`Device`] |
//! | `blob`, `extent`, `seen` | pieces of the format |
//! | [`writer`] | [`Writer`] |
//! | [`reader`] | [`Reader`], which hands out one [`Cluster`] after the other |
//! | [`extract`] | writing devices to their [`Sink`]s, verifying |
//! | [`map`] | which drive a device was, as the archived config tells |
//! | [`report`] | the lines that restore logs show |
//! | [`error`] | what can go wrong |
//!
//! What is read is not trusted: sizes are limited before anything is allocated ([`Limits`]), names that could lead out
//! of a directory are refused.

mod blob;
mod bytes;
pub mod error;
mod extent;
pub mod extract;
pub mod header;
pub mod map;
pub mod reader;
pub mod report;
mod seen;
pub mod writer;

pub use error::VmaError;
pub use extract::{Plan, Progress, RawFile, Sink, extract, verify};
pub use header::{Config, Device, DeviceId, Header, Uuid, VM_CONFIG, VM_FIREWALL};
pub use map::{DriveMap, DriveMapError};
pub use reader::{Cluster, Reader, Run};
pub use writer::Writer;

/// Bytes of a block, the unit that is stored or left out.
pub const BLOCK: usize = 4096;
/// Blocks of a cluster: one bit each in a 16 bit mask.
pub const BLOCKS_PER_CLUSTER: usize = 16;
/// Bytes of a cluster.
pub const CLUSTER: usize = BLOCK * BLOCKS_PER_CLUSTER;
/// Clusters that an extent's header has room for.
pub const CLUSTERS_PER_EXTENT: usize = 59;
/// Most bytes of a configuration in an archive: its length is stored in two bytes.
pub const MAX_BLOB: usize = 65535;
/// Most bytes of a header: what the reference writer allows, and so what a reader need accept (reference 05 §13.1).
pub const MAX_HEADER: usize = 524_288;

/// What a reader accepts at most, so that a forged header cannot make it allocate at will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the header.
    pub header: usize,
    /// Bytes of all devices together. What is remembered of them is one bit per cluster at worst: 256 MiB for the
    /// default of 128 TiB, and next to nothing for archives whose clusters are roughly in order.
    pub device_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header: MAX_HEADER,
            device_bytes: 1 << 47,
        }
    }
}

/// What went through a reader or a writer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Clusters, zero or not.
    pub clusters: u64,
    /// Clusters without any data.
    pub zero_clusters: u64,
    /// Blocks left out of the other clusters.
    pub zero_blocks: u64,
}

impl Stats {
    fn count(&mut self, mask: u16) {
        self.clusters += 1;
        if mask == 0 {
            self.zero_clusters += 1;
        } else {
            self.zero_blocks += u64::from(mask.count_zeros());
        }
    }

    /// Bytes of all clusters; the last one of a device counts in full.
    pub fn bytes(&self) -> u64 {
        self.clusters.saturating_mul(CLUSTER as u64)
    }

    /// Bytes of the clusters without any data.
    pub fn sparse_bytes(&self) -> u64 {
        self.zero_clusters.saturating_mul(CLUSTER as u64)
    }
}
