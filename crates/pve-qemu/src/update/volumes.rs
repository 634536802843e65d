//! Volumes that a change makes, takes or drops (reference 06a §4.1).

use std::path::Path;
use std::time::Duration;

use pve_daemon::command::Command;
use pve_guest::GuestConfig;
use pve_schema::ids::{StorageId, VmId, VolumeId};
use pve_storage::volume::VolumeFormat;
use pve_storage::{AllocRequest, Content, ImageFormat, Storages};

use super::error::UpdateError;
use super::rights::Caller;
use crate::command::{VARS_SIZE, firmware_files};
use crate::config::{Bus, Chipset, Drive, DriveKey, Props, Source, VmConfig};
use crate::journal::Journal;

/// What a cloud-init drive and a TPM state take, in KiB.
const SMALL_VOLUME: u64 = 4096;

/// KiB in a GiB.
const GIB: f64 = 1_048_576.0;

/// How long a firmware template may take to copy.
const COPY_LIMIT: Duration = Duration::from_secs(60);

/// What a drive of a request asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    /// An empty CD-ROM drive, or the node's own.
    NoVolume,
    /// A cloud-init drive, on a storage or on the default one.
    Cloudinit(Option<StorageId>),
    /// A new volume of so many KiB.
    New(Option<StorageId>, u64),
    /// A copy of something.
    Import(String),
    /// A volume that exists.
    Existing(VolumeId),
    /// A device of the node.
    Device(String),
}

impl Wish {
    /// What a drive asks for.
    pub fn of(drive: &Drive) -> Result<Self, UpdateError> {
        if let Some(source) = drive.options.get("import-from") {
            return Ok(Self::Import(source.to_owned()));
        }
        let unassociated = |path: &str| {
            UpdateError::at(
                drive.key.to_string(),
                format!("unable to associate path '{path}' to any storage"),
            )
        };
        match drive.source() {
            Source::Empty | Source::HostCdrom => Ok(Self::NoVolume),
            Source::Path(path) if path.starts_with("/dev/") => Ok(Self::Device(path)),
            Source::Path(path) => Err(unassociated(&path)),
            Source::Volume(volume) if volume.name == "cloudinit" => Ok(Self::Cloudinit(Some(volume.storage))),
            Source::Volume(volume) => match gibibytes(&volume.name) {
                Some(kib) => Ok(Self::New(Some(volume.storage), kib)),
                None => Ok(Self::Existing(volume)),
            },
            Source::Other(text) if text == "cloudinit" => Ok(Self::Cloudinit(None)),
            Source::Other(text) => match gibibytes(&text) {
                Some(kib) => Ok(Self::New(None, kib)),
                None => Err(unassociated(&text)),
            },
        }
    }
}

/// `N[.M]` GiB in KiB, rounded up.
fn gibibytes(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let kib = (text.parse::<f64>().ok()? * GIB).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    (kib < u64::MAX as f64 / 1024.0).then_some(kib as u64)
}

/// Checks the drives among some keys and brings them into form: step 7 of reference 06a §4.
///
/// # Errors
/// Status 400, at the drive's key.
pub fn check_drives(
    storages: &Storages,
    set: &mut std::collections::BTreeMap<String, String>,
) -> Result<(), UpdateError> {
    for (name, text) in set.iter_mut() {
        let Ok(key) = name.parse::<DriveKey>() else { continue };
        let at = |text: &str| UpdateError::at(name.as_str(), text);
        let mut drive = Drive::parse(key, text).map_err(|error| at(&error.to_string()))?;
        associate(storages, &mut drive);
        check_import(&drive)?;
        if let Wish::Existing(volume) = Wish::of(&drive)?
            && storages
                .parse(&volume)
                .is_ok_and(|(_, name)| name.content == Content::Iso)
            && !drive.is_cdrom()
        {
            return Err(at("explicit 'media=cdrom' is required for iso images"));
        }
        *text = drive.to_string();
    }
    Ok(())
}

/// A path inside a storage is a volume of it.
fn associate(storages: &Storages, drive: &mut Drive) {
    if let Source::Path(path) = drive.source()
        && !path.starts_with("/dev/")
        && let Some(volume) = storages.associate_path(Path::new(&path))
    {
        drive.file = volume.to_string();
    }
}

