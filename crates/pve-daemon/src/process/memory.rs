//! Giving memory back: a worker that once answered something large is to be small again.

#![allow(unsafe_code)]

/// Blocks of this size, in bytes, and larger ones are mapped, and unmapped when they are freed. This is what the C
/// library begins with; left alone it raises the limit to the largest block that was ever freed, and keeps the rest.
const MAPPED_FROM: libc::c_int = 128 << 10;
/// Most heaps: threads that wait for files do not need one each.
const HEAPS: libc::c_int = 2;

/// Tells the C library's allocator how to keep a process small. For a process with one thread.
pub(crate) fn keep_small() {
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, MAPPED_FROM),
        (libc::M_TRIM_THRESHOLD, MAPPED_FROM),
        (libc::M_ARENA_MAX, HEAPS),
    ] {
        // SAFETY: mallopt takes two numbers and changes how later blocks are found.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Gives back to the system what a process has freed since it last did, in the middle of its heap, too: a burst of
/// requests leaves it in pieces. For a loop that turns every second or so.
pub fn give_back_memory() {
    // SAFETY: malloc_trim takes a number and locks what it works on; it touches nothing that is in use.
    unsafe { libc::malloc_trim(0) };
}
