//! From an archive to the devices' targets (reference 05 §13.3, §13.4).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use pve_schema::errno_text;

use super::error::VmaError;
use super::header::{Device, DeviceId};
use super::reader::{Reader, Run};
use super::{CLUSTER, Stats};

/// How much larger than its device a target may be: storages round up.
const TARGET_SLACK: u64 = 4 * 1024 * 1024;

/// What takes the content of a device.
pub trait Sink {
    /// Its bytes, if there is a limit; it is compared with the device's before anything is written.
    ///
    /// # Errors
    /// The system's.
    fn size(&mut self) -> io::Result<Option<u64>>;

    /// Takes bytes at a place. Places come in any order, none twice.
    ///
    /// # Errors
    /// The system's.
    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Makes bytes zero at a place. It is asked only if the plan says that zeros are to be written.
    ///
    /// # Errors
    /// The system's.
    fn write_zeros(&mut self, offset: u64, len: u64) -> io::Result<()>;

    /// All is written: makes it durable.
    ///
    /// # Errors
    /// The system's.
    fn finish(&mut self) -> io::Result<()>;
}

/// A raw file or a block device, written in place.
#[derive(Debug)]
pub struct RawFile {
    file: File,
    size: Option<u64>,
}

impl RawFile {
    /// A target that is there already, of a known size.
    pub fn new(file: File, size: u64) -> Self {
        Self { file, size: Some(size) }
    }

    /// A file that is made for a device: it gets the device's size and reads as zero.
    ///
    /// # Errors
    /// The system's.
    pub fn fresh(file: File, device: &Device) -> io::Result<Self> {
        file.set_len(device.size)?;
        Ok(Self { file, size: None })
    }
}

impl Sink for RawFile {
    fn size(&mut self) -> io::Result<Option<u64>> {
        Ok(self.size)
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn write_zeros(&mut self, offset: u64, len: u64) -> io::Result<()> {
        static ZEROS: [u8; CLUSTER] = [0; CLUSTER];
        let (mut offset, mut left) = (offset, len);
        while left > 0 {
            let part = left.min(CLUSTER as u64);
            let zeros = usize::try_from(part).ok().and_then(|part| ZEROS.get(..part));
            self.file.write_all_at(zeros.unwrap_or_default(), offset)?;
            offset += part;
            left -= part;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

struct Target<'a> {
    sink: Box<dyn Sink + 'a>,
    write_zeros: bool,
}

/// Which device goes where. A device without a target is read, checked and left out.
#[derive(Default)]
pub struct Plan<'a> {
    targets: BTreeMap<DeviceId, Target<'a>>,
}

impl<'a> Plan<'a> {
    /// Nothing goes anywhere.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends a device to a target. `write_zeros` unless the target is known to read as zero.
    ///
    /// # Errors
    /// [`VmaError::TargetSize`] if the target is smaller than the device or over 4 MiB larger, [`VmaError::Target`] if
    /// it cannot tell its size.
    pub fn target(&mut self, device: &Device, mut sink: impl Sink + 'a, write_zeros: bool) -> Result<(), VmaError> {
        let size = sink.size().map_err(|error| target_error(device, &error))?;
        if let Some(target) = size
            && !(device.size..=device.size.saturating_add(TARGET_SLACK)).contains(&target)
        {
            return Err(VmaError::TargetSize {
                target,
                device: device.size,
            });
        }
        let sink = Box::new(sink);
        self.targets.insert(device.id, Target { sink, write_zeros });
        Ok(())
    }
}

fn target_error(device: &Device, error: &io::Error) -> VmaError {
    VmaError::Target {
        device: device.name.clone(),
        reason: errno_text(error),
    }
}

/// How far an archive was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Of all clusters, in whole percent.
    pub percent: u8,
    /// Bytes of the devices, zeros too.
    pub bytes: u64,
}

/// Counts percents.
struct Meter {
    /// Whole clusters of all devices.
    total: u64,
    told: Option<u8>,
}

impl Meter {
    fn new<R: Read>(reader: &Reader<R>) -> Self {
        let whole = reader.header().devices().iter();
        Self {
            total: whole.map(|device| device.size / CLUSTER as u64).sum(),
            told: None,
        }
    }

    /// The progress if there is a new one. The total is rounded down (reference 05 §13.4), so it ends at 100 early.
    fn step(&mut self, stats: &Stats) -> Option<Progress> {
        let percent = stats
            .clusters
            .saturating_mul(100)
            .checked_div(self.total)
            .unwrap_or(100);
        let percent = u8::try_from(percent.min(100)).unwrap_or(100);
        if percent == self.told.unwrap_or(0) {
            return None;
        }
        self.told = Some(percent);
        Some(Progress {
            percent,
            bytes: stats.bytes(),
        })
    }
}

/// Reads the rest of an archive and writes its devices by a plan. `progress` is told each new percent.
///
/// # Errors
/// The archive is damaged or not complete, a target fails, or `progress` ends it with an error of its own.
pub fn extract<R: Read>(
    reader: &mut Reader<R>,
    mut plan: Plan<'_>,
    progress: &mut dyn FnMut(Progress) -> Result<(), VmaError>,
) -> Result<Stats, VmaError> {
    let header = reader.header();
    let unknown = plan
        .targets
        .keys()
        .find(|id| !header.devices().iter().any(|device| device.id == **id));
    if let Some(id) = unknown {
        return Err(VmaError::NoSuchDevice(id.to_string()));
    }
    let mut meter = Meter::new(reader);
    while let Some(cluster) = reader.next_cluster()? {
        if let Some(target) = plan.targets.get_mut(&cluster.device.id) {
            for run in cluster.runs() {
                write(target, &run).map_err(|error| target_error(cluster.device, &error))?;
            }
        }
        if let Some(step) = meter.step(&reader.stats()) {
            progress(step)?;
        }
    }
    for device in reader.header().devices() {
        if let Some(target) = plan.targets.get_mut(&device.id) {
            target.sink.finish().map_err(|error| target_error(device, &error))?;
        }
    }
    Ok(reader.stats())
}

fn write(target: &mut Target<'_>, run: &Run<'_>) -> io::Result<()> {
    match run.data {
        Some(data) => target.sink.write(run.offset, data),
        None if target.write_zeros => target.sink.write_zeros(run.offset, run.len),
        None => Ok(()),
    }
}

/// Reads the rest of an archive and checks that it is complete.
///
/// # Errors
/// As [`extract`].
pub fn verify<R: Read>(
    reader: &mut Reader<R>,
    progress: &mut dyn FnMut(Progress) -> Result<(), VmaError>,
) -> Result<Stats, VmaError> {
    extract(reader, Plan::new(), progress)
}
