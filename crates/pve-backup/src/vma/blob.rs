//! The blob buffer at the end of a header: `len_lo len_hi data…`, back to back (reference 05 §13.1).

use super::bytes::{array, put};
use super::{MAX_BLOB, VmaError};

/// What the buffer grows by.
const STEP: usize = 512;

/// A buffer that is being filled.
pub(super) struct BlobWriter {
    /// Allocated bytes, a multiple of [`STEP`].
    buffer: Vec<u8>,
    /// Where the next blob goes. Byte 0 stays unused, so that offset 0 can mean "none".
    position: usize,
}

impl BlobWriter {
    pub(super) fn new() -> Self {
        Self {
            buffer: Vec::new(),
            position: 1,
        }
    }

    /// Adds a blob; its offset. `None` if it is too long for one.
    pub(super) fn add(&mut self, data: &[u8]) -> Option<u32> {
        let length = u16::try_from(data.len()).ok()?;
        let (at, whole) = (self.position, data.len() + 2);
        if at + whole > self.buffer.len() {
            self.buffer.resize(self.buffer.len() + whole.next_multiple_of(STEP), 0);
        }
        put(&mut self.buffer, at, &length.to_le_bytes());
        put(&mut self.buffer, at + 2, data);
        self.position = at + whole;
        u32::try_from(at).ok()
    }

    /// Adds a name, with its NUL.
    pub(super) fn add_name(&mut self, name: &str) -> Option<u32> {
        self.add(&[name.as_bytes(), b"\0"].concat())
    }

    /// Bytes in use: the position, not rounded. None without any blob, since nothing is allocated then.
    pub(super) fn used(&self) -> usize {
        self.position.min(self.buffer.len())
    }

    /// The buffer with its padding.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.buffer
    }
}

/// A buffer that was read: its bytes in use.
#[derive(Clone, Copy)]
pub(super) struct BlobReader<'a>(pub(super) &'a [u8]);

impl<'a> BlobReader<'a> {
    /// The blob at an offset.
    pub(super) fn get(self, offset: u32) -> Result<&'a [u8], VmaError> {
        let at = usize::try_from(offset).ok().filter(|at| *at > 0);
        let rest = at.and_then(|at| self.0.get(at..)).ok_or(VmaError::Pointers)?;
        let data = rest.get(2..).ok_or(VmaError::Pointers)?;
        let length = usize::from(u16::from_le_bytes(array(rest, 0)));
        data.get(..length).ok_or(VmaError::Pointers)
    }

    /// The name at an offset.
    pub(super) fn name(self, offset: u32) -> Result<&'a str, VmaError> {
        let blob = self.get(offset)?;
        let text = blob.strip_suffix(b"\0").and_then(|text| std::str::from_utf8(text).ok());
        text.filter(|name| is_name(name)).ok_or(VmaError::Pointers)
    }
}

/// Whether a text may name a configuration or a device: it becomes part of a file name.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() < MAX_BLOB
        && !matches!(text, "." | "..")
        && !text.chars().any(|c| c == '/' || c.is_control())
}
