//! The header: what is in an archive (reference 05 §13.1).

use std::fmt;
use std::io::Read;

use super::blob::{BlobReader, BlobWriter, is_name};
use super::bytes::{array, md5_without, put, u32_at, u64_at};
use super::error::VmaError;
use super::reader::read_full;
use super::{CLUSTER, Limits, MAX_BLOB, MAX_HEADER};

/// The raw uuid of an archive, repeated in each of its extents.
pub type Uuid = [u8; 16];

/// Bytes before the blobs.
const FIXED: usize = 12288;
const MAGIC: [u8; 4] = *b"VMA\0";
const VERSION: u32 = 1;
/// Slots of the config tables.
const CONFIGS: usize = 256;
/// The last device id; 0 and 255 are not used.
const LAST_DEVICE: u8 = 254;

/// Where the fields are.
mod at {
    pub(super) const VERSION: usize = 4;
    pub(super) const UUID: usize = 8;
    pub(super) const CTIME: usize = 24;
    pub(super) const MD5: usize = 32;
    pub(super) const BLOB_OFFSET: usize = 48;
    pub(super) const BLOB_SIZE: usize = 52;
    pub(super) const HEADER_SIZE: usize = 56;
    pub(super) const CONFIG_NAMES: usize = 2044;
    pub(super) const CONFIG_DATA: usize = 3068;
    pub(super) const DEVICES: usize = 4096;
}

/// Bytes of a device's entry, and where its size is.
const DEVICE_ENTRY: usize = 32;
const DEVICE_SIZE: usize = 8;

/// A device's number in an archive: 1 to 254.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(u8);

impl DeviceId {
    /// The number as a type, if it can be one.
    pub fn new(id: u8) -> Option<Self> {
        (1..=LAST_DEVICE).contains(&id).then_some(Self(id))
    }

    /// The number.
    pub fn get(self) -> u8 {
        self.0
    }

    fn entry(self) -> usize {
        at::DEVICES + usize::from(self.0) * DEVICE_ENTRY
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a VM's config in its archive (reference 05 §10).
pub const VM_CONFIG: &str = "qemu-server.conf";
/// The name of its firewall's rules.
pub const VM_FIREWALL: &str = "qemu-server.fw";

/// A configuration file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its name, without directories: [`VM_CONFIG`].
    pub name: String,
    /// Its content.
    pub data: Vec<u8>,
}

/// A device in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub id: DeviceId,
    /// Its name: `drive-scsi0`.
    pub name: String,
    /// Its bytes, more than none.
    pub size: u64,
}

impl Device {
    /// The memory of a VM, whose clusters have to be in order.
    pub fn is_vmstate(&self) -> bool {
        self.name == "vmstate"
    }

    /// Its clusters.
    pub fn clusters(&self) -> u64 {
        self.size.div_ceil(CLUSTER as u64)
    }

    /// Where a cluster begins.
    pub(super) fn offset(&self, cluster: u32) -> u64 {
        u64::from(cluster) * CLUSTER as u64
    }

    /// Bytes of a cluster: fewer in the last one; 0 behind it.
    pub fn cluster_len(&self, cluster: u32) -> usize {
        let left = self.size.saturating_sub(self.offset(cluster));
        usize::try_from(left).map_or(CLUSTER, |left| left.min(CLUSTER))
    }
}

/// What is in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The archive's own id.
    pub uuid: Uuid,
    /// When the backup was made, Unix seconds.
    pub ctime: i64,
    configs: Vec<Config>,
    devices: Vec<Device>,
}

impl Header {
    /// An archive without anything in it.
    pub fn new(uuid: Uuid, ctime: i64) -> Self {
        Self {
            uuid,
            ctime,
            configs: Vec::new(),
            devices: Vec::new(),
        }
    }

    /// The configurations, in order.
    pub fn configs(&self) -> &[Config] {
        &self.configs
    }

    /// A configuration by its name.
    pub fn config(&self, name: &str) -> Option<&[u8]> {
        let config = self.configs.iter().find(|config| config.name == name)?;
        Some(&config.data)
    }