fn check_import(drive: &Drive) -> Result<(), UpdateError> {
    if !drive.options.has("import-from") {
        return Ok(());
    }
    let at = |text: String| Err(UpdateError::at(drive.key.to_string(), text));
    if drive.file.split_once(':').is_none_or(|(_, size)| size != "0") {
        return at("'import-from' requires special syntax - use <storage ID>:0,import-from=<source>".to_owned());
    }
    let needed: &[&str] = match drive.key.bus {
        Bus::Efidisk => &["efitype", "pre-enrolled-keys"],
        Bus::Tpmstate => &["version"],
        _ => &[],
    };
    match needed.iter().find(|option| !drive.options.has(option)) {
        Some(option) => at(format!("need to specify '{option}' when using 'import-from'")),
        None => Ok(()),
    }
}

/// Refuses drives whose storage or volume the caller may not use.
///
/// # Errors
/// A missing privilege, or a storage without the content.
pub fn check_access(
    storages: &Storages,
    caller: &Caller<'_>,
    vmid: VmId,
    drive: &Drive,
    default: Option<&StorageId>,
) -> Result<(), UpdateError> {
    match Wish::of(drive)? {
        Wish::NoVolume if drive.source() == Source::HostCdrom => caller.check_any("/", &["Sys.Console"]),
        Wish::NoVolume => Ok(()),
        Wish::Cloudinit(storage) | Wish::New(storage, _) => {
            let storage = storage.or_else(|| default.cloned()).ok_or(UpdateError::NoStorage)?;
            check_new(storages, caller, &storage)
        }
        Wish::Import(source) => {
            if let Ok(volume) = drive.file.parse::<VolumeId>() {
                check_new(storages, caller, &volume.storage)?;
            }
            Ok(storages.check_volume_access(caller.rights, caller.id, &source, Some(vmid), None)?)
        }
        Wish::Existing(volume) => {
            let (_, name) = storages.parse(&volume)?;
            if !matches!(name.content, Content::Images | Content::Iso) {
                return Err(UpdateError::at(
                    drive.key.to_string(),
                    "content type needs to be 'images' or 'iso'",
                ));
            }
            Ok(storages.check_volume_access(caller.rights, caller.id, &volume.to_string(), Some(vmid), None)?)
        }
        Wish::Device(path) => Ok(storages.check_volume_access(caller.rights, caller.id, &path, Some(vmid), None)?),
    }
}

fn check_new(storages: &Storages, caller: &Caller<'_>, storage: &StorageId) -> Result<(), UpdateError> {
    caller.check_any(&format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
    if storages.supports(storage, Content::Images)? {
        Ok(())
    } else {
        Err(UpdateError::at(
            "storage",
            format!("storage '{storage}' does not support vm images"),
        ))
    }
}

/// Makes the volumes of drives, and frees them again when the change fails.
pub struct Allocator<'a> {
    storages: &'a Storages,
    vmid: VmId,
    default: Option<StorageId>,
    created: Vec<VolumeId>,
}

impl<'a> Allocator<'a> {
    /// For the volumes of a VM; the default storage is that of a `storage` parameter.
    pub fn new(storages: &'a Storages, vmid: VmId, default: Option<StorageId>) -> Self {
        Self {
            storages,
            vmid,
            default,
            created: Vec::new(),
        }
    }

    /// Makes or checks the volume of a drive, and gives the drive as it is to be stored. The config is the one that the
    /// drive goes to.
    ///
    /// # Errors
    /// What the storage says, or a volume that does not fit.
    pub fn drive(
        &mut self,
        drive: &Drive,
        config: VmConfig<'_>,
        journal: &mut dyn Journal,
    ) -> Result<Drive, UpdateError> {
        let stored = match Wish::of(drive)? {
            Wish::NoVolume => {
                let mut drive = drive.clone();
                drive.options.take("size");
                return Ok(drive);
            }
            Wish::Device(_) => return Ok(drive.clone()),
            Wish::Existing(volume) => return self.existing(drive, &volume),
            Wish::Import(_) => return Err(UpdateError::NotYet("import-from")),
            Wish::Cloudinit(storage) => self.cloudinit(drive, storage, config)?,
            Wish::New(storage, kib) => self.new_volume(drive, storage, kib, config)?,
        };
        journal.log(&format!("{}: successfully created disk '{stored}'", drive.key));
        Ok(stored)
    }

    /// The volumes that were made.
    pub fn created(&self) -> &[VolumeId] {
        &self.created
    }

