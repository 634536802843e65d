//! An image file behind a `qemu-nbd` of its own, which knows the formats.
//!
//! The process ends with its only client, or is killed when the value is dropped. Its socket lies in a directory that
//! only its owner may enter.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pve_schema::errno_text;

use super::client::Client;
use crate::vma::Sink;

/// How long `qemu-nbd` may take to open an image and its socket.
const START: Duration = Duration::from_secs(30);
/// How long it may take to close an image: it writes what it holds back.
const END: Duration = Duration::from_secs(120);
/// How often it is looked after meanwhile.
const LOOK: Duration = Duration::from_millis(5);
/// The program.
const QEMU_NBD: &str = "qemu-nbd";
/// How much of its words is told.
const MAX_WORDS: u64 = 4096;

/// What an image is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing changes, and others may have it open.
    Read,
    /// It is written; what is made zero becomes a hole.
    Write,
}

/// An open image.
#[derive(Debug)]
pub struct Image {
    /// `None` once it was closed.
    client: Option<Client>,
    size: u64,
    server: Server,
}

impl Image {
    /// Opens an image of a format (`qcow2`, as QEMU calls them). The socket is made below `directory`.
    ///
    /// # Errors
    /// The program is missing, or it does not open the image.
    pub fn open(path: &Path, format: &str, access: Access, directory: &Path) -> io::Result<Self> {
        let mut server = Server::start(path, format, access, directory)?;
        let client = server.connect()?;
        Ok(Self {
            size: client.size(),
            client: Some(client),
            server,
        })
    }

    /// The bytes that a guest sees.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills a buffer from a place.
    ///
    /// # Errors
    /// The server's.
    pub fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.client()?.read(offset, buffer)
    }

    fn client(&mut self) -> io::Result<&mut Client> {
        let closed = || io::Error::other("the image is closed");
        self.client.as_mut().ok_or_else(closed)
    }

    /// Makes durable what was written, and waits for the process to end.
    ///
    /// # Errors
    /// Something of that failed: the image is not to be relied on.
    pub fn close(&mut self) -> io::Result<()> {
        let Some(mut client) = self.client.take() else {
            return Ok(());
        };
        client.flush()?;
        client.disconnect()?;
        let status = self.server.wait(END)?;
        if status.success() {
            Ok(())
        } else {
            Err(self.server.failure(status))
        }
    }
}

impl Sink for Image {
    fn size(&mut self) -> io::Result<Option<u64>> {
        Ok(Some(self.size))
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.client()?.write(offset, data)
    }

    fn write_zeros(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.client()?.write_zeroes(offset, len)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.close()
    }
}

/// The process, and the directory of its socket.
#[derive(Debug)]
struct Server {
    child: Child,
    directory: PathBuf,
}

impl Server {
    fn start(path: &Path, format: &str, access: Access, directory: &Path) -> io::Result<Self> {
        let directory = private_directory(directory)?;
        let mut command = Command::new(QEMU_NBD);
        command.arg(format!("--format={format}"));
        command.arg(format!("--socket={}", socket(&directory).display()));
        command.args(match access {
            Access::Read => ["--read-only", "--shared=1"],
            Access::Write => ["--discard=unmap", "--shared=1"],
        });
        command.arg(path);
        let spawned = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        match spawned {
            Ok(child) => Ok(Self { child, directory }),
            Err(error) => {
                let _ = fs::remove_dir(&directory);
                let reason = errno_text(&error);
                Err(io::Error::new(
                    error.kind(),
                    format!("unable to run '{QEMU_NBD}' - {reason}"),
                ))
            }
        }
    }

    /// Waits for the socket.
    fn connect(&mut self) -> io::Result<Client> {
        let deadline = Instant::now() + START;
        loop {
            match Client::connect(&socket(&self.directory), "") {
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {}
                done => return done,
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(self.failure(status));
            }
            if Instant::now() >= deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("'{QEMU_NBD}' - got timeout"),
                ));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn wait(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("'{QEMU_NBD}' - got timeout"),
                ));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Why it ended, in its own words if it said any.
    fn failure(&mut self, status: ExitStatus) -> io::Error {
        let mut words = Vec::new();
        if let Some(stderr) = self.child.stderr.take() {
            // It has ended, so nothing is waited for.
            let _ = stderr.take(MAX_WORDS).read_to_end(&mut words);
        }
        let words = String::from_utf8_lossy(&words);
        match words.trim() {
            "" => io::Error::other(format!("'{QEMU_NBD}' failed: {status}")),
            words => io::Error::other(words.replace('\n', " ")),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A new directory that only its owner may enter.
fn private_directory(below: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let directory = below.join(format!("nbd-{}-{number}", std::process::id()));
    // What a killed process of the same id left behind.
    let _ = fs::remove_dir_all(&directory);
    fs::DirBuilder::new().mode(0o700).create(&directory)?;
    Ok(directory)
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("s")
}
