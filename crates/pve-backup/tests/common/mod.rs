//! What the tests share: the examples of reference 05 §13.5 and §13.6, and archives in memory.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use pve_backup::vma::{Device, Header, Plan, Reader, Sink, Stats, Uuid, VmaError, Writer, extract};

pub(crate) const UUID: Uuid = [
    0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff,
];
pub(crate) const CTIME: i64 = 1_787_193_005;
pub(crate) const CONFIG: &str = "name: lab\nmemory: 64\nscsi0: local:100/vm-100-disk-0.raw,size=197120\n\
    #qmdump#map:scsi0:drive-scsi0:local:raw:\n";

/// The disk of §13.5.
pub(crate) fn disk() -> Vec<u8> {
    let mut disk = vec![0; 197_120];
    disk[0] = 1;
    disk[8192..12288].fill(0xAB);
    disk[131_072..196_608].fill(0xCD);
    disk[196_608..].fill(0xEE);
    disk
}

/// The archive of §13.5.
pub(crate) fn example() -> Vec<u8> {
    let mut header = Header::new(UUID, CTIME);
    header.add_config("qemu-server.conf", CONFIG.as_bytes()).unwrap();
    let disk = disk();
    let id = header.add_device("drive-scsi0", disk.len() as u64).unwrap();
    let mut writer = Writer::new(Vec::new(), header).unwrap();
    writer.device(id, &mut disk.as_slice()).unwrap();
    writer.finish().unwrap().0
}

/// The archive of §13.6 without disks.
pub(crate) fn diskless() -> Vec<u8> {
    let mut header = Header::new(UUID, CTIME);
    header.add_config("qemu-server.conf", b"name: none\n").unwrap();
    Writer::new(Vec::new(), header).unwrap().finish().unwrap().0
}

/// Takes a device's content. What was not written stays 0x55.
#[derive(Clone)]
pub(crate) struct Memory(Rc<RefCell<Vec<u8>>>);

impl Memory {
    pub(crate) fn new(size: u64) -> Self {
        Self(Rc::new(RefCell::new(vec![0x55; usize::try_from(size).unwrap()])))
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        self.0.borrow().clone()
    }
}

impl Sink for Memory {
    fn size(&mut self) -> io::Result<Option<u64>> {
        Ok(Some(self.0.borrow().len() as u64))
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.0.borrow_mut()[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn write_zeros(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.write(offset, &vec![0; usize::try_from(len).unwrap()])
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All devices of an archive, by name.
pub(crate) fn extract_all(archive: &[u8]) -> Result<(BTreeMap<String, Vec<u8>>, Stats), VmaError> {
    let mut reader = Reader::open(archive)?;
    let devices: Vec<Device> = reader.header().devices().to_vec();
    let mut plan = Plan::new();
    let mut targets = BTreeMap::new();
    for device in &devices {
        let target = Memory::new(device.size);
        targets.insert(device.name.clone(), target.clone());
        plan.target(device, target, true)?;
    }
    let stats = extract(&mut reader, plan, &mut |_| Ok(()))?;
    let contents = targets.into_iter().map(|(name, target)| (name, target.content()));
    Ok((contents.collect(), stats))
}

/// Checks an archive without extracting it.
pub(crate) fn check(archive: &[u8]) -> Result<Stats, VmaError> {
    pve_backup::vma::verify(&mut Reader::open(archive)?, &mut |_| Ok(()))
}

/// Makes the checksum at `md5` fit the bytes from `at` on again.
pub(crate) fn seal(archive: &mut [u8], at: usize, len: usize, md5: usize) {
    use md5::{Digest, Md5};
    let Some(part) = archive.get_mut(at..at + len) else {
        return;
    };
    part[md5..md5 + 16].fill(0);
    let sum = Md5::digest(&*part);
    part[md5..md5 + 16].copy_from_slice(&sum);
}

/// Makes the header's checksum fit again.
pub(crate) fn seal_header(archive: &mut [u8]) {
    let size = archive
        .get(56..60)
        .map(|size| u32::from_be_bytes(size.try_into().unwrap()));
    let size = size.map_or(0, |size| size as usize).min(archive.len());
    if size >= 64 {
        seal(archive, 0, size, 32);
    }
}

/// Makes the checksum of the extent at `at` fit again.
pub(crate) fn seal_extent(archive: &mut [u8], at: usize) {
    seal(archive, at, 512, 24);
}