    /// The devices, by number.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// A device by its name.
    pub fn device(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.name == name)
    }

    /// Adds a configuration.
    ///
    /// # Errors
    /// [`VmaError::Name`], [`VmaError::DuplicateName`], [`VmaError::ConfigTooLarge`], [`VmaError::TooMany`].
    pub fn add_config(&mut self, name: &str, data: &[u8]) -> Result<(), VmaError> {
        check_new_name(name, self.config(name).is_some())?;
        if data.len() > MAX_BLOB {
            return Err(VmaError::ConfigTooLarge(name.to_owned()));
        }
        if self.configs.len() >= CONFIGS {
            return Err(VmaError::TooMany);
        }
        self.configs.push(Config {
            name: name.to_owned(),
            data: data.to_owned(),
        });
        Ok(())
    }

    /// Adds a device of so many bytes; the numbers count up from 1.
    ///
    /// # Errors
    /// [`VmaError::Name`], [`VmaError::DuplicateName`], [`VmaError::DeviceSize`], [`VmaError::TooMany`].
    pub fn add_device(&mut self, name: &str, size: u64) -> Result<DeviceId, VmaError> {
        check_new_name(name, self.device(name).is_some())?;
        let last = self.devices.iter().map(|device| device.id.get()).max().unwrap_or(0);
        let id = last.checked_add(1).and_then(DeviceId::new).ok_or(VmaError::TooMany)?;
        let device = Device {
            id,
            name: name.to_owned(),
            size,
        };
        // Clusters are numbered in four bytes.
        if size == 0 || device.clusters() > 1 << 32 {
            return Err(VmaError::DeviceSize {
                device: device.name,
                size,
            });
        }
        self.devices.push(device);
        Ok(id)
    }

    /// The header as it stands at the beginning of an archive.
    ///
    /// # Errors
    /// [`VmaError::ConfigTooLarge`] if all of it does not fit.
    pub fn encode(&self) -> Result<Vec<u8>, VmaError> {
        let mut bytes = vec![0; FIXED];
        let mut blobs = BlobWriter::new();
        for (slot, config) in self.configs.iter().enumerate() {
            let too_large = || VmaError::ConfigTooLarge(config.name.clone());
            let name = blobs.add_name(&config.name).ok_or_else(too_large)?;
            let data = blobs.add(&config.data).ok_or_else(too_large)?;
            put(&mut bytes, at::CONFIG_NAMES + slot * 4, &name.to_be_bytes());
            put(&mut bytes, at::CONFIG_DATA + slot * 4, &data.to_be_bytes());
            if FIXED + blobs.used() > MAX_HEADER {
                return Err(too_large());
            }
        }
        for device in &self.devices {
            let too_large = || VmaError::Name(device.name.clone());
            let name = blobs.add_name(&device.name).ok_or_else(too_large)?;
            put(&mut bytes, device.id.entry(), &name.to_be_bytes());
            put(&mut bytes, device.id.entry() + DEVICE_SIZE, &device.size.to_be_bytes());
            if FIXED + blobs.used() > MAX_HEADER {
                return Err(too_large());
            }
        }
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes();
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, at::VERSION, &VERSION.to_be_bytes());
        put(&mut bytes, at::UUID, &self.uuid);
        put(&mut bytes, at::CTIME, &self.ctime.to_be_bytes());
        put(&mut bytes, at::BLOB_OFFSET, &number(FIXED));
        put(&mut bytes, at::BLOB_SIZE, &number(blobs.used()));
        bytes.extend(blobs.into_bytes());
        let size = number(bytes.len());
        put(&mut bytes, at::HEADER_SIZE, &size);
        let md5 = md5_without(&mut bytes, at::MD5);
        put(&mut bytes, at::MD5, &md5);
        Ok(bytes)
    }

    /// Reads a header, and no byte more than that.
    pub(crate) fn read(input: &mut impl Read, limits: &Limits) -> Result<Self, VmaError> {
        let mut bytes = vec![0; FIXED];
        fill(input, &mut bytes)?;
        if array(&bytes, 0) != MAGIC {
            return Err(VmaError::Magic);
        }
        let declared = u32_at(&bytes, at::HEADER_SIZE);
        let size = usize::try_from(declared)
            .ok()
            .filter(|size| (FIXED..=limits.header).contains(size))
            .ok_or(VmaError::HeaderSize(declared))?;
        bytes.resize(size, 0);
        fill(input, bytes.get_mut(FIXED..).unwrap_or_default())?;
        Self::decode(bytes, limits)
    }

    /// Takes a whole header apart.
    fn decode(mut bytes: Vec<u8>, limits: &Limits) -> Result<Self, VmaError> {
        let told: [u8; 16] = array(&bytes, at::MD5);
        if md5_without(&mut bytes, at::MD5) != told {
            return Err(VmaError::HeaderChecksum);
        }
        let version = u32_at(&bytes, at::VERSION);
        if version != VERSION {
            return Err(VmaError::Version(version));
        }
        let blobs = blobs(&bytes)?;
        let header = Self {
            uuid: array(&bytes, at::UUID),
            ctime: i64::from_be_bytes(array(&bytes, at::CTIME)),
            configs: configs(&bytes, blobs)?,
            devices: devices(&bytes, blobs),
        };
        header.check_devices(limits)?;
        Ok(header)
    }

    fn check_devices(&self, limits: &Limits) -> Result<(), VmaError> {
        let total = self.devices.iter().map(|device| u128::from(device.size)).sum();
        let unaddressable = self.devices.iter().any(|device| device.clusters() > 1 << 32);
        if unaddressable || total > u128::from(limits.device_bytes) {
            return Err(VmaError::DevicesTooLarge(total));
        }
        Ok(())
    }
}

