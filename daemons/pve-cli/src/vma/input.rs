//! An archive as a stream. What it is compressed with, its first bytes tell.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::error::VmaCliError;

/// The first bytes of compressed files, and what decompresses them (reference 05 §10).
const DECOMPRESSORS: [(&[u8], &[&str]); 4] = [
    (&[0x28, 0xb5, 0x2f, 0xfd], &["zstd", "-q", "-d", "-c"]),
    (&[0x1f, 0x8b], &["zcat"]),
    (b"BZh", &["bzcat", "-q"]),
    (&[0x89, b'L', b'Z', b'O'], &["lzop", "-d", "-c"]),
];
/// As many bytes as the longest of them has.
const HEAD: usize = 4;

/// An archive as a stream.
pub(super) enum Input {
    /// As it is.
    Plain(Box<dyn Read>),
    /// Through a decompressor.
    Compressed(Decompressor),
}

impl Input {
    /// Opens an archive; `-` is standard input.
    pub(super) fn open(archive: &Path) -> Result<Self, VmaCliError> {
        let mut stream: Box<dyn Read + Send> = if archive == Path::new("-") {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(archive).map_err(VmaCliError::file("open", archive))?)
        };
        let mut head = Vec::new();
        let taken = (&mut stream).take(HEAD as u64).read_to_end(&mut head);
        taken.map_err(VmaCliError::file("read", archive))?;
        let found = DECOMPRESSORS.iter().find(|(magic, _)| head.starts_with(magic));
        let stream = Box::new(Cursor::new(head).chain(stream));
        match found {
            Some((_, words)) => Ok(Self::Compressed(Decompressor::start(archive, words, stream)?)),
            None => Ok(Self::Plain(stream)),
        }
    }

    /// All was read: whether the decompressor is content, too.
    pub(super) fn finish(self) -> Result<(), VmaCliError> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Compressed(decompressor) => decompressor.finish(),
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Compressed(decompressor) => decompressor.stdout.read(buffer),
        }
    }
}

/// A decompressor that a thread feeds; it is killed when this is dropped.
pub(super) struct Decompressor {
    archive: PathBuf,
    program: String,
    child: Child,
    stdout: ChildStdout,
}

impl Decompressor {
    fn start(archive: &Path, words: &[&str], mut stream: Box<dyn Read + Send>) -> Result<Self, VmaCliError> {
        let (program, arguments) = words.split_first().unwrap_or((&"cat", &[]));
        let failed = |source| VmaCliError::Program {
            archive: archive.to_owned(),
            program: (*program).to_owned(),
            source,
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (mut stdin, stdout) = pipes.ok_or_else(|| failed(io::Error::other("no pipes")))?;
        // It ends with the stream, or when the program does. What cannot be read is an archive that ends early.
        std::thread::spawn(move || io::copy(&mut stream, &mut stdin));
        Ok(Self {
            archive: archive.to_owned(),
            program: (*program).to_owned(),
            child,
            stdout,
        })
    }

    fn finish(mut self) -> Result<(), VmaCliError> {
        let status = self.child.wait().map_err(VmaCliError::file("read", &self.archive))?;
        if status.success() {
            return Ok(());
        }
        Err(VmaCliError::Decompress {
            archive: self.archive.clone(),
            program: self.program.clone(),
            status,
        })
    }
}

impl Drop for Decompressor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
