//! Copying the disks of a real QEMU: the instant, what goes wrong, and what is left of it in the VM.
//!
//! SKIP where `qemu-system-x86_64` is missing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

mod common;
#[path = "common/lab.rs"]
mod lab;

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{check, extract_all};
use lab::{Lab, Notes, ROOT};
use pve_backup::compress::{Compression, Compressor};
use pve_backup::copy::{CopyError, Disk, Limits, Source, Volume, copy};
use pve_backup::vma::Reader;
use pve_testing::{PATIENCE, noise, wait_for};
use serde_json::Value;

/// Slow enough that nothing is through before a test has done its part, whatever the machine.
const SLOW: Limits = Limits {
    bytes_per_second: Some(2 << 20),
    max_workers: 16,
};

/// Copies everything, and compares it with what was on the disks before.
fn copy_and_compare(lab: &Lab, limits: &Limits, notes: &mut Notes<'_>) {
    let mut archive = Vec::new();
    let summary = copy(&lab.context, &lab.source(), limits, &mut archive, notes).unwrap();
    lab.assert_clean();
    assert_eq!(summary.archive_bytes, archive.len() as u64);
    let sizes: usize = lab.images.iter().map(|image| image.content.len()).sum();
    assert_eq!(summary.bytes, sizes as u64);
    let (devices, _) = extract_all(&archive).unwrap();
    for (number, image) in lab.images.iter().enumerate() {
        assert!(
            devices[&format!("drive-scsi{number}")] == image.content,
            "scsi{number} differs"
        );
    }
    assert_eq!(devices.len(), lab.images.len());
}

#[test]
fn all_disks_are_copied_as_they_are() {
    let Some(lab) = Lab::with_two_disks() else { return };
    let mut notes = Notes::default();
    copy_and_compare(&lab, &Limits::default(), &mut notes);
    // 2 MiB and a block are zero.
    let lines: Vec<&str> = notes.lines.iter().map(String::as_str).collect();
    let [freeze, start, thaw, .., last, sparse, total] = lines[..] else {
        panic!("{lines:?}")
    };
    assert_eq!(
        [freeze, start, thaw],
        ["(freeze)", "starting backup via QMP command", "(thaw)"]
    );
    assert!(last.starts_with("100% (18.0 MiB of 18.0 MiB) in "), "{last}");
    assert_eq!(sparse, "backup is sparse: 2.00 MiB (11%) total zero data");
    assert!(total.starts_with("transferred 18.00 MiB in "), "{total}");
    assert_eq!(notes.job.unwrap().len(), 36);
    // And once more: nothing is in the way.
    copy_and_compare(&lab, &Limits::default(), &mut Notes::default());
}

#[test]
fn the_job_is_the_archive_and_the_configs_are_in_it() {
    let Some(lab) = Lab::with_two_disks() else { return };
    let (mut archive, mut notes) = (Vec::new(), Notes::default());
    copy(
        &lab.context,
        &lab.source(),
        &Limits::default(),
        &mut archive,
        &mut notes,
    )
    .unwrap();
    let reader = Reader::open(archive.as_slice()).unwrap();
    let header = reader.header();
    assert_eq!(hex::encode(header.uuid), notes.job.unwrap().replace('-', ""));
    assert_eq!(header.ctime, 1_787_193_005);
    assert_eq!(header.config("qemu-server.conf").unwrap(), b"name: lab\n");
    let names: Vec<&str> = header.devices().iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["drive-scsi0", "drive-scsi1"]);
}

