//! Where the archives of a run go: names, what is there already, what goes again (reference 05 §7.4, §10, §11).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use pve_qemu::runtime::remove;
use pve_schema::ids::{StorageId, VmId, VolumeId};
use pve_schema::{Context, errno_text};
use pve_storage::archive::{ArchiveInfo, ArchiveTime};
use pve_storage::config::Retention;
use pve_storage::prune::{self, Mark};
use pve_storage::{Content, StorageError, Storages};

use super::VzdumpError;
use super::log::{RunLog, local};
use super::options::Target;

/// The directory of a run's archives, and the storage that it belongs to.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) directory: PathBuf,
    pub(super) storage: Option<StorageId>,
}

impl Place {
    /// Makes the target usable.
    ///
    /// # Errors
    /// All that is wrong with it, as lines.
    pub(super) fn open(context: &Context, target: &Target, tmpdir: Option<&Path>) -> Result<Self, VzdumpError> {
        let mut errors = Vec::new();
        let place = match target {
            Target::Storage(storage) => open_storage(context, storage, &mut errors),
            Target::Directory(directory) => {
                if !directory.is_dir() {
                    errors.push(format!("dumpdir '{}' does not exist", directory.display()));
                }
                Some(Self {
                    directory: directory.clone(),
                    storage: None,
                })
            }
        };
        if let Some(tmpdir) = tmpdir.filter(|tmpdir| !tmpdir.is_dir()) {
            errors.push(format!("tmpdir '{}' does not exist", tmpdir.display()));
        }
        match place.filter(|_| errors.is_empty()) {
            Some(place) => Ok(place),
            None => Err(VzdumpError::Setup(errors)),
        }
    }

    /// The volume id of an archive, if the place is a storage.
    pub(super) fn volume(&self, archive: &Path) -> Option<VolumeId> {
        Some(VolumeId {
            storage: self.storage.clone()?,
            name: format!("backup/{}", archive.file_name()?.to_str()?),
        })
    }

    /// The archives of a guest that bear a name as runs give it.
    ///
    /// # Errors
    /// The place cannot be read.
    pub(super) fn existing(&self, kind: &str, vmid: VmId) -> Result<Vec<Existing>, VzdumpError> {
        let read = fs::read_dir(&self.directory).map_err(VzdumpError::file("read", &self.directory))?;
        let mut found = Vec::new();
        for entry in read.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let Ok(info) = ArchiveInfo::of(&name) else { continue };
            let Some(time) = info.time.and_then(ArchiveTime::unix_seconds) else {
                continue;
            };
            if info.guest_type == kind && info.vmid == Some(vmid.get()) {
                let path = self.directory.join(&name);
                found.push(Existing {
                    time,
                    is_protected: beside(&path, ".protected").exists(),
                    path,
                });
            }
        }
        Ok(found)
    }

    /// When the youngest archive of a guest was made, as its name tells.
    pub(super) fn newest(&self, kind: &str, vmid: VmId) -> Option<i64> {
        let existing = self.existing(kind, vmid).unwrap_or_default();
        existing.into_iter().map(|archive| archive.time).max()
    }

    /// Removes what earlier runs left of their work on a guest when they were killed. Nobody else backs the guest up
    /// now: it is this node's, and so is the lock.
    pub(super) fn sweep(&self, kind: &str, vmid: VmId) {
        let prefix = format!("vzdump-{kind}-{vmid}-");
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with(&prefix) && (name.ends_with(".dat") || name.ends_with(".tmp")) {
                remove(&entry.path());
            }
        }
    }

    /// Removes the archives of a guest that the retention does not keep; how many.
    ///
    /// # Errors
    /// Some could not be removed: the log has it.
    pub(super) fn prune(
        &self,
        context: &Context,
        retention: &Retention,
        kind: &str,
        vmid: VmId,
        log: &mut RunLog<'_>,
    ) -> Result<usize, VzdumpError> {
        let existing: Vec<Existing> = self
            .existing(kind, vmid)?
            .into_iter()
            .filter(|archive| !archive.is_protected)
            .collect();
        let times: Vec<i64> = existing.iter().map(|archive| archive.time).collect();
        let marks = prune::mark(retention, &times, &TimeZone::system());
        let storages = Storages::open(context)?;
        let mut removed = 0;
        let mut failed = false;
        for (archive, mark) in existing.iter().zip(marks) {
            if mark != Mark::Remove {
                continue;
            }
            let volume = self.volume(&archive.path);
            let result = match &volume {
                Some(volume) => {
                    log.info(&format!("removing backup '{volume}'"));
                    storages.free(volume).map_err(|error| error.to_string())
                }
                None => {
                    log.info(&format!("delete old backup '{}'", archive.path.display()));
                    remove_archive(&archive.path).map_err(|error| errno_text(&error))
                }
            };
            match result {
                Ok(()) => removed += 1,
                Err(error) => {
                    failed = true;
                    let name = volume.map_or_else(|| archive.path.display().to_string(), |volume| volume.to_string());
                    log.error(&format!("error when removing backup '{name}' - {error}"));
                }
            }
        }
        if failed {
            return Err(StorageError::Prune.into());
        }
        Ok(removed)
    }
}

