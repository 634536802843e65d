//! Writing an archive (reference 05 §13.1, §13.2).

use std::collections::BTreeMap;
use std::io::{Read, Write};

use super::error::VmaError;
use super::extent::{BlockInfo, ExtentHeader, MAX_BLOCKS};
use super::header::{Device, DeviceId, Header};
use super::reader::read_full;
use super::seen::Seen;
use super::{BLOCK, CLUSTER, CLUSTERS_PER_EXTENT, Stats};

/// Clusters after which an extent is full: like the reference writer, one less than there is room for, so that both
/// write the same bytes.
const CLUSTERS_WRITTEN: usize = CLUSTERS_PER_EXTENT - 1;

/// A device and what was written of it.
#[derive(Debug)]
struct Stream {
    device: Device,
    seen: Seen,
}

/// Writes an archive into a stream. Holds one extent in memory.
///
/// The header is written with the first extent. An archive is complete only after [`Writer::finish`].
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
    header: Header,
    /// The header's bytes until they are written.
    pending_header: Option<Vec<u8>>,
    streams: BTreeMap<DeviceId, Stream>,
    infos: Vec<BlockInfo>,
    data: Vec<u8>,
    stats: Stats,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Begins an archive with these configurations and devices.
    ///
    /// # Errors
    /// [`VmaError::ConfigTooLarge`] if the header does not hold all of that.
    pub fn new(output: W, header: Header) -> Result<Self, VmaError> {
        let stream = |device: &Device| Stream {
            device: device.clone(),
            seen: Seen::new(device.clusters()),
        };
        let streams = header.devices().iter().map(|device| (device.id, stream(device)));
        Ok(Self {
            output,
            pending_header: Some(header.encode()?),
            streams: streams.collect(),
            header,
            infos: Vec::with_capacity(CLUSTERS_WRITTEN),
            data: Vec::new(),
            stats: Stats::default(),
            bytes: 0,
        })
    }

    /// What is in the archive.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What was added so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a cluster: 64 KiB, less at the end of the device ([`Device::cluster_len`]). Each cluster once, in any order.
    /// Blocks of zeros are not stored.
    ///
    /// # Errors
    /// The device has no such cluster or had it already, the length is wrong, or the output fails.
    pub fn cluster(&mut self, device: DeviceId, cluster: u32, data: &[u8]) -> Result<(), VmaError> {
        let expected = self.stream(device)?.device.cluster_len(cluster);
        if expected == 0 {
            return Err(VmaError::BeyondEnd);
        }
        if data.len() != expected {
            return Err(VmaError::ClusterSize {
                cluster,
                device: self.stream(device)?.device.name.clone(),
                got: data.len(),
                expected,
            });
        }
        self.begin_cluster(device, cluster)?;
        let mut mask = 0;
        for (bit, block) in data.chunks(BLOCK).enumerate() {
            if !is_zero(block) {
                mask |= 1 << bit;
                self.data.extend_from_slice(block);
                self.data.resize(self.data.len().next_multiple_of(BLOCK), 0);
            }
        }
        self.end_cluster(device, cluster, mask);
        Ok(())
    }

    /// Adds a cluster of zeros.
    ///
    /// # Errors
    /// As [`Writer::cluster`].
    pub fn zero_cluster(&mut self, device: DeviceId, cluster: u32) -> Result<(), VmaError> {
        if self.stream(device)?.device.cluster_len(cluster) == 0 {
            return Err(VmaError::BeyondEnd);
        }
        self.begin_cluster(device, cluster)?;
        self.end_cluster(device, cluster, 0);
        Ok(())
    }

    /// Adds a whole device from a stream that holds at least its bytes.
    ///
    /// # Errors
    /// [`VmaError::Source`] if the stream fails or ends early; else as [`Writer::cluster`].
    pub fn device(&mut self, id: DeviceId, source: &mut impl Read) -> Result<(), VmaError> {
        let device = self.stream(id)?.device.clone();
        let failed = |reason: String| VmaError::Source {
            device: device.name.clone(),
            reason,
        };
        let mut buffer = vec![0; CLUSTER];
        for number in 0..device.clusters() {
            // A device has at most 2^32 clusters.
            let number = u32::try_from(number).map_err(|_| VmaError::BeyondEnd)?;
            let part = buffer.get_mut(..device.cluster_len(number)).unwrap_or_default();
            let got = read_full(source, part).map_err(|error| match error {
                VmaError::Read(reason) => failed(reason),
                other => other,
            })?;
            if got < part.len() {
                return Err(failed("unexpected end".to_owned()));
            }
            self.cluster(id, number, part)?;
        }
        Ok(())
    }

    /// Writes what is left: one more extent, be it empty.
    ///
    /// # Errors
    /// [`VmaError::MissingCluster`] if a device is not complete; the output fails.
    pub fn finish(self) -> Result<(W, Stats), VmaError> {
        let (output, stats, _) = self.finish_counted()?;
        Ok((output, stats))
    }

    /// As [`Writer::finish`]; tells the bytes of the whole archive, too.
    ///
    /// # Errors
    /// As [`Writer::finish`].
    pub fn finish_counted(mut self) -> Result<(W, Stats, u64), VmaError> {
        for stream in self.streams.values() {
            if let Some(cluster) = stream.seen.first_missing() {
                return Err(VmaError::MissingCluster {
                    cluster: u32::try_from(cluster).unwrap_or(u32::MAX),
                    device: stream.device.name.clone(),
                });
            }
        }
        self.flush()?;
        self.output.flush().map_err(|error| VmaError::write(&error))?;
        Ok((self.output, self.stats, self.bytes))
    }

    fn stream(&self, device: DeviceId) -> Result<&Stream, VmaError> {
        self.streams.get(&device).ok_or(VmaError::DeviceId(device.get()))
    }

    /// Makes room for a cluster, and notes it.
    fn begin_cluster(&mut self, device: DeviceId, cluster: u32) -> Result<(), VmaError> {
        let stream = self.streams.get_mut(&device).ok_or(VmaError::DeviceId(device.get()))?;
        if !stream.seen.insert(cluster) {
            return Err(VmaError::DuplicateCluster {
                cluster,
                device: stream.device.name.clone(),
            });
        }
        if self.infos.len() >= CLUSTERS_WRITTEN {
            self.flush()?;
        }
        Ok(())
    }

    fn end_cluster(&mut self, device: DeviceId, cluster: u32, mask: u16) {
        self.infos.push(BlockInfo {
            mask,
            device: device.get(),
            cluster,
        });
        self.stats.count(mask);
    }

    /// Writes the extent that was gathered, and the header before the first one.
    fn flush(&mut self) -> Result<(), VmaError> {
        debug_assert!(self.data.len() <= MAX_BLOCKS * BLOCK);
        let header = self.pending_header.take().unwrap_or_default();
        let extent = ExtentHeader::encode(&self.infos, &self.header.uuid);
        for part in [header.as_slice(), &extent, &self.data] {
            self.output.write_all(part).map_err(|error| VmaError::write(&error))?;
            self.bytes += part.len() as u64;
        }
        self.infos.clear();
        self.data.clear();
        Ok(())
    }
}

fn is_zero(block: &[u8]) -> bool {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    ZEROS.get(..block.len()) == Some(block)
}
