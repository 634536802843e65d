//! The I/O priority of this thread, and of the threads and programs that it starts from then on.

#![allow(unsafe_code)]

use std::io;

/// `IOPRIO_WHO_PROCESS` of the kernel's interface: one thread, of which 0 is the caller.
const WHO_PROCESS: libc::c_int = 1;
/// `IOPRIO_CLASS_SHIFT`: where the class stands beside the level.
const CLASS_SHIFT: u32 = 13;
/// `IOPRIO_CLASS_BE`.
const BEST_EFFORT: libc::c_int = 2;
/// `IOPRIO_CLASS_IDLE`.
const IDLE: libc::c_int = 3;
/// The lowest level of the best-effort class.
const LAST_LEVEL: u8 = 7;

/// Sets the I/O priority: 0 (first) to 7 of the best-effort class; anything above is the idle class.
///
/// # Errors
/// What the kernel says.
pub fn set(level: u8) -> io::Result<()> {
    let priority = if level > LAST_LEVEL {
        IDLE << CLASS_SHIFT
    } else {
        (BEST_EFFORT << CLASS_SHIFT) | libc::c_int::from(level)
    };
    let this: libc::c_int = 0;
    // SAFETY: the call takes three integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, this, priority) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The priority as [`set`] takes it; `None` where none was set, or a class that it does not know.
pub fn get() -> Option<u8> {
    let this: libc::c_int = 0;
    // SAFETY: the call takes two integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, this) };
    let priority = libc::c_int::try_from(result).ok()?;
    match priority >> CLASS_SHIFT {
        BEST_EFFORT => u8::try_from(priority & i32::from(LAST_LEVEL)).ok(),
        IDLE => Some(LAST_LEVEL + 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_priority_that_was_set_is_found() {
        for level in [3, 7, 8] {
            super::set(level).unwrap();
            assert_eq!(super::get(), Some(level));
        }
    }
}