fn check_new_name(name: &str, is_taken: bool) -> Result<(), VmaError> {
    if !is_name(name) {
        return Err(VmaError::Name(name.to_owned()));
    }
    if is_taken {
        return Err(VmaError::DuplicateName(name.to_owned()));
    }
    Ok(())
}

/// Fills a part of the header.
fn fill(input: &mut impl Read, part: &mut [u8]) -> Result<(), VmaError> {
    let got = read_full(input, part)?;
    if got < part.len() {
        return Err(VmaError::HeaderEof);
    }
    Ok(())
}

fn blobs(bytes: &[u8]) -> Result<BlobReader<'_>, VmaError> {
    let offset = u32_at(bytes, at::BLOB_OFFSET);
    let rest = bytes.get(FIXED..).unwrap_or_default();
    if usize::try_from(offset) != Ok(FIXED) {
        return Err(VmaError::BlobOffset(offset));
    }
    let size = u32_at(bytes, at::BLOB_SIZE);
    let used = usize::try_from(size).ok().and_then(|size| rest.get(..size));
    used.map(BlobReader).ok_or_else(|| VmaError::BlobSize {
        size,
        available: u32::try_from(rest.len()).unwrap_or(u32::MAX),
    })
}

fn configs(bytes: &[u8], blobs: BlobReader<'_>) -> Result<Vec<Config>, VmaError> {
    let mut configs = Vec::new();
    for slot in 0..CONFIGS {
        let name = u32_at(bytes, at::CONFIG_NAMES + slot * 4);
        let data = u32_at(bytes, at::CONFIG_DATA + slot * 4);
        if name == 0 && data == 0 {
            continue;
        }
        configs.push(Config {
            name: blobs.name(name)?.to_owned(),
            data: blobs.get(data)?.to_owned(),
        });
    }
    Ok(configs)
}

/// The devices. An entry without a size or a name is none.
fn devices(bytes: &[u8], blobs: BlobReader<'_>) -> Vec<Device> {
    (1..=LAST_DEVICE)
        .filter_map(DeviceId::new)
        .filter_map(|id| {
            let size = u64_at(bytes, id.entry() + DEVICE_SIZE);
            let name = blobs.name(u32_at(bytes, id.entry())).ok()?;
            (size > 0).then(|| Device {
                id,
                name: name.to_owned(),
                size,
            })
        })
        .collect()
}
