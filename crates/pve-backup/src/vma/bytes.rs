//! Numbers at fixed places. What lies outside of the buffer reads as zero and is not written: callers hold buffers of
//! the format's fixed sizes.

/// The bytes at a place.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    found.copied().unwrap_or([0; N])
}

/// Big-endian, two bytes.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array(bytes, at))
}

/// Big-endian, four bytes.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(bytes, at))
}

/// Big-endian, eight bytes.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array(bytes, at))
}

/// Puts bytes at a place.
pub(super) fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = buffer.get_mut(at..at.saturating_add(bytes.len())) {
        place.copy_from_slice(bytes);
    }
}

/// The MD5 of a header whose own field at `at` counts as zero.
pub(super) fn md5_without(header: &mut [u8], at: usize) -> [u8; 16] {
    use md5::{Digest, Md5};
    put(header, at, &[0; 16]);
    Md5::digest(header).into()
}
