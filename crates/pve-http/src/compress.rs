//! Compression of answers, as a client accepts it (reference 01 §3.4).

use std::io::{self, Read, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

/// Bodies up to this size are not worth compressing (reference 01 §3.4).
pub(crate) const COMPRESS_FROM: usize = 1024;
/// 260 KB of rows shrink to 60 KB in 1.5 ms at this level; level 6 takes twice the time for a tenth less
/// (reference 12 §4).
const LEVEL: Compression = Compression::new(2);

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// What everybody understands.
    Gzip,
    /// The zlib format, which is what `deflate` means in HTTP.
    Deflate,
}

impl Packing {
    /// What a client's `Accept-Encoding` allows; weights are not looked at.
    pub(crate) fn accepted(accept: Option<&str>) -> Option<Self> {
        let accept = accept?;
        if accept.contains("gzip") {
            Some(Self::Gzip)
        } else if accept.contains("deflate") {
            Some(Self::Deflate)
        } else {
            None
        }
    }

    /// Its name in `Content-Encoding`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// Compresses what is in memory.
    pub(crate) fn pack(self, bytes: &[u8]) -> io::Result<Bytes> {
        let room = Vec::with_capacity(bytes.len() / 3);
        let packed = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(room, LEVEL);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(room, LEVEL);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
        };
        packed.map(Bytes::from)
    }

    /// Compresses what is read, as it is read.
    pub(crate) fn reader(self, reader: impl Read + Send + 'static) -> Box<dyn Read + Send> {
        match self {
            Self::Gzip => Box::new(flate2::read::GzEncoder::new(reader, LEVEL)),
            Self::Deflate => Box::new(flate2::read::ZlibEncoder::new(reader, LEVEL)),
        }
    }
}
