//! `io_uring`: whether this process may use it. Containers and sandboxes often forbid it, and QEMU then fails to open
//! its disks.

#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd};

/// Bytes of the kernel's `struct io_uring_params`.
const PARAMS: usize = 120;

/// Whether a ring can be made.
pub fn is_allowed() -> bool {
    // The struct begins with 32-bit fields and holds 64-bit ones: as words of 64 bits it is aligned for both.
    let mut params = [0u64; PARAMS / 8];
    let entries: libc::c_uint = 1;
    // SAFETY: the pointer is to a live, zeroed buffer of the size that the kernel reads and writes.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, params.as_mut_ptr()) };
    let Ok(fd) = i32::try_from(fd) else { return false };
    if fd < 0 {
        return false;
    }
    // SAFETY: the kernel just gave this descriptor to us and nobody else knows it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    true
}
