//! librrd: round robin databases, the files of figures over time.
//!
//! The library is loaded when first needed, not linked: it brings some forty libraries for drawing that no process
//! should carry which never touches a file of figures (docs/decisions/0011-rrd.md). Only its re-entrant functions are
//! called, which keep their error text per thread and neither read the environment nor talk to a daemon; the one that
//! draws ([`graph`]) is not re-entrant and runs under a lock.
#![allow(unsafe_code)]

mod picture;

pub use picture::graph;

use std::ffi::{CStr, CString, c_char, c_int, c_ulong, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;

/// The library's ABI, the same since RRDtool 1.5.
const LIBRARY: &CStr = c"librrd.so.8";

type Create = unsafe extern "C" fn(*const c_char, c_ulong, libc::time_t, c_int, *const *const c_char) -> c_int;
type Update = unsafe extern "C" fn(*const c_char, *const c_char, c_int, *const *const c_char) -> c_int;
type Fetch = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *mut libc::time_t,
    *mut libc::time_t,
    *mut c_ulong,
    *mut c_ulong,
    *mut *mut *mut c_char,
    *mut *mut f64,
) -> c_int;
type Last = unsafe extern "C" fn(*const c_char) -> libc::time_t;
type GetError = unsafe extern "C" fn() -> *mut c_char;
type ClearError = unsafe extern "C" fn();
type Free = unsafe extern "C" fn(*mut c_void);

/// What is called of the library.
struct Functions {
    create: Create,
    update: Update,
    fetch: Fetch,
    last: Last,
    graph: picture::Graph,
    free_info: picture::FreeInfo,
    get_error: GetError,
    clear_error: ClearError,
    free: Free,
}

static FUNCTIONS: OnceLock<Result<Functions, String>> = OnceLock::new();

/// What librrd did not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RrdError {
    /// The library is not there.
    #[error("unable to load librrd - {0}")]
    Library(String),
    /// An argument holds a NUL byte or is too large.
    #[error("invalid argument")]
    Argument,
    /// It said why.
    #[error("{0}")]
    Refused(String),
}

/// How values of a coarser step come from those of a finer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consolidation {
    /// Their mean.
    Average,
    /// The largest.
    Max,
}

impl Consolidation {
    fn name(self) -> &'static CStr {
        match self {
            Self::Average => c"AVERAGE",
            Self::Max => c"MAX",
        }
    }

    /// Its name in definitions: `AVERAGE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Average => "AVERAGE",
            Self::Max => "MAX",
        }
    }
}

/// What [`fetch`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// When the first row's interval ends, Unix seconds.
    pub first: i64,
    /// Seconds from row to row.
    pub step: i64,
    /// What each value of a row is.
    pub names: Vec<String>,
    /// Row after row, as many values each as there are names; NaN is unknown.
    pub values: Vec<f64>,
}

/// Makes a file. `start`: Unix seconds before which there are no values. `definitions`: as `rrdtool create` has them
/// (`DS:…`, `RRA:…`).
///
/// # Errors
/// No library, a wrong definition, or the file cannot be made.
pub fn create(file: &Path, step: u32, start: i64, definitions: &[String]) -> Result<(), RrdError> {
    let functions = functions()?;
    let file = path(file)?;
    let texts = definitions
        .iter()
        .map(|text| CString::new(text.as_str()).map_err(|_| RrdError::Argument))
        .collect::<Result<Vec<_>, _>>()?;
    let pointers: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
    let count = c_int::try_from(pointers.len()).map_err(|_| RrdError::Argument)?;
    functions.clear();
    // SAFETY: the file name and the `count` texts are NUL-terminated and live through the call; the library reads them.
    let code = unsafe { (functions.create)(file.as_ptr(), c_ulong::from(step), start, count, pointers.as_ptr()) };
    functions.outcome(code)
}

/// Adds a sample: `TIME:VALUE:VALUE…`, `U` for what is unknown.
///
/// # Errors
/// No library, no such file, a wrong sample, or one that is not newer than the last.
pub fn update(file: &Path, sample: &str) -> Result<(), RrdError> {
    let functions = functions()?;
    let file = path(file)?;
    let sample = CString::new(sample).map_err(|_| RrdError::Argument)?;
    let samples = [sample.as_ptr()];
    functions.clear();
    // SAFETY: the file name and the one sample are NUL-terminated and live through the call; a template of NULL means
    // all sources in the file's order.
    let code = unsafe { (functions.update)(file.as_ptr(), ptr::null(), 1, samples.as_ptr()) };
    functions.outcome(code)
}

