//! What can be wrong with an archive (reference 05 §13.3).

use std::io;

use pve_schema::{Failure, errno_text};

/// Why an archive cannot be read, written or extracted. Texts with spelling of their own are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VmaError {
    /// The input ends within the header.
    #[error("can't read vma header - got EOF")]
    HeaderEof,
    /// It does not begin like an archive.
    #[error("not a vma file - wrong magic number")]
    Magic,
    /// A header too small or too large.
    #[error("wrong vma header size {0}")]
    HeaderSize(u32),
    /// The header was damaged.
    #[error("wrong vma header chechsum")]
    HeaderChecksum,
    /// Not version 1.
    #[error("wrong vma version {0}")]
    Version(u32),
    /// The blobs are not where they have to be.
    #[error("wrong vma blob buffer offset {0}")]
    BlobOffset(u32),
    /// More blobs than fit into the header.
    #[error("wrong vma blob buffer size {size}/{available}")]
    BlobSize {
        /// As the header has it.
        size: u32,
        /// Room in the header.
        available: u32,
    },
    /// A name or a configuration lies outside of the blobs, or a name is none.
    #[error("vma contains invalid data pointers")]
    Pointers,
    /// Devices larger than [`super::Limits::device_bytes`].
    #[error("vma devices are too large ({0} bytes)")]
    DevicesTooLarge(u128),
    /// The input ends within an extent's header.
    #[error("read short extent ({0} bytes)")]
    ShortExtentHeader(usize),
    /// An extent's header was damaged.
    #[error("wrong vma extent header chechsum")]
    ExtentChecksum,
    /// An extent of another archive.
    #[error("wrong vma extent uuid")]
    ExtentUuid,
    /// No extent.
    #[error("wrong vma extent header magic")]
    ExtentMagic,
    /// The input ends within an extent.
    #[error("short vma extent ({got} < {expected})")]
    ShortExtent {
        /// Bytes there, with the extent's header.
        got: usize,
        /// Bytes that should be there.
        expected: usize,
    },
    /// A cluster of a device that the header does not have.
    #[error("got wrong dev id {0}")]
    DeviceId(u8),
    /// A cluster occurs twice.
    #[error("found duplicated cluster {cluster} for stream {device}")]
    DuplicateCluster {
        /// The cluster's number.
        cluster: u32,
        /// The device's name.
        device: String,
    },
    /// A cluster of the memory of a VM that is not the next one.
    #[error("got wrong cluster {cluster} for stream {device}, expected {expected}")]
    ClusterOrder {
        /// The cluster's number.
        cluster: u32,
        /// The next one.
        expected: u64,
        /// The device's name.
        device: String,
    },
    /// The masks of an extent tell of more blocks than it has.
    #[error("short vma extent - too many blocks")]
    TooManyBlocks,
    /// A block behind the end of its device.
    #[error("got wrong block address - write beyond end")]
    BeyondEnd,
    /// The masks of an extent tell of fewer blocks than it has.
    #[error("vma extent error - missing blocks")]
    MissingBlocks,
    /// A cluster never came.
    #[error("detected missing cluster {cluster} for stream {device}")]
    MissingCluster {
        /// The cluster's number.
        cluster: u32,
        /// The device's name.
        device: String,
    },
    /// A target that is smaller than its device, or much larger.
    #[error("unexpected size {target} != {device}")]
    TargetSize {
        /// Bytes of the target.
        target: u64,
        /// Bytes of the device.
        device: u64,
    },
    /// A plan names a device that the archive does not have.
    #[error("archive does not contain device '{0}'")]
    NoSuchDevice(String),
    /// The archive cannot be read.
    #[error("vma read error - {0}")]
    Read(String),
    /// The archive cannot be written.
    #[error("vma write error - {0}")]
    Write(String),
    /// A device's content cannot be read.
    #[error("unable to read device '{device}' - {reason}")]
    Source {
        /// The device's name.
        device: String,
        /// The system's word.
        reason: String,
    },
    /// A device's target cannot be written.
    #[error("unable to write device '{device}' - {reason}")]
    Target {
        /// The device's name.
        device: String,
        /// The system's word.
        reason: String,
    },
    /// A name of a configuration or a device that cannot stand in an archive.
    #[error("invalid name '{0}' for vma archive")]
    Name(String),
    /// A name that is in the archive already.
    #[error("duplicate name '{0}' in vma archive")]
    DuplicateName(String),
    /// A configuration, or all of them, are too large for the header.
    #[error("configuration '{0}' is too large for vma archive")]
    ConfigTooLarge(String),
    /// More than 256 configurations or 254 devices.
    #[error("too many entries for vma archive")]
    TooMany,
    /// A device without content, or with more than the format can number.
    #[error("wrong size {size} of device '{device}' for vma archive")]
    DeviceSize {
        /// The device's name.
        device: String,
        /// Its bytes.
        size: u64,
    },
    /// A cluster was handed over with a wrong number of bytes.
    #[error("got {got} bytes for cluster {cluster} of device '{device}', expected {expected}")]
    ClusterSize {
        /// The cluster's number.
        cluster: u32,
        /// The device's name.
        device: String,
        /// Bytes handed over.
        got: usize,
        /// Bytes of that cluster.
        expected: usize,
    },
}

impl VmaError {
    pub(super) fn read(error: &io::Error) -> Self {
        Self::Read(errno_text(error))
    }

    pub(super) fn write(error: &io::Error) -> Self {
        Self::Write(errno_text(error))
    }
}

impl Failure for VmaError {}
