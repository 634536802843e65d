//! Small files of the kernel, many of them and often: read in one go into a buffer that is there already.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use nix::errno::Errno;

/// Reads a file as far as the buffer goes; `None` if it cannot be read or is no text.
pub(crate) fn read<'a>(path: &Path, buffer: &'a mut [u8]) -> Option<&'a str> {
    std::str::from_utf8(bytes(path, buffer).ok()??).ok()
}

/// The same of a file that may hold anything; `None` if there is none.
///
/// # Errors
/// When there may be one that cannot be read, such as with too many files open.
pub(crate) fn bytes<'a>(path: &Path, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut length = 0;
    while let Some(room) = buffer.get_mut(length..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(count) => {
                length += count;
                // The kernel makes such a file for the first read, whole if there is room.
                if count < room.len() && buffer.get(length.wrapping_sub(1)) == Some(&b'\n') {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(buffer.get(..length))
}

/// Whether there is no such file, or no such process any more.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ESRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_read_whole() {
        let mut buffer = [0; 4096];
        let text = read(Path::new("/proc/self/stat"), &mut buffer).unwrap();
        assert!(text.starts_with(&format!("{} (", std::process::id())) && text.ends_with('\n'));
        assert_eq!(read(Path::new("/proc/self/no-such-file"), &mut buffer), None);
        assert_eq!(bytes(Path::new("/proc/self/no-such-file"), &mut buffer).unwrap(), None);
        assert!(
            bytes(Path::new("/proc/self"), &mut buffer).is_err(),
            "there, and not to be read"
        );
        let mut short = [0; 4];
        assert_eq!(read(Path::new("/proc/self/stat"), &mut short).map(str::len), Some(4));
    }
}
