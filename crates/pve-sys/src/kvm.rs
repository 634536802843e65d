//! KVM: whether the kernel's interface is there.

#![allow(unsafe_code)]

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;

/// `KVM_GET_API_VERSION`
const GET_API_VERSION: libc::c_ulong = 0xAE00;
/// The only version that has been in use since 2007.
const API_VERSION: libc::c_int = 12;

/// Whether `/dev/kvm` opens and answers as KVM. That guests run well on it is not said by that.
pub fn answers() -> bool {
    let Ok(device) = OpenOptions::new().read(true).write(true).open("/dev/kvm") else {
        return false;
    };
    // SAFETY: the descriptor is open for the whole call, and this request takes no argument and writes nowhere.
    let version = unsafe { libc::ioctl(device.as_raw_fd(), GET_API_VERSION as _, 0) };
    version == API_VERSION
}
