//! The headers of extents (reference 05 §13.2).

use super::bytes::{array, md5_without, put, u16_at, u64_at};
use super::error::VmaError;
use super::header::Uuid;
use super::{BLOCKS_PER_CLUSTER, CLUSTERS_PER_EXTENT};

/// Bytes of an extent's header.
pub(super) const EXTENT_HEADER: usize = 512;
/// Most blocks that 59 masks can tell of.
pub(super) const MAX_BLOCKS: usize = CLUSTERS_PER_EXTENT * BLOCKS_PER_CLUSTER;

const MAGIC: [u8; 4] = *b"VMAE";
const BLOCK_COUNT: usize = 6;
const UUID: usize = 8;
const MD5: usize = 24;
const INFOS: usize = 40;

/// One cluster of an extent: whose it is, and which of its blocks are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockInfo {
    /// The blocks that are stored, the first in the lowest bit.
    pub(super) mask: u16,
    /// The device; 0 for a slot that is not used.
    pub(super) device: u8,
    /// The cluster's number.
    pub(super) cluster: u32,
}

impl BlockInfo {
    fn decode(word: u64) -> Self {
        let [mask_high, mask_low, _, device, c0, c1, c2, c3] = word.to_be_bytes();
        Self {
            mask: u16::from_be_bytes([mask_high, mask_low]),
            device,
            cluster: u32::from_be_bytes([c0, c1, c2, c3]),
        }
    }

    fn encode(self) -> [u8; 8] {
        let [mask_high, mask_low] = self.mask.to_be_bytes();
        let [c0, c1, c2, c3] = self.cluster.to_be_bytes();
        [mask_high, mask_low, 0, self.device, c0, c1, c2, c3]
    }

    /// Blocks that are stored.
    pub(super) fn blocks(self) -> usize {
        // At most sixteen.
        usize::try_from(self.mask.count_ones()).unwrap_or_default()
    }
}

/// An extent's header, checked.
#[derive(Debug)]
pub(super) struct ExtentHeader {
    /// Blocks that follow.
    pub(super) blocks: usize,
    /// The slots in use, in order.
    pub(super) infos: Vec<BlockInfo>,
}

impl ExtentHeader {
    /// Takes a header apart.
    pub(super) fn decode(mut bytes: [u8; EXTENT_HEADER], uuid: &Uuid) -> Result<Self, VmaError> {
        let told: [u8; 16] = array(&bytes, MD5);
        if md5_without(&mut bytes, MD5) != told {
            return Err(VmaError::ExtentChecksum);
        }
        if array(&bytes, UUID) != *uuid {
            return Err(VmaError::ExtentUuid);
        }
        if array(&bytes, 0) != MAGIC {
            return Err(VmaError::ExtentMagic);
        }
        let infos = (0..CLUSTERS_PER_EXTENT).map(|slot| BlockInfo::decode(u64_at(&bytes, INFOS + slot * 8)));
        Ok(Self {
            blocks: usize::from(u16_at(&bytes, BLOCK_COUNT)),
            infos: infos.filter(|info| info.device != 0).collect(),
        })
    }

    /// The header of an extent with these clusters, of which there are at most 59.
    pub(super) fn encode(infos: &[BlockInfo], uuid: &Uuid) -> [u8; EXTENT_HEADER] {
        let mut bytes = [0; EXTENT_HEADER];
        let blocks: usize = infos.iter().map(|info| info.blocks()).sum();
        put(&mut bytes, 0, &MAGIC);
        put(
            &mut bytes,
            BLOCK_COUNT,
            &u16::try_from(blocks).unwrap_or(u16::MAX).to_be_bytes(),
        );
        put(&mut bytes, UUID, uuid);
        for (slot, info) in infos.iter().enumerate() {
            put(&mut bytes, INFOS + slot * 8, &info.encode());
        }
        let md5 = md5_without(&mut bytes, MD5);
        put(&mut bytes, MD5, &md5);
        bytes
    }
}