/// When a sample was last added, Unix seconds. Reads the file's head and checks its size.
///
/// # Errors
/// No library, no such file, or one that is none of the library's.
pub fn last(file: &Path) -> Result<i64, RrdError> {
    let functions = functions()?;
    let file = path(file)?;
    functions.clear();
    // SAFETY: the file name is NUL-terminated and lives through the call.
    let time = unsafe { (functions.last)(file.as_ptr()) };
    functions.outcome(if time < 0 { -1 } else { 0 })?;
    Ok(time)
}

/// Reads the values from `start` to `end` (Unix seconds) in steps as near to `step` as the file has them.
///
/// # Errors
/// No library, no such file.
pub fn fetch(file: &Path, how: Consolidation, start: i64, end: i64, step: u32) -> Result<Fetched, RrdError> {
    let functions = functions()?;
    let file = path(file)?;
    let (mut start, mut end): (libc::time_t, libc::time_t) = (start, end);
    let mut step = c_ulong::from(step);
    let mut count: c_ulong = 0;
    let mut names: *mut *mut c_char = ptr::null_mut();
    let mut data: *mut f64 = ptr::null_mut();
    functions.clear();
    // SAFETY: the texts are NUL-terminated and live through the call; the other arguments point to live variables that
    // the library may write.
    let code = unsafe {
        (functions.fetch)(
            file.as_ptr(),
            how.name().as_ptr(),
            &raw mut start,
            &raw mut end,
            &raw mut step,
            &raw mut count,
            &raw mut names,
            &raw mut data,
        )
    };
    functions.outcome(code)?;
    // From here on what the library allocated is owned by these two and freed on every way out.
    let count = usize::try_from(count).unwrap_or(0);
    let names = Allocated {
        memory: names,
        functions,
    };
    let data = Allocated {
        memory: data,
        functions,
    };
    let names = take_names(&names, count, functions);
    let step = i64::try_from(step).ok().filter(|step| *step > 0);
    let step = step.ok_or(RrdError::Argument)?;
    let rows = usize::try_from((end - start) / step).unwrap_or(0);
    let values = match data.memory.is_null() {
        true => Vec::new(),
        // SAFETY: after success the library has stored (end - start) / step + 1 rows of `count` values there.
        false => unsafe { std::slice::from_raw_parts(data.memory, rows * count) }.to_vec(),
    };
    Ok(Fetched {
        first: start + step,
        step,
        names,
        values,
    })
}

/// Copies and frees the names of the sources.
fn take_names(list: &Allocated<'_, *mut c_char>, count: usize, functions: &Functions) -> Vec<String> {
    if list.memory.is_null() {
        return Vec::new();
    }
    // SAFETY: after success the library has stored `count` pointers there.
    let pointers = unsafe { std::slice::from_raw_parts(list.memory, count) };
    pointers
        .iter()
        .map(|&pointer| {
            let name = Allocated {
                memory: pointer,
                functions,
            };
            match name.memory.is_null() {
                true => String::new(),
                // SAFETY: each of them is a NUL-terminated text of its own.
                false => unsafe { CStr::from_ptr(name.memory) }.to_string_lossy().into_owned(),
            }
        })
        .collect()
}

/// Memory that the library allocated and only it may free.
struct Allocated<'a, T> {
    memory: *mut T,
    functions: &'a Functions,
}

impl<T> Drop for Allocated<'_, T> {
    fn drop(&mut self) {
        // SAFETY: the library allocated it, nobody else frees it, and NULL is allowed.
        unsafe { (self.functions.free)(self.memory.cast()) }
    }
}

impl Functions {
    fn clear(&self) {
        // SAFETY: it only resets this thread's error text.
        unsafe { (self.clear_error)() }
    }

    fn outcome(&self, code: c_int) -> Result<(), RrdError> {
        match code {
            0 => Ok(()),
            code => Err(self.refusal(code)),
        }
    }

    /// What the library says went wrong in this thread.
    fn refusal(&self, code: c_int) -> RrdError {
        // SAFETY: it returns this thread's error text, a NUL-terminated text that stays until this thread's next call.
        let text = unsafe {
            let text = (self.get_error)();
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        };
        RrdError::Refused(text.unwrap_or_else(|| format!("error {code}")))
    }
}

fn path(path: &Path) -> Result<CString, RrdError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| RrdError::Argument)
}

fn functions() -> Result<&'static Functions, RrdError> {
    let loaded = FUNCTIONS.get_or_init(load);
    loaded.as_ref().map_err(|text| RrdError::Library(text.clone()))
}

