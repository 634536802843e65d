//! Making volumes and writing to them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use pve_qemu::config::DriveKey;
use pve_schema::ids::{StorageId, VmId, VolumeId};
use pve_storage::{AllocRequest, ImageFormat, Storages};

use super::error::RestoreError;
use super::plan::Planned;
use super::talk::Talk;
use super::throttle::Throttle;
use crate::nbd::{Access, Image};
use crate::vma::{Device, Plan, RawFile, Sink};

/// The volumes that were made; the ones of a restore that fails are freed again.
pub(super) struct Volumes<'a> {
    storages: &'a Storages,
    made: BTreeMap<DriveKey, VolumeId>,
}

impl<'a> Volumes<'a> {
    pub(super) fn new(storages: &'a Storages) -> Self {
        Self {
            storages,
            made: BTreeMap::new(),
        }
    }

    /// The drives' new volumes.
    pub(super) fn by_drive(&self) -> &BTreeMap<DriveKey, VolumeId> {
        &self.made
    }

    /// Makes all of them.
    pub(super) fn allocate(&mut self, vmid: VmId, planned: &[Planned], talk: &Talk<'_>) -> Result<(), RestoreError> {
        for volume in planned {
            talk.check()?;
            let id = self.storages.alloc(&AllocRequest {
                storage: volume.storage.clone(),
                vmid,
                format: Some(volume.format),
                name: volume.name.clone(),
                size_kib: volume.size_kib,
            })?;
            talk.log(&format!("new volume ID is '{id}'"));
            self.made.insert(volume.key, id);
        }
        Ok(())
    }

    /// Frees them again.
    pub(super) fn free(&self, talk: &Talk<'_>) {
        for volume in self.made.values() {
            match self.storages.free(volume) {
                Ok(()) => talk.log(&format!("temporary volume '{volume}' successfully removed")),
                Err(error) => talk.log(&format!("unable to cleanup '{volume}' - {error}")),
            }
        }
    }

    /// Opens those that are filled from the archive.
    pub(super) fn plan<'t>(
        &self,
        planned: &[Planned],
        limits: &BTreeMap<StorageId, Rc<RefCell<Throttle>>>,
        sockets: &Path,
        talk: &'t Talk<'t>,
    ) -> Result<Plan<'t>, RestoreError> {
        let mut plan = Plan::new();
        for volume in planned {
            let (Some(device), Some(id)) = (&volume.device, self.made.get(&volume.key)) else {
                continue;
            };
            let path = self.storages.path(id)?;
            let zeros = u8::from(volume.write_zeros);
            talk.log(&format!(
                "map '{}' to '{}' (write zeros = {zeros})",
                device.name,
                path.display()
            ));
            let sink = open(&path, volume.format, sockets).map_err(|source| RestoreError::Volume {
                key: volume.key,
                source,
            })?;
            let sink = Limited {
                sink,
                throttle: limits.get(&volume.storage).cloned(),
                talk,
            };
            add(&mut plan, device, sink, volume.write_zeros)?;
        }
        Ok(plan)
    }
}

fn add<'t>(plan: &mut Plan<'t>, device: &Device, sink: Limited<'t>, write_zeros: bool) -> Result<(), RestoreError> {
    Ok(plan.target(device, sink, write_zeros)?)
}

fn open(path: &Path, format: ImageFormat, sockets: &Path) -> io::Result<Box<dyn Sink>> {
    if format != ImageFormat::Raw {
        return Ok(Box::new(Image::open(path, format.as_str(), Access::Write, sockets)?));
    }
    let mut file = OpenOptions::new().write(true).open(path)?;
    // A block device tells its size only by its end.
    let size = io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
    Ok(Box::new(RawFile::new(file, size)))
}

/// A sink with its storage's limit.
struct Limited<'a> {
    sink: Box<dyn Sink>,
    throttle: Option<Rc<RefCell<Throttle>>>,
    talk: &'a Talk<'a>,
}

impl Sink for Limited<'_> {
    fn size(&mut self) -> io::Result<Option<u64>> {
        self.sink.size()
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.sink.write(offset, data)?;
        if let Some(throttle) = &self.throttle {
            let pause = throttle.borrow_mut().pause(data.len(), Instant::now());
            if !self.talk.sleep(pause) {
                return Err(io::Error::other("interrupted by signal"));
            }
        }
        Ok(())
    }

    fn write_zeros(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.sink.write_zeros(offset, len)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.sink.finish()
    }
}