    /// Frees what was made: the change failed.
    pub fn undo(self, journal: &mut dyn Journal) {
        for volume in self.created {
            if let Err(error) = self.storages.free(&volume) {
                journal.warn(&format!("unable to free '{volume}' - {error}"));
            }
        }
    }

    fn target(&self, storage: Option<StorageId>) -> Result<StorageId, UpdateError> {
        storage.or_else(|| self.default.clone()).ok_or(UpdateError::NoStorage)
    }

    fn cloudinit(
        &mut self,
        drive: &Drive,
        storage: Option<StorageId>,
        config: VmConfig<'_>,
    ) -> Result<Drive, UpdateError> {
        if let Some(other) = config.cloudinit_drive().filter(|other| other.key != drive.key) {
            return Err(UpdateError::SecondCloudinit {
                key: drive.key,
                other: other.key,
            });
        }
        let storage = self.target(storage)?;
        let file_based = self.storages.config(&storage)?.kind.is_file_based();
        let given = given_format(drive)?;
        let format = if file_based {
            given.unwrap_or(ImageFormat::Qcow2)
        } else {
            ImageFormat::Raw
        };
        let name = format!("vm-{}-cloudinit", self.vmid);
        let name = if file_based {
            format!("{name}.{}", format.as_str())
        } else {
            name
        };
        let volume = self.allocate(storage, Some(format), Some(name), SMALL_VOLUME)?;
        let mut stored = stored(drive, &volume, SMALL_VOLUME * 1024);
        stored.options.set("media", "cdrom");
        Ok(stored)
    }

    fn new_volume(
        &mut self,
        drive: &Drive,
        storage: Option<StorageId>,
        kib: u64,
        config: VmConfig<'_>,
    ) -> Result<Drive, UpdateError> {
        let storage = self.target(storage)?;
        let format = given_format(drive)?;
        match drive.key.bus {
            Bus::Efidisk => self.efi_vars(drive, storage, format, config),
            Bus::Tpmstate => {
                let volume = self.allocate(storage, Some(ImageFormat::Raw), None, SMALL_VOLUME)?;
                Ok(stored(drive, &volume, SMALL_VOLUME * 1024))
            }
            _ => {
                let volume = self.allocate(storage, format, None, kib)?;
                Ok(stored(drive, &volume, kib * 1024))
            }
        }
    }

    /// The firmware's variables start as a copy of their template.
    fn efi_vars(
        &mut self,
        drive: &Drive,
        storage: StorageId,
        format: Option<ImageFormat>,
        config: VmConfig<'_>,
    ) -> Result<Drive, UpdateError> {
        let q35 = config.machine()?.kind.is_some_and(|kind| kind.chipset == Chipset::Q35);
        let template = firmware_files(Some(drive), q35).vars;
        if !template.is_file() {
            return Err(UpdateError::NoEfiVars);
        }
        let volume = self.allocate(storage, format, None, VARS_SIZE.div_ceil(1024))?;
        let (path, format) = self.storages.path_and_format(&volume)?;
        let format = format
            .as_ref()
            .and_then(VolumeFormat::image)
            .unwrap_or(ImageFormat::Raw);
        copy_image(&template, &path, format).run()?;
        Ok(stored(drive, &volume, VARS_SIZE))
    }

    fn allocate(
        &mut self,
        storage: StorageId,
        format: Option<ImageFormat>,
        name: Option<String>,
        size_kib: u64,
    ) -> Result<VolumeId, UpdateError> {
        let request = AllocRequest {
            storage,
            vmid: self.vmid,
            format,
            name,
            size_kib,
        };
        let volume = self.storages.alloc(&request)?;
        self.created.push(volume.clone());
        Ok(volume)
    }

    fn existing(&self, drive: &Drive, volume: &VolumeId) -> Result<Drive, UpdateError> {
        let (_, name) = self.storages.parse(volume)?;
        if !matches!(name.content, Content::Images | Content::Iso) {
            return Err(UpdateError::at(
                drive.key.to_string(),
                "content type needs to be 'images' or 'iso'",
            ));
        }
        self.storages.activate(&volume.storage)?;
        let info = self
            .storages
            .size_info(volume)
            .map_err(|_| UpdateError::NoVolume(volume.to_string()))?;
        let actual = name.format.as_ref().map(ToString::to_string).unwrap_or_default();
        if let Some(given) = drive.options.get("format").filter(|given| *given != actual) {
            let given = given.to_owned();
            return Err(UpdateError::Format {
                key: drive.key,
                given,
                actual,
            });
        }
        let mut stored = drive.clone();
        stored.set_size(info.size);
        Ok(stored)
    }
}

