//! What is done with an archive that is there.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::tz::TimeZone;
use pve_backup::vma::{self, Device, Plan, Progress, RawFile, Reader, VmaError, report};

use super::error::VmaCliError;
use super::input::Input;
use super::say;

/// `vma list`
pub(super) fn list(archive: &Path) -> Result<(), VmaCliError> {
    let mut input = Input::open(archive)?;
    say(report::contents(
        open(archive, &mut input)?.header(),
        &TimeZone::system(),
    ))
}

/// `vma config`
pub(super) fn config(archive: &Path, name: &str) -> Result<(), VmaCliError> {
    let mut input = Input::open(archive)?;
    let reader = open(archive, &mut input)?;
    let data = reader.header().config(name);
    let data = data.ok_or_else(|| VmaCliError::NoConfig(name.to_owned()))?;
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(data)
        .and_then(|()| stdout.flush())
        .map_err(VmaCliError::Output)
}

/// `vma verify`
pub(super) fn verify(archive: &Path, verbose: bool) -> Result<(), VmaCliError> {
    let mut input = Input::open(archive)?;
    let mut reader = open(archive, &mut input)?;
    let started = Instant::now();
    let checked = vma::verify(&mut reader, &mut |step| tell(verbose, started, &step));
    let stats = checked.map_err(about(archive))?;
    input.finish()?;
    if verbose { say(report::summary(&stats)) } else { Ok(()) }
}

/// `vma extract`
pub(super) fn extract(
    archive: &Path,
    directory: &Path,
    only: Option<&[String]>,
    verbose: bool,
) -> Result<(), VmaCliError> {
    let mut input = Input::open(archive)?;
    let mut reader = open(archive, &mut input)?;
    if verbose {
        say(report::contents(reader.header(), &TimeZone::system()))?;
    }
    let devices = chosen(archive, reader.header().devices(), only)?;
    let mut files = Files::new(archive, directory)?;
    for config in reader.header().configs() {
        let mut file = files.make(&config.name)?;
        let written = file.write_all(&config.data).and_then(|()| file.sync_data());
        written.map_err(VmaCliError::file("write", &files.path(&config.name)))?;
    }
    let mut plan = Plan::new();
    for device in &devices {
        let name = format!("disk-{}.raw", device.name);
        let file = files.make(&name)?;
        let sink = RawFile::fresh(file, device).map_err(VmaCliError::file("write", &files.path(&name)))?;
        plan.target(device, sink, false).map_err(about(archive))?;
    }
    let started = Instant::now();
    let extracted = vma::extract(&mut reader, plan, &mut |step| tell(verbose, started, &step));
    let stats = extracted.map_err(about(archive))?;
    input.finish()?;
    files.keep();
    if verbose { say(report::summary(&stats)) } else { Ok(()) }
}

fn open<'a>(archive: &Path, input: &'a mut Input) -> Result<Reader<&'a mut Input>, VmaCliError> {
    Reader::open(input).map_err(about(archive))
}

fn about(archive: &Path) -> impl Fn(VmaError) -> VmaCliError {
    let archive = archive.to_owned();
    move |source| VmaCliError::Archive {
        archive: archive.clone(),
        source,
    }
}

/// A terminal that is gone ends the work, too.
fn tell(verbose: bool, started: Instant, step: &Progress) -> Result<(), VmaError> {
    if !verbose {
        return Ok(());
    }
    let line = report::progress(step, started.elapsed().as_secs());
    say([line]).map_err(|error| VmaError::Write(error.to_string()))
}

fn chosen(archive: &Path, devices: &[Device], only: Option<&[String]>) -> Result<Vec<Device>, VmaCliError> {
    let Some(only) = only else {
        return Ok(devices.to_vec());
    };
    let known = || {
        devices
            .iter()
            .map(|device| device.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let find = |name: &String| {
        let found = devices.iter().find(|device| device.name == *name);
        found.cloned().ok_or_else(|| VmaCliError::NoDevice {
            archive: archive.to_owned(),
            device: name.clone(),
            known: known(),
        })
    };
    let mut chosen: Vec<Device> = only.iter().map(find).collect::<Result<_, _>>()?;
    chosen.dedup_by_key(|device| device.id);
    Ok(chosen)
}

/// The files of an extraction; they go when it fails.
struct Files<'a> {
    archive: &'a Path,
    directory: &'a Path,
    /// Whether the directory was made for it.
    is_new: bool,
    made: Vec<PathBuf>,
}

impl<'a> Files<'a> {
    fn new(archive: &'a Path, directory: &'a Path) -> Result<Self, VmaCliError> {
        let is_new = !directory.is_dir();
        if is_new {
            fs::create_dir(directory).map_err(VmaCliError::file("create directory", directory))?;
        }
        Ok(Self {
            archive,
            directory,
            is_new,
            made: Vec::new(),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Makes a file that is not there, directly in the directory.
    fn make(&mut self, name: &str) -> Result<File, VmaCliError> {
        let is_plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
        if !is_plain {
            return Err(VmaCliError::FileName {
                archive: self.archive.to_owned(),
                file: name.to_owned(),
            });
        }
        let path = self.path(name);
        let file = File::create_new(&path).map_err(VmaCliError::file("create", &path))?;
        self.made.push(path);
        Ok(file)
    }

    fn keep(&mut self) {
        self.made.clear();
        self.is_new = false;
    }
}

impl Drop for Files<'_> {
    fn drop(&mut self) {
        for path in &self.made {
            let _ = fs::remove_file(path);
        }
        if self.is_new {
            let _ = fs::remove_dir(self.directory);
        }
    }
}
