//! Reading an archive (reference 05 §13.3).
//!
//! ```text
//!          ┌─────────── next_cluster ───────────┐
//! open ──▶ header ──▶ extent ──▶ its clusters ──┴─▶ EOF: is a cluster missing? ──▶ end
//!             └──────────┴──────── anything wrong ────────────────────────────────▶ failed, for good
//! ```

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};

use super::error::VmaError;
use super::extent::{BlockInfo, EXTENT_HEADER, ExtentHeader, MAX_BLOCKS};
use super::header::{Device, Header};
use super::seen::Seen;
use super::{BLOCK, BLOCKS_PER_CLUSTER, Limits, Stats};

/// Reads until the buffer is full or the input ends; how many bytes.
pub(super) fn read_full(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, VmaError> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(VmaError::read(&error)),
        }
    }
    Ok(got)
}

/// A device and what came by of it.
#[derive(Debug)]
struct Stream {
    device: Device,
    seen: Seen,
    /// Of a VM's memory: the cluster that has to come next.
    next: u64,
}

/// Reads an archive from a stream. Holds one extent in memory.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    header: Header,
    streams: BTreeMap<u8, Stream>,
    stats: Stats,
    bytes: u64,
    extent: Extent,
    failed: Option<VmaError>,
}

/// The extent that is being read.
#[derive(Debug, Default)]
struct Extent {
    infos: Vec<BlockInfo>,
    /// The next of them.
    slot: usize,
    /// All blocks.
    data: Vec<u8>,
    /// Bytes of them that clusters took.
    used: usize,
}

/// A part of a device: stored, or zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run<'a> {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes; more than none.
    pub len: u64,
    /// Its content, as many bytes; `None` if all are zero.
    pub data: Option<&'a [u8]>,
}

/// One cluster of a device.
#[derive(Debug, Clone, Copy)]
pub struct Cluster<'a> {
    /// Whose it is.
    pub device: &'a Device,
    /// Its number.
    pub number: u32,
    /// The blocks that are stored, the first in the lowest bit.
    pub mask: u16,
    blocks: &'a [u8],
}

impl<'a> Cluster<'a> {
    /// The cluster as runs of stored and of zero blocks, in order, as far as they are written: up to the device's end,
    /// floored to 512 bytes.
    pub fn runs(self) -> impl Iterator<Item = Run<'a>> {
        let start = self.device.offset(self.number);
        let end = self.device.size - self.device.size % 512;
        let mut block = 0;
        let mut rest = self.blocks;
        std::iter::from_fn(move || {
            let offset = start + (block * BLOCK) as u64;
            let left = end.checked_sub(offset).filter(|left| *left > 0)?;
            let stored = is_stored(self.mask, block)?;
            let count = (block..BLOCKS_PER_CLUSTER)
                .take_while(|block| is_stored(self.mask, *block) == Some(stored))
                .count();
            block += count;
            let len = left.min((count * BLOCK) as u64);
            let data = if stored {
                let (data, behind) = rest.split_at_checked(count * BLOCK)?;
                rest = behind;
                Some(data.get(..usize::try_from(len).ok()?)?)
            } else {
                None
            };
            Some(Run { offset, len, data })
        })
    }

    /// Whether nothing of it is stored.
    pub fn is_zero(self) -> bool {
        self.mask == 0
    }
}

/// Whether a block of a cluster is stored; `None` behind its end.
fn is_stored(mask: u16, block: usize) -> Option<bool> {
    (block < BLOCKS_PER_CLUSTER).then(|| mask & (1 << block) != 0)
}

impl<R: Read> Reader<R> {
    /// Begins to read: the header, and no byte more. For a config alone that is all there is to do.
    ///
    /// # Errors
    /// The input is no archive, its header is damaged, or it is larger than the default [`Limits`].
    pub fn open(input: R) -> Result<Self, VmaError> {
        Self::with_limits(input, &Limits::default())
    }