#[test]
fn what_the_guest_writes_after_the_instant_is_not_copied() {
    let Some(lab) = Lab::with_two_disks() else { return };
    // Both the disk that is copied first and the one that waits; across clusters, into holes, at the end.
    let writes: [(usize, u8, u64, u64); 6] = [
        (0, 0xAB, 8 << 20, 128 << 10),
        (0, 0xAC, (2 << 20) + 512, 70_000 / 512 * 512),
        (0, 0xAD, 12 << 20, 512 * 3),
        (1, 0xAE, 0, 64 << 10),
        (1, 0xAF, (5 << 20) + 1024, 1024),
        (1, 0xB0, (6 << 20) - 512, 512),
    ];
    let begin = Instant::now();
    let mut notes = Notes {
        at_start: Box::new(|| {
            writes
                .iter()
                .for_each(|(disk, pattern, at, len)| lab.write(*disk, *pattern, *at, *len))
        }),
        ..Notes::default()
    };
    copy_and_compare(&lab, &SLOW, &mut notes);
    drop(notes);
    // 16 MiB of data at 2 MiB/s; QEMU lets a job begin with a slice for nothing.
    assert!(
        begin.elapsed() >= Duration::from_secs(4),
        "the limit did not hold: {:?}",
        begin.elapsed()
    );

    let mut expected: Vec<Vec<u8>> = lab.images.iter().map(|image| image.content.clone()).collect();
    for (disk, pattern, at, len) in writes {
        let at = usize::try_from(at).unwrap();
        expected[disk][at..at + usize::try_from(len).unwrap()].fill(pattern);
    }
    let (contents, said) = lab.end();
    assert!(contents == expected, "the guest's writes are not on the disks");
    assert_eq!(
        (said.matches("wrote ").count(), said.contains("failed")),
        (writes.len(), false),
        "{said}"
    );
}

/// Takes so many bytes, then fails.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or_else(|| io::Error::from_raw_os_error(28))?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies into an output that fails, while the guest writes all the time. All its writes must succeed.
fn fail_while_the_guest_writes<W: Write + Send>(
    lab: Lab,
    limits: &Limits,
    output: W,
    notes: &mut Notes<'_>,
) -> CopyError {
    let (is_over, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let number = written.fetch_add(1, Ordering::SeqCst);
                lab.write(usize::from(number % 2 == 1), 0xEE, (number * 37 % 90) << 16, 65_536);
            }
        });
        wait_for("the first write", || written.load(Ordering::SeqCst) > 1);
        let error = copy(&lab.context, &lab.source(), limits, output, notes).unwrap_err();
        is_over.store(true, Ordering::SeqCst);
        error
    });
    lab.assert_clean();
    assert!(
        notes.lines.contains(&"aborting backup job".to_owned()),
        "{:?}",
        notes.lines
    );
    let (_, said) = lab.end();
    let wrote = u64::try_from(said.matches("wrote 65536/65536 bytes").count()).unwrap();
    assert_eq!(
        (wrote, said.contains("failed")),
        (written.into_inner(), false),
        "{said}"
    );
    error
}

#[test]
fn a_full_disk_does_not_hurt_the_guest() {
    for room in [0, 100_000, 5 << 20] {
        let Some(lab) = Lab::with_two_disks() else { return };
        let error = fail_while_the_guest_writes(lab, &Limits::default(), Full(room), &mut Notes::default());
        assert_eq!(error.to_string(), "vma write error - No space left on device");
    }
}

#[test]
fn a_compressor_that_dies_does_not_hurt_the_guest() {
    let Some(lab) = Lab::with_two_disks() else { return };
    let words = ["sh", "-c", "head -c 300000 > /dev/null; exit 3"].map(str::to_owned);
    let mut compressor = Compressor::run(&words, tempfile::tempfile().unwrap()).unwrap();
    let error = fail_while_the_guest_writes(lab, &Limits::default(), &mut compressor, &mut Notes::default());
    assert_eq!(error.to_string(), "vma write error - Broken pipe");
    let reason = compressor.finish().unwrap_err().to_string();
    assert!(reason.ends_with("failed - wrong exit status 3"), "{reason}");
}

#[test]
fn a_compressor_without_space_tells_its_status() {
    let Some(lab) = Lab::with_two_disks() else { return };
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut compressor = Compressor::start(Compression::Zstd { threads: 1 }, full).unwrap();
    // The program holds back some data: that it failed may be seen at its end only.
    let copied = copy(
        &lab.context,
        &lab.source(),
        &Limits::default(),
        &mut compressor,
        &mut Notes::default(),
    );
    lab.assert_clean();
    let reason = compressor.finish().unwrap_err().to_string();
    assert!(
        reason.starts_with("zstd --threads=1 failed - wrong exit status "),
        "{reason} {copied:?}"
    );
}

