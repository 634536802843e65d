//! The title of a process, as `ps` shows it.
//!
//! Linux shows the memory that held the arguments at exec. It is followed by the memory of the environment, and the
//! kernel reads on into it when the arguments' last byte is no longer NUL. So the environment is copied elsewhere once,
//! and titles are then written over both.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::sync::{Mutex, PoisonError};

/// Longest name the kernel keeps for a thread, without the NUL (prctl(2), PR_SET_NAME).
const THREAD_NAME: usize = 15;

/// The memory that titles are written to.
#[derive(Debug, Clone, Copy)]
struct Region {
    start: usize,
    length: usize,
}

static REGION: Mutex<Option<Region>> = Mutex::new(None);

unsafe extern "C" {
    static mut environ: *mut *mut c_char;
}

/// Makes room for titles: keeps a copy of the arguments ([`super::image`]) and moves the environment. Must be called
/// while the process has one thread; later calls change nothing. `false` when only the short thread name can be set.
pub fn reserve_title() -> bool {
    let mut reserved = REGION.lock().unwrap_or_else(PoisonError::into_inner);
    if reserved.is_some() {
        return true;
    }
    if !super::is_single_threaded() {
        return false;
    }
    super::image();
    let Some(region) = find_region() else { return false };
    // SAFETY: one thread (checked above), so nobody reads the environment while its entries are replaced.
    unsafe { move_environment(region) };
    *reserved = Some(region);
    true
}

/// Sets what `ps` shows for this process: the command line (cut to the memory there is) and the short name.
pub fn set_title(title: &str) {
    if reserve_title() {
        let reserved = REGION.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(region) = *reserved {
            // SAFETY: the region is this process's own argument memory, writable for its whole life; the environment
            // was moved out of it, the arguments were copied, and the lock keeps other writers away.
            unsafe { write_title(region, title) };
        }
    }
    let mut end = title.len().min(THREAD_NAME);
    while !title.is_char_boundary(end) {
        end -= 1;
    }
    if let Ok(name) = CString::new(title.get(..end).unwrap_or_default()) {
        // A name that cannot be set is a cosmetic loss.
        let _ = nix::sys::prctl::set_name(&name);
    }
}

/// Where arguments and environment lie: fields 48 to 51 of `/proc/self/stat`.
fn find_region() -> Option<Region> {
    let own = std::process::id();
    let field = |number| super::stat_field(own, number)?.parse::<usize>().ok();
    let (arg_start, arg_end, env_start, env_end) = (field(48)?, field(49)?, field(50)?, field(51)?);
    if arg_start == 0 || arg_end <= arg_start {
        return None;
    }
    let end = if env_start == arg_end && env_end > env_start {
        env_end
    } else {
        arg_end
    };
    Some(Region {
        start: arg_start,
        length: end - arg_start,
    })
}

/// Replaces every entry of the environment that lies in the region by a copy.
///
/// # Safety
/// The process must have one thread.
unsafe fn move_environment(region: Region) {
    // SAFETY: `environ` is the C library's NULL-terminated array of NUL-terminated strings; with one thread nobody
    // changes it meanwhile. The copies are leaked on purpose: the environment lives as long as the process.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let address = *entry as usize;
            if (region.start..region.start + region.length).contains(&address) {
                *entry = CStr::from_ptr(*entry).to_owned().into_raw();
            }
            entry = entry.add(1);
        }
    }
}

/// Writes a title and clears what is left of the region.
///
/// # Safety
/// Nothing else may use the region.
unsafe fn write_title(region: Region, title: &str) {
    let start = region.start as *mut u8;
    let length = title.len().min(region.length - 1);
    // SAFETY: `length` is below the region's length, and the region is writable memory of this process.
    unsafe {
        std::ptr::copy_nonoverlapping(title.as_ptr(), start, length);
        std::ptr::write_bytes(start.add(length), 0, region.length - length);
    }
}
