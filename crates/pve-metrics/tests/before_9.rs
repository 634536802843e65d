//! Charts of subjects whose files go back to releases before 9.0 (reference 04 §13.2): files made by `rrdtool`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test states what must hold")]

mod common;

use std::fs;
use std::process::Command;

use common::{Lab, storage};
use pve_metrics::{Consolidation, Timeframe};
use serde_json::{Map, Value};

/// The end of the old file, and the start of the new one: a Tuesday, on a boundary of each width but the week's.
const CHANGE: i64 = 1_700_006_400;
const DAY: i64 = 86400;

/// A storage's old file with a sample every ten minutes over 90 days, `used` 7; the steps of the samples do not matter
/// but to the finest rows.
fn old_file(lab: &Lab, name: &str) {
    let file = lab.file(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let run = |arguments: Vec<String>| {
        let output = Command::new("rrdtool").args(arguments).output();
        let output = output.expect("rrdtool is in packages/test.txt");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let file = file.to_str().unwrap().to_owned();
    let begin = CHANGE - 90 * DAY;
    let mut create = vec!["create".to_owned(), file.clone(), "--start".into(), begin.to_string()];
    create.extend(["--step", "60", "DS:total:GAUGE:120:0:U", "DS:used:GAUGE:120:0:U"].map(str::to_owned));
    for how in ["AVERAGE", "MAX"] {
        create.extend([1, 30, 180, 720, 10080].map(|steps| format!("RRA:{how}:0.5:{steps}:70")));
    }
    run(create);
    let times: Vec<i64> = (begin + 60..=CHANGE).step_by(60).collect();
    for some in times.chunks(20_000) {
        let samples = some.iter().map(|time| format!("{time}:1000:7"));
        run(["update".to_owned(), file.clone()].into_iter().chain(samples).collect());
    }
}

/// A lab with an old file, and some samples in a new one that begins ten minutes later, `used` 9.
fn changed(name: &str) -> Lab {
    let lab = Lab::at(CHANGE);
    old_file(&lab, name);
    for time in (CHANGE + 600..=CHANGE + 1800).step_by(10) {
        lab.storage(time, 9);
    }
    lab
}

fn ends(rows: &[Map<String, Value>], used: u64) -> Vec<i64> {
    let rows = rows.iter().filter(|row| row.get("used") == Some(&used.into()));
    rows.map(|row| row["time"].as_i64().unwrap()).collect()
}

#[test]
fn old_points_come_first_in_their_own_steps() {
    let lab = changed("pve2-storage/n1/local");
    for (timeframe, step, first) in [
        ("hour", 60, CHANGE - 1800 + 60),
        ("day", 1800, CHANGE + 1800 - 69 * 1800),
        ("week", 10800, CHANGE - 69 * 10800),
        ("month", 43200, CHANGE - 69 * 43200),
    ] {
        let rows = lab.rows(&storage(), timeframe);
        let old = ends(&rows, 7);
        assert_eq!(old[0], first, "{timeframe}");
        assert!(
            old.windows(2).all(|pair| pair[1] - pair[0] == step),
            "{timeframe}: {old:?}"
        );
        let last = old[old.len() - 1];
        assert!(last <= CHANGE && last > CHANGE - step, "{timeframe}: {last}");
        let times: Vec<i64> = rows.iter().map(|row| row["time"].as_i64().unwrap()).collect();
        assert!(times.is_sorted(), "{timeframe}");
        let is_new = |row: &&Map<String, Value>| row["time"].as_i64().unwrap() > CHANGE;
        assert!(
            rows.iter().filter(is_new).all(|row| row.get("used") != Some(&7.into())),
            "{timeframe}"
        );
    }
    assert!(!ends(&lab.rows(&storage(), "hour"), 9).is_empty());
    let year = lab.rows(&storage(), "year");
    let old = ends(&year, 7);
    assert!(
        (11..=13).contains(&old.len()) && old.iter().all(|time| time % (7 * DAY) == 0),
        "{old:?}"
    );
}

#[test]
fn a_file_that_was_put_aside_counts_as_well() {
    let lab = changed("pve2-storage/n1/local.old");
    assert!(!ends(&lab.rows(&storage(), "week"), 7).is_empty());
}

#[test]
fn an_old_file_that_ends_before_the_chart_begins_adds_nothing() {
    let lab = changed("pve2-storage/n1/local");
    lab.clock.set(CHANGE + 2 * DAY);
    lab.storage(CHANGE + 2 * DAY, 9);
    let rows = lab.rrd.rows(&storage(), Timeframe::Day, Consolidation::Max).unwrap();
    assert!(rows.len() <= 1440, "{}", rows.len());
    assert!(ends(&rows, 7).is_empty());
    assert!(!ends(&lab.rows(&storage(), "week"), 7).is_empty());
}

#[test]
fn a_damaged_old_file_does_not_hide_the_new_one() {
    let lab = changed("pve2-storage/n1/local");
    fs::write(lab.file("pve2-storage/n1/local"), "no figures").unwrap();
    let rows = lab.rows(&storage(), "hour");
    assert!(rows.len() >= 59 && !ends(&rows, 9).is_empty());
}
