//! Small files of the kernel, many of them and often: read in one go into a buffer that is there already.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Reads a file as far as the buffer goes; `None` if it cannot be read or is no text.
pub(crate) fn read<'a>(path: &Path, buffer: &'a mut [u8]) -> Option<&'a str> {
    let mut file = File::open(path).ok()?;
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
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    std::str::from_utf8(buffer.get(..length)?).ok()
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
        let mut short = [0; 4];
        assert_eq!(read(Path::new("/proc/self/stat"), &mut short).map(str::len), Some(4));
    }
}
