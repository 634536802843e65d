//! Files of figures that a loss of power or a full disk left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test states what must hold")]

mod common;

use std::fs::{self, File};

use common::{Lab, storage_record};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pve_metrics::{Consolidation, RrdError, Subject, Timeframe};

const START: i64 = 1_700_006_460;

/// Two storages with some samples.
fn two_storages() -> Lab {
    let lab = Lab::at(START);
    for time in (START..START + 120).step_by(10) {
        lab.clock.set(time);
        for id in ["local", "other"] {
            lab.rrd.update(&storage_record(id, time, 5)).unwrap();
        }
    }
    lab
}

fn samples(lab: &Lab, id: &str) -> usize {
    let subject = Subject::Storage("n1".parse().unwrap(), id.parse().unwrap());
    let rows = lab.rrd.rows(&subject, Timeframe::Hour, Consolidation::Average).unwrap();
    rows.iter().filter(|row| row.contains_key("used")).count()
}

#[test]
fn a_damaged_file_is_kept_aside_and_costs_no_other_its_figures() {
    let head = |lab: &Lab| fs::read(lab.file("pve-storage-9.0/n1/local")).unwrap()[..300].to_vec();
    for (name, damage) in [
        (
            "cut off",
            Box::new(|lab: &Lab| head(lab)) as Box<dyn Fn(&Lab) -> Vec<u8>>,
        ),
        ("empty", Box::new(|_: &Lab| Vec::new())),
        ("overwritten", Box::new(|_: &Lab| vec![0; 159_392])),
        (
            "one byte short",
            Box::new(|lab: &Lab| {
                let mut bytes = fs::read(lab.file("pve-storage-9.0/n1/local")).unwrap();
                bytes.pop();
                bytes
            }),
        ),
    ] {
        let lab = two_storages();
        let file = lab.file("pve-storage-9.0/n1/local");
        let left = damage(&lab);
        fs::write(&file, &left).unwrap();
        let time = START + 120;
        lab.clock.set(time);
        let records = [storage_record("local", time, 5), storage_record("other", time, 5)];
        let results = lab.rrd.update_all(&records);
        assert!(results.iter().all(Result::is_ok), "{name}: {results:?}");
        assert_eq!(
            fs::read(lab.file("pve-storage-9.0/n1/local.damaged")).unwrap(),
            left,
            "{name}"
        );
        assert_eq!(fs::metadata(&file).unwrap().len(), 159_392, "{name}");
        for time in (time + 10..time + 120).step_by(10) {
            lab.storage(time, 5);
        }
        assert!(
            samples(&lab, "local") > 0 && samples(&lab, "other") > 0,
            "{name}: both go on"
        );
    }
}

#[test]
fn damage_that_comes_again_and_again_is_an_error_and_deletes_nothing() {
    let lab = two_storages();
    let file = lab.file("pve-storage-9.0/n1/local");
    let mut time = START + 120;
    for round in 0..10 {
        fs::write(&file, format!("round {round}")).unwrap();
        time += 10;
        lab.storage(time, 5);
    }
    fs::write(&file, "too much").unwrap();
    let error = lab.rrd.update(&storage_record("local", time + 10, 5)).unwrap_err();
    assert!(matches!(error, RrdError::Rename { .. }), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "too much");
    assert_eq!(
        fs::read_to_string(lab.file("pve-storage-9.0/n1/local.damaged")).unwrap(),
        "round 0"
    );
    assert_eq!(
        fs::read_to_string(lab.file("pve-storage-9.0/n1/local.damaged.9")).unwrap(),
        "round 9"
    );
}

#[test]
fn a_file_that_another_kind_of_machine_or_version_made_is_left_alone() {
    let lab = two_storages();
    let file = lab.file("pve-storage-9.0/n1/local");
    let mut bytes = fs::read(&file).unwrap();
    bytes[4..8].copy_from_slice(b"9999");
    fs::write(&file, &bytes).unwrap();
    let error = lab.rrd.update(&storage_record("local", START + 130, 5)).unwrap_err();
    assert!(error.to_string().contains("version"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), bytes);
    assert!(!lab.file("pve-storage-9.0/n1/local.damaged").exists());
}

#[test]
fn a_file_on_a_disk_that_is_away_is_not_begun_anew() {
    let lab = two_storages();
    let file = lab.file("pve-storage-9.0/n1/local");
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/nonexistent/local", &file).unwrap();
    let error = lab.rrd.update(&storage_record("local", START + 130, 5)).unwrap_err();
    assert!(error.to_string().contains("No such file or directory"), "{error}");
    assert!(fs::symlink_metadata(&file).unwrap().is_symlink());
}

/// Unmounts when the test is over, however it ends.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_leaves_no_half_made_file() {
    let lab = Lab::at(START);
    let folder = lab.file("pve-storage-9.0/n1");
    fs::create_dir_all(&folder).unwrap();
    let options = Some("size=256k");
    if let Err(error) = mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), options) {
        println!("SKIP a_full_disk_leaves_no_half_made_file: cannot mount tmpfs: {error}");
        return;
    }
    let _mounted = Mounted(folder.clone());
    lab.storage(START, 5);
    let error = lab.rrd.update(&storage_record("other", START, 5)).unwrap_err();
    assert!(matches!(error, RrdError::Create { .. }), "{error}");
    let names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["local"]);
    // What there is goes on, on a disk without a free byte.
    let filler = File::create(folder.join("filler")).unwrap();
    let _ = std::io::Write::write_all(&mut &filler, &vec![1; 300_000]);
    lab.storage(START + 10, 5);
    fs::remove_file(folder.join("filler")).unwrap();
    lab.rrd.update(&storage_record("more", START + 20, 5)).unwrap_err();
    umount2(&folder, MntFlags::MNT_DETACH).unwrap();
    lab.rrd.update(&storage_record("other", START + 20, 5)).unwrap();
}
