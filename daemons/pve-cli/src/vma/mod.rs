//! `vma`: archives of VM backups (reference 05 §13, §17.8).
//!
//! | module | holds |
//! |---|---|
//! | `input` | an archive as a stream, decompressed if it has to be |
//! | `read` | list, config, extract, verify |
//! | `create` | making an archive |
//! | `error` | what can go wrong |

mod create;
mod error;
mod input;
mod read;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::VmaCliError;

/// Look into, unpack, check and make archives of VM backups
///
/// Archives compressed with zstd, gzip, bzip2 or lzop are recognised and decompressed.
#[derive(Debug, Parser)]
#[command(name = "vma", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "EXAMPLES\n  \
    vma list vzdump-qemu-100-2026_01_02-03_04_05.vma.zst\n  \
    vma config ARCHIVE > 100.conf\n  \
    vma extract -v -d drive-scsi0 ARCHIVE /srv/unpacked\n  \
    ssh node cat ARCHIVE | vma verify -v -\n  \
    vma create new.vma -c qemu-server.conf -d drive-scsi0=disk.raw -d format=qcow2:drive-scsi1=data.qcow2\n\n\
    The exit code is 0 when all went well, and 255 when not.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell what is in an archive: configurations, devices, when it was made
    List {
        /// The archive; - is standard input
        #[arg(value_name = "ARCHIVE")]
        archive: PathBuf,
    },
    /// Print a configuration
    Config {
        /// The archive; - is standard input
        #[arg(value_name = "ARCHIVE")]
        archive: PathBuf,
        /// Its name
        #[arg(short, long = "config", value_name = "NAME", default_value = "qemu-server.conf")]
        config: String,
    },
    /// Write configurations, and each device as disk-NAME.raw, to a directory
    ///
    /// The directory is made if it is not there. No file is overwritten; those of an extraction that fails are removed.
    Extract {
        /// Tell what is in the archive, and how far it was read
        #[arg(short, long)]
        verbose: bool,
        /// Only these devices
        #[arg(short, long = "drives", value_name = "NAME[,NAME…]", value_delimiter = ',')]
        drives: Option<Vec<String>>,
        /// The archive; - is standard input
        #[arg(value_name = "ARCHIVE")]
        archive: PathBuf,
        /// The directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Check that an archive is complete
    ///
    /// Headers have checksums, the devices' data have none: damaged data are found only in a compressed archive.
    Verify {
        /// Tell how far it was read
        #[arg(short, long)]
        verbose: bool,
        /// The archive; - is standard input
        #[arg(value_name = "ARCHIVE")]
        archive: PathBuf,
    },
    /// Make an archive of configurations and disk images
    Create {
        /// Tell how much was stored
        #[arg(short, long)]
        verbose: bool,
        /// The archive, which must not be there yet; - is standard output
        #[arg(value_name = "ARCHIVE")]
        archive: PathBuf,
        /// A configuration; its name is the file's
        #[arg(short, long = "config", value_name = "FILE")]
        configs: Vec<PathBuf>,
        /// A device: its name, usually drive-KEY, and its image. FORMAT is raw or one that QEMU knows
        #[arg(short, long = "device", value_name = "[format=FORMAT:]NAME=IMAGE")]
        devices: Vec<create::Source>,
    },
}

/// Runs the tool.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let words = std::iter::once(OsString::from("vma")).chain(arguments);
    let cli: Cli = match crate::parse(words) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let done = match &cli.command {
        Command::List { archive } => read::list(archive),
        Command::Config { archive, config } => read::config(archive, config),
        Command::Extract {
            verbose,
            drives,
            archive,
            directory,
        } => read::extract(archive, directory, drives.as_deref(), *verbose),
        Command::Verify { verbose, archive } => read::verify(archive, *verbose),
        Command::Create {
            verbose,
            archive,
            configs,
            devices,
        } => create::create(archive, configs, devices, *verbose),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is_closed_output() {
                eprintln!("vma: {error}");
            }
            ExitCode::from(crate::FAILURE)
        }
    }
}

/// Prints lines.
fn say<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) -> Result<(), VmaCliError> {
    let mut stdout = io::stdout().lock();
    for line in lines {
        writeln!(stdout, "{}", line.as_ref()).map_err(VmaCliError::Output)?;
    }
    stdout.flush().map_err(VmaCliError::Output)
}
