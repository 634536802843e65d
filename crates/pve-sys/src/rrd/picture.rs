//! Charts drawn by librrd.

use std::ffi::{CStr, CString, c_char, c_int, c_uchar, c_uint, c_ulong};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use super::{Functions, RrdError, functions};

pub(super) type Graph = unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut Info;
pub(super) type FreeInfo = unsafe extern "C" fn(*mut Info);

/// The kind of [`Info`] that holds bytes (`RD_I_BLO`).
const BYTES: c_uint = 4;

/// `rrd_info_t`: one thing that is told of a chart.
#[repr(C)]
pub(super) struct Info {
    key: *mut c_char,
    kind: c_uint,
    value: InfoValue,
    next: *mut Info,
}

/// `rrd_infoval_t`.
#[repr(C)]
#[derive(Clone, Copy)]
union InfoValue {
    count: c_ulong,
    figure: f64,
    text: *mut c_char,
    number: c_int,
    bytes: Bytes,
}

/// `rrd_blob_t`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Bytes {
    size: c_ulong,
    memory: *mut c_uchar,
}

/// Drawing sets up fonts and the locale of times of the whole process: one at a time.
static DRAWING: Mutex<()> = Mutex::new(());

/// Draws a chart, a PNG picture unless the arguments say otherwise. `arguments`: as `rrdtool graph` has them after the
/// name of the file (`--start`, `DEF:…`, `LINE1:…`). Files that they name are read.
///
/// # Errors
/// No library, an argument that it does not take, or no such file.
pub fn graph(arguments: &[String]) -> Result<Vec<u8>, RrdError> {
    let functions = functions()?;
    let texts = ["graphv", "-"].into_iter().chain(arguments.iter().map(String::as_str));
    let texts = texts.map(|text| CString::new(text).map_err(|_| RrdError::Argument));
    let texts = texts.collect::<Result<Vec<_>, _>>()?;
    let count = c_int::try_from(texts.len()).map_err(|_| RrdError::Argument)?;
    // The library sorts this list; the texts stay ours.
    let mut pointers: Vec<*mut c_char> = texts.iter().map(|text| text.as_ptr().cast_mut()).collect();
    pointers.push(ptr::null_mut());
    let _alone = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
    functions.clear();
    // SAFETY: there are `count` NUL-terminated texts and a NULL behind them, all of which live through the call; the
    // library moves the pointers and copies what it keeps of the texts. No other thread draws meanwhile.
    let told = unsafe { (functions.graph)(count, pointers.as_mut_ptr()) };
    if told.is_null() {
        return Err(functions.refusal(-1));
    }
    let told = Told { first: told, functions };
    told.image().ok_or_else(|| functions.refusal(-1))
}

/// What was told of a chart; the library's memory, which only it may free.
struct Told<'a> {
    first: *mut Info,
    functions: &'a Functions,
}

impl Told<'_> {
    /// A copy of the picture.
    fn image(&self) -> Option<Vec<u8>> {
        let mut next = self.first;
        while !next.is_null() {
            // SAFETY: the list is the library's, ends with NULL, and is freed after this borrow only.
            let info = unsafe { &*next };
            // SAFETY: a key that is not NULL is a NUL-terminated text.
            let is_image = !info.key.is_null() && unsafe { CStr::from_ptr(info.key) } == c"image";
            if is_image && info.kind == BYTES {
                // SAFETY: the kind says which field of the union was written.
                let bytes = unsafe { info.value.bytes };
                let size = usize::try_from(bytes.size).ok().filter(|_| !bytes.memory.is_null())?;
                // SAFETY: the library stored `size` bytes there, and frees them after this borrow only.
                return Some(unsafe { std::slice::from_raw_parts(bytes.memory, size) }.to_vec());
            }
            next = info.next;
        }
        None
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        // SAFETY: the library made the list, and nobody else frees it.
        unsafe { (self.functions.free_info)(self.first) }
    }
}
