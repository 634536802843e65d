//! Archives to files and back.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};

use pve_backup::vma::{Header, Plan, Progress, RawFile, Reader, VmaError, Writer, extract};

#[test]
fn a_fresh_file_stays_sparse_where_the_archive_is_zero() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.raw");
    let archive = common::example();
    let mut reader = Reader::open(archive.as_slice()).unwrap();
    let device = reader.header().devices()[0].clone();
    let mut plan = Plan::new();
    let sink = RawFile::fresh(File::create_new(&path).unwrap(), &device).unwrap();
    plan.target(&device, sink, false).unwrap();
    let mut told = Vec::new();
    extract(&mut reader, plan, &mut |step| {
        told.push(step);
        Ok(())
    })
    .unwrap();
    assert_eq!(fs::read(&path).unwrap(), common::disk());
    let step = |percent, clusters: u64| Progress {
        percent,
        bytes: clusters * 65536,
    };
    assert_eq!(told, [step(33, 1), step(66, 2), step(100, 3)]);
}

#[test]
fn a_used_target_is_zeroed_where_the_archive_is_zero() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.raw");
    fs::write(&path, vec![0xFF; 262_144]).unwrap();
    let archive = common::example();
    let mut reader = Reader::open(archive.as_slice()).unwrap();
    let device = reader.header().devices()[0].clone();
    let file = File::options().write(true).open(&path).unwrap();
    let mut plan = Plan::new();
    plan.target(&device, RawFile::new(file, 262_144), true).unwrap();
    extract(&mut reader, plan, &mut |_| Ok(())).unwrap();
    let content = fs::read(&path).unwrap();
    assert_eq!(content[..197_120], common::disk());
    assert!(content[197_120..].iter().all(|byte| *byte == 0xFF));
}

#[test]
fn devices_end_at_a_sector() {
    let mut header = Header::new(common::UUID, 0);
    let id = header.add_device("odd", 1000).unwrap();
    let mut writer = Writer::new(Vec::new(), header).unwrap();
    writer.cluster(id, 0, &[1; 1000]).unwrap();
    let archive = writer.finish().unwrap().0;
    let content = &common::extract_all(&archive).unwrap().0["odd"];
    assert!(content[..512].iter().all(|byte| *byte == 1));
    assert!(content[512..].iter().all(|byte| *byte == 0x55));
}

#[test]
fn a_target_that_fails_ends_the_extraction() {
    let archive = common::example();
    let mut reader = Reader::open(archive.as_slice()).unwrap();
    let device = reader.header().devices()[0].clone();
    // Opened for reading alone.
    let file = File::open("/dev/null").unwrap();
    let mut plan = Plan::new();
    plan.target(&device, RawFile::new(file, 197_120), true).unwrap();
    let error = extract(&mut reader, plan, &mut |_| Ok(())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unable to write device 'drive-scsi0' - Bad file descriptor"
    );
}

#[test]
fn progress_can_end_an_extraction() {
    let archive = common::example();
    let mut reader = Reader::open(archive.as_slice()).unwrap();
    let stop = VmaError::Read("interrupted by signal".to_owned());
    let result = extract(&mut reader, Plan::new(), &mut |_| Err(stop.clone()));
    assert_eq!(result, Err(stop));
    assert_eq!(reader.stats().clusters, 1);
}
