//! The programs that make archives smaller, and large again (reference 05 §7.5).

use std::fs::File;
use std::io::{self, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pve_schema::{Failure, errno_text};

/// How long a compressor may take for what it still holds after the last byte came: some megabytes, be it on a slow
/// network file system.
const FINISH: Duration = Duration::from_secs(600);
/// How often its end is looked for.
const POLL: Duration = Duration::from_millis(10);

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// By `lzop`.
    Lzo,
    /// By `gzip`, or by `pigz` with so many threads.
    Gzip {
        /// Threads of `pigz`.
        pigz: Option<u32>,
    },
    /// By `zstd` with so many threads.
    Zstd {
        /// Threads.
        threads: u32,
    },
}

impl Compression {
    /// What the options `compress`, `pigz` and `zstd` ask for on a machine with so many cores (reference 05 §6.1);
    /// `None` for a value that `compress` does not have.
    pub fn of_options(compress: &str, pigz: u32, zstd: u32, cores: u32) -> Option<Self> {
        let half = cores.div_ceil(2).max(1);
        match compress {
            "" | "0" => Some(Self::None),
            "1" | "lzo" => Some(Self::Lzo),
            "gzip" => Some(Self::Gzip {
                pigz: match pigz {
                    0 => None,
                    1 => Some(half),
                    threads => Some(threads),
                },
            }),
            "zstd" => Some(Self::Zstd {
                threads: if zstd == 0 { half } else { zstd },
            }),
            _ => None,
        }
    }

    /// What an archive is compressed with by its last extension; `None` for one that is no compression's.
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension {
            "lzo" => Some(Self::Lzo),
            "gz" => Some(Self::Gzip { pigz: None }),
            "zst" => Some(Self::Zstd { threads: 1 }),
            _ => None,
        }
    }

    /// What stands behind `.vma` or `.tar`: `.zst`, or nothing.
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Lzo => ".lzo",
            Self::Gzip { .. } => ".gz",
            Self::Zstd { .. } => ".zst",
        }
    }

    /// Program and arguments that compress standard input to standard output.
    pub fn command(self) -> Option<Vec<String>> {
        let words = match self {
            Self::None => return None,
            Self::Lzo => "lzop".to_owned(),
            Self::Gzip { pigz: None } => "gzip --rsyncable".to_owned(),
            Self::Gzip { pigz: Some(threads) } => format!("pigz -p {threads} --rsyncable"),
            Self::Zstd { threads } => format!("zstd --threads={threads}"),
        };
        Some(words.split(' ').map(str::to_owned).collect())
    }

    /// Program and arguments that write an archive's content to standard output; the archive is their input, or a file
    /// named behind them.
    pub fn decompress_command(self) -> Option<Vec<String>> {
        let words = match self {
            Self::None => return None,
            Self::Lzo => "lzop -d -c",
            Self::Gzip { .. } => "zcat",
            Self::Zstd { .. } => "zstd -q -d -c",
        };
        Some(words.split(' ').map(str::to_owned).collect())
    }
}

/// What can go wrong with a compressor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressError {
    /// It does not start.
    #[error("unable to execute '{command}' - {reason}")]
    Start {
        /// Program and arguments.
        command: String,
        /// The system's word.
        reason: String,
    },
    /// It ended with an error.
    #[error("{command} failed - wrong exit status {status}")]
    Status {
        /// Program and arguments.
        command: String,
        /// Its exit status, or 128 and the number of the signal that ended it.
        status: i32,
    },
    /// It does not end.
    #[error("{0} failed - got timeout")]
    Timeout(String),
    /// Its end cannot be waited for, or what it should have written last cannot be.
    #[error("{command} failed - {reason}")]
    System {
        /// Program and arguments.
        command: String,
        /// The system's word.
        reason: String,
    },
}

impl Failure for CompressError {}

/// Takes an archive and writes it compressed into a file.
///
/// Ends the program when it is dropped before [`Compressor::finish`]. A write to a program that died fails with
/// `EPIPE`; why it died is what [`Compressor::finish`] tells then.
#[derive(Debug)]
pub struct Compressor {
    output: Output,
    /// Program and arguments, as messages name them.
    command: String,
}

#[derive(Debug)]
enum Output {
    Plain(File),
    Program {
        /// Its input, until all is written.
        input: Option<ChildStdin>,
        child: Killer,
    },
}

/// Ends a compressor from elsewhere: the way out for a write that waits for a program which does not read any more.
#[derive(Debug, Clone)]
pub struct Killer(Arc<Mutex<Child>>);