#[test]
fn an_interrupt_ends_the_copy() {
    let Some(lab) = Lab::with_two_disks() else { return };
    let begin = Instant::now();
    let is_started = Cell::new(false);
    let mut notes = Notes {
        at_start: Box::new(|| is_started.set(true)),
        interrupted: Box::new(|| is_started.get()),
        ..Notes::default()
    };
    // At one byte per second it would never end.
    let limits = Limits {
        bytes_per_second: Some(1),
        ..Limits::default()
    };
    let error = fail_while_the_guest_writes(lab, &limits, io::sink(), &mut notes);
    assert_eq!(error.to_string(), "interrupted by signal");
    assert!(begin.elapsed() < PATIENCE);
}

/// Stops taking anything for ever, until it is let go.
struct Hung<'a>(&'a AtomicBool);

impl Write for Hung<'_> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        wait_for("release of the output", || self.0.load(Ordering::SeqCst));
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_interrupt_frees_a_guest_whose_backup_hangs() {
    let Some(lab) = Lab::with_two_disks() else { return };
    let (is_started, is_released) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let copying = scope.spawn(|| {
            let mut notes = Notes {
                at_start: Box::new(|| is_started.store(true, Ordering::SeqCst)),
                interrupted: Box::new(|| is_started.load(Ordering::SeqCst)),
                ..Notes::default()
            };
            copy(
                &lab.context,
                &lab.source(),
                &Limits::default(),
                Hung(&is_released),
                &mut notes,
            )
            .unwrap_err()
        });
        // The output hangs still, the VM is free of the backup.
        wait_for("the start", || is_started.load(Ordering::SeqCst));
        wait_for("the end of the jobs", || {
            lab.ask("query-jobs", Value::Null) == serde_json::json!([])
        });
        lab.write(0, 1, 0, 512);
        is_released.store(true, Ordering::SeqCst);
        let error = copying.join().unwrap();
        assert!(matches!(error, CopyError::Interrupted | CopyError::Vma(_)), "{error}");
    });
    lab.assert_clean();
}

/// What the process does that a test kills: it copies, slowly. The other disk's job is paused when that happens.
#[test]
fn helper_copies_until_it_is_killed() {
    let Ok(root) = std::env::var(ROOT) else { return };
    let disks = ["scsi0", "scsi1"].map(|key| Disk {
        key: key.parse().unwrap(),
        device: format!("drive-{key}"),
        volume: None,
    });
    let source = Source {
        vmid: lab::vmid(),
        disks: disks.into(),
        configs: Vec::new(),
        ctime: 0,
    };
    let mut notes = Notes {
        at_start: Box::new(|| fs::write(Path::new(&root).join("started"), "").unwrap()),
        ..Notes::default()
    };
    let ended = copy(&lab::context(Path::new(&root)), &source, &SLOW, io::sink(), &mut notes);
    panic!("it ended by itself: {ended:?}");
}

#[test]
fn a_killed_copy_leaves_a_vm_that_writes_and_can_be_copied() {
    let Some(lab) = Lab::with_two_disks() else { return };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_copies_until_it_is_killed", "--nocapture"])
        .env(ROOT, lab.root())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the copy", || lab.root().join("started").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(lab.socket().exists(), "nobody could remove it");
    // The next write of the job finds that nobody listens; the other job goes with it.
    wait_for("the end of the job", || {
        let jobs = lab.ask("query-jobs", Value::Null);
        jobs.as_array().unwrap().iter().all(|job| job["status"] == "concluded")
    });
    // Zeros where there are zeros already: the disk is to be compared below.
    lab.write(0, 0, 2 << 20, 65_536);
    copy_and_compare(&lab, &Limits::default(), &mut Notes::default());
    let (_, said) = lab.end();
    assert!(said.contains("wrote 65536/65536 bytes at offset 2097152"), "{said}");
}