fn load() -> Result<Functions, String> {
    // SAFETY: the name is NUL-terminated; the constructors of librrd and of what it needs only set up their own state.
    let library = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if library.is_null() {
        return Err(loader_error());
    }
    // The library is never closed, so the functions stay where they are.
    // SAFETY: each symbol is the function of rrd.h whose prototype the type repeats (RRDtool 1.5 to 1.9).
    unsafe {
        Ok(Functions {
            create: std::mem::transmute::<*mut c_void, Create>(symbol(library, c"rrd_create_r")?),
            update: std::mem::transmute::<*mut c_void, Update>(symbol(library, c"rrd_update_r")?),
            fetch: std::mem::transmute::<*mut c_void, Fetch>(symbol(library, c"rrd_fetch_r")?),
            last: std::mem::transmute::<*mut c_void, Last>(symbol(library, c"rrd_last_r")?),
            graph: std::mem::transmute::<*mut c_void, picture::Graph>(symbol(library, c"rrd_graph_v")?),
            free_info: std::mem::transmute::<*mut c_void, picture::FreeInfo>(symbol(library, c"rrd_info_free")?),
            get_error: std::mem::transmute::<*mut c_void, GetError>(symbol(library, c"rrd_get_error")?),
            clear_error: std::mem::transmute::<*mut c_void, ClearError>(symbol(library, c"rrd_clear_error")?),
            free: std::mem::transmute::<*mut c_void, Free>(symbol(library, c"rrd_freemem")?),
        })
    }
}

fn symbol(library: *mut c_void, name: &CStr) -> Result<*mut c_void, String> {
    // SAFETY: the handle came from dlopen and is never closed; the name is NUL-terminated.
    let address = unsafe { libc::dlsym(library, name.as_ptr()) };
    if address.is_null() {
        Err(loader_error())
    } else {
        Ok(address)
    }
}

fn loader_error() -> String {
    // SAFETY: it returns NULL or a NUL-terminated text that stays until this thread's next call of the loader.
    let text = unsafe {
        let text = libc::dlerror();
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    };
    text.unwrap_or_else(|| "unknown error".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definitions() -> Vec<String> {
        ["DS:a:GAUGE:120:0:U", "DS:b:DERIVE:120:0:U", "RRA:AVERAGE:0.5:1:10"]
            .map(str::to_owned)
            .into()
    }

    #[test]
    fn what_goes_in_comes_out() {
        let directory = std::env::temp_dir().join(format!("pve-sys-rrd-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("x");
        create(&file, 60, 1_700_006_400, &definitions()).unwrap();
        for n in 1..=12 {
            update(&file, &format!("{}:{}:{}", 1_700_006_400 + n * 10, 5, n * 100)).unwrap();
        }
        let found = fetch(&file, Consolidation::Average, 1_700_006_400, 1_700_006_520, 60).unwrap();
        assert_eq!((found.first, found.step), (1_700_006_460, 60));
        assert_eq!(found.names, ["a", "b"]);
        assert_eq!(&found.values[..4], [5.0, 10.0, 5.0, 10.0]);
        let stale = update(&file, "1700006520:1:1").unwrap_err().to_string();
        assert!(stale.contains("minimum one second step"), "{stale}");
        assert_eq!(last(&file), Ok(1_700_006_520));
        let definition = format!("DEF:x={}:a:AVERAGE", file.display());
        let times = [
            "--start",
            "1700006400",
            "--end",
            "1700006520",
            "--width",
            "800",
            "--height",
            "200",
        ];
        let arguments: Vec<String> = times
            .into_iter()
            .chain([definition.as_str(), "LINE1:x#ff0000"])
            .map(str::to_owned)
            .collect();
        let png = graph(&arguments).unwrap();
        assert!(
            png.starts_with(b"\x89PNG\r\n\x1a\n") && png.ends_with(b"IEND\xaeB`\x82"),
            "{} bytes",
            png.len()
        );
        let wrong = graph(&["LINE1:nothing#ff0000".to_owned()]).unwrap_err();
        assert!(matches!(wrong, RrdError::Refused(_)), "{wrong}");
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn errors_are_the_librarys_own() {
        let file = Path::new("/nonexistent/x");
        let gone = RrdError::Refused("opening '/nonexistent/x': No such file or directory".to_owned());
        assert_eq!(fetch(file, Consolidation::Max, 0, 60, 60), Err(gone));
        assert!(matches!(last(file), Err(RrdError::Refused(_))));
        assert!(create(file, 60, 0, &["DS:".to_owned()]).is_err());
        assert_eq!(update(file, "1:\0"), Err(RrdError::Argument));
    }
}