fn given_format(drive: &Drive) -> Result<Option<ImageFormat>, UpdateError> {
    let parse = |text: &str| {
        text.parse()
            .map_err(|_| UpdateError::at(drive.key.to_string(), format!("unsupported format '{text}'")))
    };
    drive.options.get("format").map(parse).transpose()
}

/// The drive with its new volume. The format is the volume's own affair from here on.
fn stored(drive: &Drive, volume: &VolumeId, bytes: u64) -> Drive {
    let mut options: Props = drive.options.clone();
    options.take("format");
    let mut stored = Drive {
        key: drive.key,
        file: volume.to_string(),
        options,
    };
    stored.set_size(bytes);
    stored
}

/// Copies a raw file into an image that is there already.
pub fn copy_image(from: &Path, to: &Path, format: ImageFormat) -> Command {
    Command::new("qemu-img", COPY_LIMIT)
        .args(["convert", "-n", "-f", "raw", "-O", format.as_str()])
        .arg(from)
        .arg(to)
}

/// Whether the volume is a disk of this VM.
pub fn is_owned(storages: &Storages, vmid: VmId, volume: &VolumeId) -> bool {
    storages
        .parse(volume)
        .is_ok_and(|(_, name)| name.content == Content::Images && name.owner == Some(vmid.get()))
}

/// Whether a drive, pending or in a snapshot, uses the volume; `except` is a key of the main section that does not
/// count.
pub fn is_used(config: &GuestConfig, volume: &str, except: Option<&str>) -> bool {
    let uses = |section: &pve_guest::Section, except: Option<&str>| {
        let vm = VmConfig::new(section);
        vm.get("vmstate") == Some(volume)
            || vm
                .drives()
                .into_iter()
                .chain(vm.unused())
                .any(|drive| drive.file == volume && except != Some(drive.key.to_string().as_str()))
    };
    uses(&config.main, except)
        || uses(&config.pending, None)
        || config.snapshots.values().any(|section| uses(section, None))
}

/// Notes a volume that a drive gave up as `unusedN`; a cloud-init volume is freed instead, a medium is nobody's.
///
/// # Errors
/// [`UpdateError::NoUnusedSlot`]
pub fn keep_unused(
    storages: &Storages,
    vmid: VmId,
    config: &mut GuestConfig,
    drive: &Drive,
    journal: &mut dyn Journal,
) -> Result<(), UpdateError> {
    let Some(volume) = drive.volume() else { return Ok(()) };
    if is_used(config, &drive.file, None) || !is_owned(storages, vmid, &volume) {
        return Ok(());
    }
    if drive.is_cloudinit() {
        free(storages, &volume, journal);
        return Ok(());
    }
    if drive.is_cdrom() {
        return Ok(());
    }
    let slot = DriveKey::all_unused()
        .map(|key| key.to_string())
        .find(|key| !config.main.has(key));
    let slot = slot.ok_or(UpdateError::NoUnusedSlot)?;
    config.main.set(slot, drive.file.clone());
    Ok(())
}

/// Frees a volume; that it cannot be freed is worth a warning.
pub(super) fn free(storages: &Storages, volume: &VolumeId, journal: &mut dyn Journal) {
    if let Err(error) = storages.free(volume) {
        journal.warn(&format!("unable to free '{volume}' - {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_volume_tells_what_is_wished_for() {
        let id = |text: &str| -> StorageId { text.parse().unwrap() };
        let cases = [
            ("none", Wish::NoVolume),
            ("local:8", Wish::New(Some(id("local")), 8 * 1024 * 1024)),
            ("0.5", Wish::New(None, 512 * 1024)),
            ("local:0.0000001", Wish::New(Some(id("local")), 1)),
            ("local:cloudinit", Wish::Cloudinit(Some(id("local")))),
            ("cloudinit", Wish::Cloudinit(None)),
            ("/dev/sdb", Wish::Device("/dev/sdb".to_owned())),
            (
                "local:105/vm-105-disk-0.raw",
                Wish::Existing("local:105/vm-105-disk-0.raw".parse().unwrap()),
            ),
        ];
        for (file, expected) in cases {
            let drive = Drive {
                key: "scsi0".parse().unwrap(),
                file: file.to_owned(),
                options: Props::default(),
            };
            assert_eq!(Wish::of(&drive).unwrap(), expected, "{file}");
        }
    }
}