    /// Begins to read under other limits.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn with_limits(mut input: R, limits: &Limits) -> Result<Self, VmaError> {
        let header = Header::read(&mut input, limits)?;
        let stream = |device: &Device| Stream {
            device: device.clone(),
            seen: Seen::new(device.clusters()),
            next: 0,
        };
        let streams = header.devices().iter().map(|device| (device.id.get(), stream(device)));
        Ok(Self {
            input,
            streams: streams.collect(),
            header,
            stats: Stats::default(),
            bytes: 0,
            extent: Extent::default(),
            failed: None,
        })
    }

    /// What is in the archive.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What was read so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Bytes of the archive read so far, without the header.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next cluster; `None` at the end of an archive that is complete.
    ///
    /// # Errors
    /// The archive is damaged, ends within an extent, or lacks a cluster. After an error there is only that error.
    pub fn next_cluster(&mut self) -> Result<Option<Cluster<'_>>, VmaError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.advance() {
            Ok(None) => Ok(None),
            Ok(Some((info, at))) => Ok(self.cluster(info, at)),
            Err(error) => {
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    fn cluster(&self, info: BlockInfo, at: usize) -> Option<Cluster<'_>> {
        Some(Cluster {
            device: &self.streams.get(&info.device)?.device,
            number: info.cluster,
            mask: info.mask,
            blocks: self.extent.data.get(at..)?,
        })
    }

    /// Goes on to the next cluster: its slot, and where its blocks begin.
    fn advance(&mut self) -> Result<Option<(BlockInfo, usize)>, VmaError> {
        loop {
            let Some(info) = self.extent.infos.get(self.extent.slot).copied() else {
                if self.next_extent()? {
                    continue;
                }
                self.check_complete()?;
                return Ok(None);
            };
            self.extent.slot += 1;
            self.check(info)?;
            let at = self.extent.used;
            self.extent.used += info.blocks() * BLOCK;
            if self.extent.used > self.extent.data.len() {
                return Err(VmaError::TooManyBlocks);
            }
            self.stats.count(info.mask);
            return Ok(Some((info, at)));
        }
    }

    /// Whether a cluster may come at this place.
    fn check(&mut self, info: BlockInfo) -> Result<(), VmaError> {
        let BlockInfo { mask, cluster, .. } = info;
        let stream = self
            .streams
            .get_mut(&info.device)
            .ok_or(VmaError::DeviceId(info.device))?;
        let len = stream.device.cluster_len(cluster);
        // Blocks behind the end of a device are marked zero, clusters behind it do not exist.
        let blocks = u32::try_from(len.div_ceil(BLOCK)).unwrap_or(u32::MAX);
        if len == 0 || u32::from(mask).checked_shr(blocks).is_some_and(|beyond| beyond != 0) {
            return Err(VmaError::BeyondEnd);
        }
        let device = || stream.device.name.clone();
        if !stream.seen.insert(cluster) {
            return Err(VmaError::DuplicateCluster {
                cluster,
                device: device(),
            });
        }
        if stream.device.is_vmstate() && u64::from(cluster) != stream.next {
            return Err(VmaError::ClusterOrder {
                cluster,
                expected: stream.next,
                device: device(),
            });
        }
        stream.next += 1;
        Ok(())
    }

    /// Reads an extent; `false` if there is none left.
    fn next_extent(&mut self) -> Result<bool, VmaError> {
        if self.extent.used < self.extent.data.len() {
            return Err(VmaError::MissingBlocks);
        }
        self.extent.infos.clear();
        let mut bytes = [0; EXTENT_HEADER];
        match read_full(&mut self.input, &mut bytes)? {
            0 => return Ok(false),
            EXTENT_HEADER => {}
            short => return Err(VmaError::ShortExtentHeader(short)),
        }
        let header = ExtentHeader::decode(bytes, &self.header.uuid)?;
        if header.blocks > MAX_BLOCKS {
            // No 59 masks tell of so many.
            return Err(VmaError::MissingBlocks);
        }
        let expected = header.blocks * BLOCK;
        self.extent.data.resize(expected, 0);
        let got = read_full(&mut self.input, &mut self.extent.data)?;
        if got < expected {
            return Err(VmaError::ShortExtent {
                got: EXTENT_HEADER + got,
                expected: EXTENT_HEADER + expected,
            });
        }
        self.bytes += (EXTENT_HEADER + expected) as u64;
        self.extent.infos = header.infos;
        self.extent.slot = 0;
        self.extent.used = 0;
        Ok(true)
    }

    fn check_complete(&self) -> Result<(), VmaError> {
        for stream in self.streams.values() {
            if let Some(cluster) = stream.seen.first_missing() {
                return Err(VmaError::MissingCluster {
                    cluster: u32::try_from(cluster).unwrap_or(u32::MAX),
                    device: stream.device.name.clone(),
                });
            }
        }
        Ok(())
    }
}
