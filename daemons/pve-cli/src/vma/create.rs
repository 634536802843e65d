//! `vma create`

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use pve_backup::nbd::{Access, Image};
use pve_backup::vma::{Header, MAX_BLOB, VmaError, Writer, report};

use super::error::VmaCliError;
use super::say;

/// A device that is to be stored: `[format=FORMAT:]NAME=IMAGE`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    name: String,
    format: String,
    path: PathBuf,
}

impl FromStr for Source {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str = "expected [format=FORMAT:]NAME=IMAGE";
        let (format, rest) = match text.strip_prefix("format=") {
            Some(rest) => rest.split_once(':').ok_or(SHAPE)?,
            None => ("raw", text),
        };
        let (name, path) = rest.split_once('=').ok_or(SHAPE)?;
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if name.is_empty() || path.is_empty() || !is_word(format) {
            return Err(SHAPE);
        }
        Ok(Self {
            name: name.to_owned(),
            format: format.to_owned(),
            path: path.into(),
        })
    }
}

/// Makes an archive.
pub(super) fn create(
    archive: &Path,
    configs: &[PathBuf],
    sources: &[Source],
    verbose: bool,
) -> Result<(), VmaCliError> {
    let about = |source: VmaError| VmaCliError::Archive {
        archive: archive.to_owned(),
        source,
    };
    let mut header = Header::new(uuid()?, now());
    for path in configs {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| VmaCliError::NoName(path.clone()))?;
        header.add_config(name, &read_config(path)?).map_err(about)?;
    }
    let mut opened = Vec::new();
    for source in sources {
        let (size, content) = open(source)?;
        opened.push((header.add_device(&source.name, size).map_err(about)?, content));
    }
    let (output, mut unfinished) = output(archive)?;
    let mut writer = Writer::new(output, header).map_err(about)?;
    for (id, mut content) in opened {
        writer.device(id, &mut content).map_err(about)?;
    }
    let (mut output, stats) = writer.finish().map_err(about)?;
    output.finish().map_err(VmaCliError::file("write", archive))?;
    unfinished.path = None;
    // Standard output may be the archive itself.
    if verbose && archive != Path::new("-") {
        say(report::summary(&stats))?;
    }
    Ok(())
}

/// A configuration; one byte more than fits is enough to see that it does not.
fn read_config(path: &Path) -> Result<Vec<u8>, VmaCliError> {
    let mut data = Vec::new();
    let file = File::open(path).map_err(VmaCliError::file("open", path))?;
    let read = file.take(MAX_BLOB as u64 + 1).read_to_end(&mut data);
    read.map_err(VmaCliError::file("read", path))?;
    Ok(data)
}

fn open(source: &Source) -> Result<(u64, Box<dyn Read>), VmaCliError> {
    let failed = |error| VmaCliError::Image {
        path: source.path.clone(),
        format: source.format.clone(),
        source: error,
    };
    if source.format == "raw" {
        let mut file = File::open(&source.path).map_err(failed)?;
        let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        return Ok((size, Box::new(file)));
    }
    // An absolute path is never taken for a protocol.
    let path = source.path.canonicalize().map_err(failed)?;
    let image = Image::open(&path, &source.format, Access::Read, &std::env::temp_dir()).map_err(failed)?;
    Ok((image.size(), Box::new(Stream { image, at: 0 })))
}

/// An image from its start to its end.
struct Stream {
    image: Image,
    at: u64,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.image.size().saturating_sub(self.at)).unwrap_or(usize::MAX);
        let len = left.min(buffer.len());
        let part = buffer.get_mut(..len).unwrap_or_default();
        self.image.read(self.at, part)?;
        self.at += len as u64;
        Ok(len)
    }
}

/// Where the archive goes.
enum Output {
    File(File),
    Stdout(io::Stdout),
}

impl Output {
    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.sync_all(),
            Self::Stdout(stdout) => stdout.flush(),
        }
    }
}

impl Write for Output {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(data),
            Self::Stdout(stdout) => stdout.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stdout(stdout) => stdout.flush(),
        }
    }
}

/// An archive that is not complete goes when this is dropped.
struct Unfinished {
    path: Option<PathBuf>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

fn output(archive: &Path) -> Result<(Output, Unfinished), VmaCliError> {
    if archive == Path::new("-") {
        return Ok((Output::Stdout(io::stdout()), Unfinished { path: None }));
    }
    let file = File::create_new(archive).map_err(VmaCliError::file("create", archive))?;
    let path = Some(archive.to_owned());
    Ok((Output::File(file), Unfinished { path }))
}

/// A random UUID (version 4).
fn uuid() -> Result<[u8; 16], VmaCliError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| VmaCliError::Random(error.to_string()))?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    Ok(bytes)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_with_their_images() {
        let source = |text: &str| {
            text.parse::<Source>()
                .map(|source| (source.format, source.name, source.path))
        };
        let parts =
            |format: &str, name: &str, path: &str| Ok((format.to_owned(), name.to_owned(), PathBuf::from(path)));
        assert_eq!(
            source("drive-scsi0=a:b=c.raw"),
            parts("raw", "drive-scsi0", "a:b=c.raw")
        );
        assert_eq!(source("format=qcow2:d=/x"), parts("qcow2", "d", "/x"));
        for bad in ["d", "=x", "d=", "format=qcow2", "format=:d=x", "format=a,b:d=x"] {
            assert!(source(bad).is_err(), "{bad}");
        }
    }
}