impl Killer {
    /// Ends the program, unless it has gone already.
    pub fn kill(&self) {
        if let Err(error) = self.child().kill() {
            log::warn!("unable to end a compressor - {error}");
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The program's exit status, if it ends in time.
    fn wait(&self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.child().try_wait()?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Compressor {
    /// Starts the program; its output goes to the file, its errors to where those of this process go.
    ///
    /// # Errors
    /// [`CompressError::Start`]
    pub fn start(compression: Compression, file: File) -> Result<Self, CompressError> {
        match compression.command() {
            None => Ok(Self {
                output: Output::Plain(file),
                command: String::new(),
            }),
            Some(words) => Self::run(&words, file),
        }
    }

    /// Starts any program that reads standard input and writes standard output.
    ///
    /// # Errors
    /// [`CompressError::Start`]
    pub fn run(words: &[String], file: File) -> Result<Self, CompressError> {
        let command = words.join(" ");
        let fail = |reason: String| CompressError::Start {
            command: command.clone(),
            reason,
        };
        let (program, arguments) = words.split_first().ok_or_else(|| fail("no program".to_owned()))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(file)
            .spawn()
            .map_err(|error| {
                let remedy = match error.kind() {
                    io::ErrorKind::NotFound => " (is the package installed?)",
                    _ => "",
                };
                fail(format!("{}{remedy}", errno_text(&error)))
            })?;
        Ok(Self {
            output: Output::Program {
                input: child.stdin.take(),
                child: Killer(Arc::new(Mutex::new(child))),
            },
            command,
        })
    }

    /// What ends the program from elsewhere; `None` if there is none.
    pub fn killer(&self) -> Option<Killer> {
        match &self.output {
            Output::Plain(_) => None,
            Output::Program { child, .. } => Some(child.clone()),
        }
    }

    /// Tells the program that this was all, and waits for its end.
    ///
    /// # Errors
    /// [`CompressError`]
    pub fn finish(mut self) -> Result<(), CompressError> {
        let command = self.command.clone();
        let Output::Program { input, child } = &mut self.output else {
            return Ok(());
        };
        drop(input.take());
        match child.wait(FINISH) {
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(Some(status)) => Err(CompressError::Status {
                command,
                status: code(status),
            }),
            Ok(None) => Err(CompressError::Timeout(command)),
            Err(error) => Err(CompressError::System {
                command,
                reason: errno_text(&error),
            }),
        }
    }
}

/// An exit status as a shell tells it.
fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}

impl Write for Compressor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.output {
            Output::Plain(file) => file.write(bytes),
            Output::Program { input: Some(pipe), .. } => pipe.write(bytes),
            Output::Program { input: None, .. } => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.output {
            Output::Plain(file) => file.flush(),
            Output::Program { input: Some(pipe), .. } => pipe.flush(),
            Output::Program { input: None, .. } => Ok(()),
        }
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        if let Output::Program { child, .. } = &self.output {
            child.kill();
            if let Err(error) = child.child().wait() {
                log::warn!("unable to wait for '{}' - {error}", self.command);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::Read;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn options_make_command_lines() {
        let cases = [
            ("0", 0, 1, "", ""),
            ("", 0, 1, "", ""),
            ("1", 0, 1, "lzop", ".lzo"),
            ("lzo", 0, 1, "lzop", ".lzo"),
            ("gzip", 0, 1, "gzip --rsyncable", ".gz"),
            ("gzip", 1, 1, "pigz -p 3 --rsyncable", ".gz"),
            ("gzip", 7, 1, "pigz -p 7 --rsyncable", ".gz"),
            ("zstd", 0, 0, "zstd --threads=3", ".zst"),
            ("zstd", 0, 1, "zstd --threads=1", ".zst"),
        ];
        for (compress, pigz, zstd, command, extension) in cases {
            let compression = Compression::of_options(compress, pigz, zstd, 5).unwrap();
            assert_eq!(compression.command().unwrap_or_default().join(" "), command);
            assert_eq!(compression.extension(), extension);
            assert_eq!(compression.decompress_command().is_some(), !command.is_empty());
            if let Some(extension) = extension.strip_prefix('.') {
                let known = Compression::of_extension(extension).unwrap();
                assert_eq!(known.decompress_command(), compression.decompress_command());
            }
        }
        assert_eq!(Compression::of_options("xz", 0, 0, 1), None);
        assert_eq!(Compression::of_extension("vma"), None);
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        for compression in [
            Compression::None,
            Compression::Gzip { pigz: None },
            Compression::Zstd { threads: 1 },
        ] {
            let path = directory.path().join("archive");
            let mut compressor = Compressor::start(compression, File::create(&path).unwrap()).unwrap();
            compressor.write_all(&content).unwrap();
            compressor.finish().unwrap();

            let mut found = Vec::new();
            let file = File::open(&path).unwrap();
            match compression.decompress_command() {
                None => drop((&file).read_to_end(&mut found).unwrap()),
                Some(words) => {
                    let mut command = Command::new(&words[0]);
                    found = command.args(&words[1..]).stdin(file).output().unwrap().stdout;
                }
            }
            assert!(found == content, "{compression:?}");
        }
    }

    #[test]
    fn a_compressor_that_fails_is_named() {
        let file = || tempfile::tempfile().unwrap();
        let compressor = Compressor::run(&words("sh -c exit\t3"), file()).unwrap();
        assert_eq!(
            compressor.finish().unwrap_err().to_string(),
            "sh -c exit\t3 failed - wrong exit status 3"
        );
        let error = Compressor::run(&words("/nonexistent/zstd --threads=1"), file()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unable to execute '/nonexistent/zstd --threads=1' - No such file or directory (is the package installed?)"
        );
    }

    #[test]
    fn a_write_to_a_killed_compressor_ends() {
        // `sleep` never reads: once the pipe is full, a write would wait for ever.
        let mut compressor = Compressor::run(&words("sleep 600"), tempfile::tempfile().unwrap()).unwrap();
        let killer = compressor.killer().unwrap();
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| compressor.write_all(&vec![0; 1 << 20]));
            killer.kill();
            let error = writing.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        });
        let error = compressor.finish().unwrap_err();
        assert!(error.to_string().ends_with("wrong exit status 137"), "{error}");
    }

    #[test]
    fn a_dropped_compressor_leaves_no_process() {
        let compressor = Compressor::run(&words("sleep 600"), tempfile::tempfile().unwrap()).unwrap();
        let pid = compressor.killer().unwrap().child().id();
        drop(compressor);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