fn open_storage(context: &Context, storage: &StorageId, errors: &mut Vec<String>) -> Option<Place> {
    let storages = match Storages::open(context) {
        Ok(storages) => storages,
        Err(error) => {
            errors.push(format!("could not get storage information for '{storage}': {error}"));
            return None;
        }
    };
    let config = match storages.config(storage) {
        Ok(config) => config,
        Err(error) => {
            errors.push(format!("could not get storage information for '{storage}': {error}"));
            return None;
        }
    };
    if !config.holds(Content::Backup) {
        let error = VzdumpError::WrongContent(storage.clone());
        errors.push(format!("could not get storage information for '{storage}': {error}"));
    }
    if let Err(error) = storages.activate(storage) {
        errors.push(format!("could not activate storage '{storage}': {error}"));
    }
    let directory = config.content_dir(Content::Backup);
    if directory.is_none() {
        errors.push(format!(
            "could not get storage information for '{storage}': no directory for backups"
        ));
    }
    Some(Place {
        directory: directory?,
        storage: Some(storage.clone()),
    })
}

/// An archive that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Existing {
    path: PathBuf,
    /// When it was made, Unix seconds, as its name tells.
    time: i64,
    pub(super) is_protected: bool,
}

/// The files of one guest's backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// The archive in the end.
    pub(super) target: PathBuf,
    /// The archive while it is written.
    pub(super) temporary: PathBuf,
    /// The guest's log.
    pub(super) log: PathBuf,
    /// A directory for other files.
    pub(super) directory: PathBuf,
}

impl Names {
    /// `extension` is that of the archive, `.vma.zst`.
    pub(super) fn new(
        place: &Path,
        tmpdir: Option<&Path>,
        kind: &str,
        vmid: VmId,
        begin: i64,
        extension: &str,
    ) -> Self {
        let base = format!("vzdump-{kind}-{vmid}-{}", local(begin, "%Y_%m_%d-%H_%M_%S"));
        let target = format!("{base}{extension}");
        let stem = target.rsplit_once('.').map_or(base.as_str(), |(stem, _)| stem);
        Self {
            temporary: place.join(format!("{stem}.dat")),
            log: place.join(format!("{base}.log")),
            directory: match tmpdir {
                Some(tmpdir) => tmpdir.join(format!("vzdumptmp{}_{vmid}", std::process::id())),
                None => place.join(format!("{base}.tmp")),
            },
            target: place.join(target),
        }
    }

    /// Puts the finished archive in its place. What it holds is on the disk before it gets its name, so that no crash
    /// can leave half an archive that looks like a whole one.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn publish(&self, file: &File) -> io::Result<()> {
        fail::fail_point!("vzdump-publish", |_| Err(io::Error::other("fail point")));
        file.sync_all()?;
        fs::rename(&self.temporary, &self.target)?;
        match self.target.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Removes what is not to stay, whatever happened.
    pub(super) fn remove_temporary(&self) {
        remove(&self.temporary);
        remove(&self.directory);
    }
}

fn beside(archive: &Path, extension: &str) -> PathBuf {
    let mut name = archive.as_os_str().to_owned();
    name.push(extension);
    PathBuf::from(name)
}

/// Removes an archive with its notes and its log.
fn remove_archive(archive: &Path) -> io::Result<()> {
    fs::remove_file(archive)?;
    remove(&beside(archive, ".notes"));
    let name = archive.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if let Some(log) = ArchiveInfo::of(name).ok().and_then(|info| info.log_file) {
        remove(&archive.with_file_name(log));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 05, vectors N8 and N9. The zone is the machine's: only the shape of the time is looked at.
    #[test]
    fn names_follow_the_vectors() {
        let vmid = 100.try_into().unwrap();
        let stamp = local(1_787_193_005, "%Y_%m_%d-%H_%M_%S");
        let names = Names::new(Path::new("/d"), None, "qemu", vmid, 1_787_193_005, ".vma.zst");
        let path = |rest: &str| PathBuf::from(format!("/d/vzdump-qemu-100-{stamp}{rest}"));
        assert_eq!((names.target, names.temporary), (path(".vma.zst"), path(".vma.dat")));
        assert_eq!((names.log, names.directory), (path(".log"), path(".tmp")));
        let tmpdir = Some(Path::new("/t"));
        let names = Names::new(Path::new("/d"), tmpdir, "qemu", vmid, 1_787_193_005, ".vma");
        assert_eq!((names.target, names.temporary), (path(".vma"), path(".dat")));
        let own = format!("/t/vzdumptmp{}_100", std::process::id());
        assert_eq!(names.directory, PathBuf::from(own));
    }

    #[test]
    fn leftovers_of_a_guest_go_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place {
            directory: directory.path().to_owned(),
            storage: None,
        };
        let keep = [
            "vzdump-qemu-100-2026_08_20-02_30_05.vma.zst",
            "vzdump-qemu-100-2026_08_20-02_30_05.log",
            "vzdump-qemu-1001-2026_08_20-02_30_05.vma.dat",
            "my.dat",
        ];
        let goes = [
            "vzdump-qemu-100-2026_08_20-02_30_05.dat",
            "vzdump-qemu-100-2026_08_20-02_30_05.vma.dat",
        ];
        for name in keep.iter().chain(&goes) {
            fs::write(directory.path().join(name), "x").unwrap();
        }
        let temporary = directory.path().join("vzdump-qemu-100-2026_08_20-02_30_05.tmp");
        fs::create_dir_all(temporary.join("below")).unwrap();
        place.sweep("qemu", 100.try_into().unwrap());
        let mut left: Vec<String> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut expected = keep.map(str::to_owned).to_vec();
        expected.sort();
        assert_eq!(left, expected);
    }
}