#[test]
fn images_that_qemu_does_not_have_are_copied_first() {
    let Some(lab) = Lab::with_two_disks() else { return };
    let state = noise(3, 4 << 20);
    let raw = lab.root().join("tpm.raw");
    fs::write(&raw, &state).unwrap();
    let qcow2 = lab.root().join("tpm.qcow2");
    lab::qemu_img(&["convert", "-f", "raw", "-O", "qcow2"], &raw, &qcow2);
    for (path, format) in [(raw, "raw"), (qcow2, "qcow2")] {
        let mut source = lab.source();
        source.disks.push(Disk {
            key: "tpmstate0".parse().unwrap(),
            device: "drive-tpmstate0-backup".to_owned(),
            volume: Some(Volume {
                path,
                format: format.to_owned(),
            }),
        });
        let mut archive = Vec::new();
        copy(
            &lab.context,
            &source,
            &Limits::default(),
            &mut archive,
            &mut Notes::default(),
        )
        .unwrap();
        lab.assert_clean();
        let (devices, _) = extract_all(&archive).unwrap();
        assert!(devices["drive-tpmstate0-backup"] == state, "{format}");
        assert!(devices["drive-scsi0"] == lab.images[0].content && devices.len() == 3);
        let reader = Reader::open(archive.as_slice()).unwrap();
        assert_eq!(reader.header().devices()[2].name, "drive-tpmstate0-backup");
    }
    let mut source = lab.source();
    source.disks[1].volume = Some(Volume {
        path: lab.root().join("nothing"),
        format: "raw".to_owned(),
    });
    let error = copy(
        &lab.context,
        &source,
        &Limits::default(),
        io::sink(),
        &mut Notes::default(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("No such file or directory"), "{error}");
    lab.assert_clean();
}

#[test]
fn a_vm_that_ends_ends_its_backup() {
    let Some(mut lab) = Lab::with_two_disks() else { return };
    let source = lab.source();
    let context = lab.context.clone();
    let mut notes = Notes {
        at_start: Box::new(|| lab.kill()),
        ..Notes::default()
    };
    let error = copy(&context, &source, &SLOW, io::sink(), &mut notes).unwrap_err();
    assert_eq!(error.to_string(), "VM 8106 not running");
    let error = copy(&context, &source, &SLOW, io::sink(), &mut Notes::default()).unwrap_err();
    assert_eq!(error.to_string(), "VM 8106 not running");
}

#[test]
fn a_disk_that_the_vm_does_not_have_is_named() {
    let Some(lab) = Lab::with_two_disks() else { return };
    let mut source = lab.source();
    source.disks[1].key = "scsi7".parse().unwrap();
    let mut notes = Notes::default();
    let error = copy(&lab.context, &source, &Limits::default(), io::sink(), &mut notes).unwrap_err();
    assert_eq!(error.to_string(), "VM has no block node 'drive-scsi7'");
    assert!(notes.lines.is_empty(), "{:?}", notes.lines);
    lab.assert_clean();
}

#[test]
fn a_vm_without_disks_needs_no_qemu() {
    let directory = tempfile::tempdir().unwrap();
    let mut source = Source {
        vmid: lab::vmid(),
        disks: Vec::new(),
        configs: Vec::new(),
        ctime: 1,
    };
    source.configs.push(pve_backup::vma::Config {
        name: "qemu-server.conf".to_owned(),
        data: b"name: none\n".to_vec(),
    });
    let (mut archive, mut notes) = (Vec::new(), Notes::default());
    let context = lab::context(directory.path());
    let summary = copy(&context, &source, &Limits::default(), &mut archive, &mut notes).unwrap();
    assert_eq!(notes.lines, ["backup contains no disks", "starting diskless backup"]);
    assert_eq!((summary.archive_bytes, archive.len()), (13_312, 13_312));
    assert_eq!(check(&archive).unwrap().clusters, 0);
}
