//! Parsers of streams: archives that a user uploads and what is in them, what clients and QEMU's tools say.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use md5::{Digest as _, Md5};
use pve_backup::nbd::{Export, MAX_PIECE, Target, handshake, transmission};
use pve_backup::vma::{DriveMap, Limits, Reader, VM_CONFIG, VmaError};
use pve_qemu::events::{Garbage, Messages};
use pve_qemu::restored::Archived;
use pve_storage::qemu_img::ImageInfo;
use serde_json::Value;

use crate::{choice, text};

/// Where an archive's header, and each extent's, have their checksum and its size.
const HEADER_MD5: usize = 32;
const HEADER_SIZE: usize = 56;
const EXTENT_MD5: usize = 24;
const EXTENT_HEADER: usize = 512;

/// An archive of a VM, with right checksums: whoever forges one writes those too.
pub fn vma_archive(data: &[u8]) {
    read_archive(data);
    let mut archive = data.to_vec();
    let size = archive
        .get(HEADER_SIZE..HEADER_SIZE + 4)
        .and_then(|bytes| bytes.try_into().ok());
    let size = size.map_or(0, |bytes| u32::from_be_bytes(bytes) as usize);
    if let Some(header) = archive.get_mut(..size) {
        sign(header, HEADER_MD5);
    }
    if let Some(extent) = archive.get_mut(size..size.saturating_add(EXTENT_HEADER)) {
        sign(extent, EXTENT_MD5);
    }
    read_archive(&archive);
}

fn sign(bytes: &mut [u8], at: usize) {
    let Some(place) = bytes.get_mut(at..at + 16) else {
        return;
    };
    place.fill(0);
    let digest = Md5::digest(&*bytes);
    if let Some(place) = bytes.get_mut(at..at + 16) {
        place.copy_from_slice(&digest);
    }
}

fn read_archive(bytes: &[u8]) {
    let limits = Limits {
        header: 1 << 17,
        device_bytes: 1 << 32,
    };
    let Ok(mut reader) = Reader::with_limits(bytes, &limits) else {
        return;
    };
    if let Some(config) = reader.header().config(VM_CONFIG) {
        let _ = DriveMap::of_config(&text(config), reader.header());
    }
    let mut stored = 0;
    let ended: Result<(), VmaError> = loop {
        match reader.next_cluster() {
            Ok(Some(cluster)) => stored += cluster.runs().map(|run| run.data.map_or(0, <[u8]>::len)).sum::<usize>(),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    // Nothing comes out that did not go in.
    assert!(stored <= bytes.len(), "{ended:?}");
}

/// The configuration in an archive.
pub fn archived_config(data: &[u8]) {
    let Ok(archived) = Archived::read(data) else { return };
    assert!(!archived.text().lines().any(|line| line.trim_start().starts_with('[')));
    let drives = archived.drives();
    let all: BTreeSet<_> = drives.iter().map(|drive| drive.key).collect();
    assert!(archived.referenced(&all).is_empty());
    let _ = archived.referenced(&BTreeSet::new());
}

/// What `qemu-img` says of an image that a user brought.
pub fn qemu_img_info(data: &[u8]) {
    if let Ok(info) = ImageInfo::parse(data) {
        assert!(info.backing_filename.is_none() || info.outside_reference().is_some());
        let _ = info.snapshot_names().count();
    }
}

/// What clients of the event daemon's socket send: the first byte says in which pieces it arrives.
pub fn event_messages(data: &[u8]) {
    let Some((piece, stream)) = choice(data) else { return };
    let whole = messages(stream, stream.len().max(1));
    let pieces = messages(stream, piece + 1);
    // A number at a piece's end may go on in the next one: only objects are compared, and nothing else is ever sent.
    if let (Ok(whole), Ok(pieces)) = (whole, pieces)
        && whole.iter().all(Value::is_object)
    {
        assert_eq!(whole, pieces, "pieces of {}", piece + 1);
    }
}

fn messages(stream: &[u8], piece: usize) -> Result<Vec<Value>, Garbage> {
    let mut messages = Messages::default();
    let mut values = Vec::new();
    for chunk in stream.chunks(piece) {
        values.extend(messages.push(chunk)?);
    }
    Ok(values)
}

/// Takes writes, and demands what it may rely on.
struct Device(u64);

impl Target for Device {
    fn buffer(&self) -> Option<Box<[u8]>> {
        Some(vec![0; MAX_PIECE].into())
    }

    fn write(&self, export: usize, offset: u64, length: usize, _: Box<[u8]>) {
        assert!(export == 0 && length <= MAX_PIECE && offset + length as u64 <= self.0);
    }

    fn write_zeroes(&self, export: usize, range: Range<u64>) {
        assert!(export == 0 && !range.is_empty() && range.end <= self.0);
    }

    fn refuse(&self, _: usize, _: &str) -> u32 {
        22
    }
}

/// A connection to the server of backups, from its first byte.
pub fn nbd_client(data: &[u8]) {
    let exports = [Export {
        name: "drive-scsi0".to_owned(),
        size: 1 << 20,
    }];
    let mut input = data;
    let chosen = handshake::negotiate(&mut input, &mut io::sink(), &exports);
    let Ok(Some(index)) = chosen else { return };
    let export = &exports[index];
    let _ = transmission::serve(&mut input, &mut io::sink(), index, export, &Device(export.size));
}
