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

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows as `/cluster/resources` has them.
    fn rows() -> String {
        let row = |n: u64| {
            let (noise, vmid) = (n.wrapping_mul(2_654_435_761) % 1_000_003, 100 + n);
            format!(
                "{{\"id\":\"qemu/{vmid}\",\"type\":\"qemu\",\"node\":\"node{}\",\"status\":\"running\",\"cpu\":0.{noise:06},\
                 \"mem\":{},\"maxmem\":8589934592,\"netin\":{},\"name\":\"guest-{vmid}\"}}",
                n % 5,
                noise * 4096,
                noise * 997
            )
        };
        (0..2000).map(row).collect::<Vec<_>>().join(",")
    }

    /// Reference 12 §4: levels 2 and 3 are worth their time, level 1 is not, and 6 takes twice as long for little.
    #[test]
    fn the_level_is_where_more_time_gains_little() {
        let text = rows();
        let size = |level| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap().len()
        };
        let own = Packing::Gzip.pack(text.as_bytes()).unwrap().len();
        assert!(own * 10 < size(1) * 9, "{own} of {}, level 1: {}", text.len(), size(1));
        assert!(own * 8 < size(6) * 10, "{own} of {}, level 6: {}", text.len(), size(6));
    }

    #[test]
    fn what_is_read_is_compressed_as_what_is_in_memory() {
        let text = rows();
        for packing in [Packing::Gzip, Packing::Deflate] {
            let mut read = Vec::new();
            packing
                .reader(io::Cursor::new(text.clone()))
                .read_to_end(&mut read)
                .unwrap();
            let packed = packing.pack(text.as_bytes()).unwrap();
            let unpack = |bytes: &[u8]| match packing {
                Packing::Gzip => io::read_to_string(flate2::read::GzDecoder::new(bytes)).unwrap(),
                Packing::Deflate => io::read_to_string(flate2::read::ZlibDecoder::new(bytes)).unwrap(),
            };
            assert!(unpack(&read) == text && unpack(&packed) == text);
        }
    }
}
