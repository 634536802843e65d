//! Files of figures as librrd writes and reads them (reference 04 §20, vectors 36 to 40).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;

use common::{Lab, node, storage, storage_record};
use pve_metrics::{Consolidation, NodeFigures, Subject, Timeframe};
use serde_json::{Value, json};

/// Forty minutes of a node, a sample every ten seconds.
fn busy_node() -> Lab {
    let lab = Lab::at(1_700_049_600);
    for n in 0..=240 {
        lab.node(&NodeFigures {
            time: 1_700_049_600 + n * 10,
            cpu: Some(0.25),
            received: 1000 * n as u64,
            ..NodeFigures::default()
        });
    }
    lab.clock.set(1_700_052_005);
    lab
}

#[test]
fn charts_have_a_row_per_interval_and_no_unknown_values() {
    let lab = busy_node();
    let hour = lab.rows(&node(), "hour");
    assert_eq!((hour.len(), hour[59]["time"].clone()), (60, json!(1_700_052_000)));
    assert_eq!(Value::Object(hour[0].clone()), json!({ "time": 1_700_048_460 }));
    assert_eq!(lab.point(&node(), 1_700_049_660, "cpu"), json!(0.25));
    assert_eq!(lab.point(&node(), 1_700_049_660, "netin"), json!(100));
    assert_eq!(hour[59].get("pressurecpusome"), None);
    for (timeframe, count, first, last) in [
        ("day", 1440, 1_699_965_660, 1_700_052_000),
        ("week", 336, 1_699_448_400, 1_700_051_400),
        ("month", 1440, 1_697_461_200, 1_700_051_400),
        ("year", 1439, 1_668_967_200, 1_700_028_000),
        ("decade", 569, 1_355_356_800, 1_698_883_200),
    ] {
        let rows = lab.rows(&node(), timeframe);
        let ends = (
            rows.len(),
            rows[0]["time"].clone(),
            rows[rows.len() - 1]["time"].clone(),
        );
        assert_eq!(ends, (count, json!(first), json!(last)), "{timeframe}");
    }
}

#[test]
fn a_value_holds_since_the_sample_before() {
    let lab = Lab::at(1_700_006_460);
    for time in (1_700_006_460..=1_700_006_700).step_by(10) {
        lab.storage(time, if time <= 1_700_006_570 { 100 } else { 200 });
    }
    assert_eq!(lab.point(&storage(), 1_700_006_580, "used"), json!(116.666_666_666_667));
    assert_eq!(lab.point(&storage(), 1_700_006_640, "used"), json!(200));
}

#[test]
fn a_counter_that_starts_anew_is_not_a_negative_rate() {
    let lab = Lab::at(1_700_006_460);
    let mut received = 0;
    for time in (1_700_006_460..=1_700_006_760).step_by(10) {
        received = if time == 1_700_006_610 { 10 } else { received + 600 };
        lab.node(&NodeFigures {
            time,
            received,
            ..NodeFigures::default()
        });
    }
    assert_eq!(lab.point(&node(), 1_700_006_460, "netin"), Value::Null);
    assert_eq!(lab.point(&node(), 1_700_006_640, "netin"), json!(60));
}

#[test]
fn a_gap_is_unknown() {
    let lab = Lab::at(1_700_006_460);
    for time in (1_700_006_460..=1_700_006_880).step_by(10) {
        if !(1_700_006_550..=1_700_006_690).contains(&time) {
            lab.storage(time, 5);
        }
    }
    for (time, expected) in [
        (1_700_006_580, json!(5)),
        (1_700_006_640, Value::Null),
        (1_700_006_700, Value::Null),
        (1_700_006_760, json!(5)),
    ] {
        assert_eq!(lab.point(&storage(), time, "used"), expected, "{time}");
    }
}

#[test]
fn a_subject_nobody_told_of_has_no_file() {
    let lab = Lab::at(1_700_006_460);
    let path = lab.directory.path().join("var/lib/rrdcached/db/pve-vm-9.0/100");
    let subject = Subject::Guest(100.try_into().unwrap());
    let error = lab.rrd.rows(&subject, Timeframe::Hour, Consolidation::Max).unwrap_err();
    let expected = format!("RRD error: opening '{}': No such file or directory", path.display());
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_sample_of_the_same_second_is_refused() {
    let lab = Lab::at(1_700_006_460);
    lab.storage(1_700_006_460, 1);
    let record = storage_record("local", 1_700_006_460, 1);
    let error = lab.rrd.update(&record).unwrap_err().to_string();
    assert!(
        error.starts_with("RRD update error /") && error.contains("minimum one second step"),
        "{error}"
    );
}

/// Reference 04 §13.1: sizes, sources and rows of values, as the tool that everybody uses sees them.
#[test]
fn files_are_laid_out_like_upstreams() {
    let lab = busy_node();
    lab.storage(1_700_052_000, 5);
    let guest = pve_metrics::GuestFigures {
        time: 1_700_052_000,
        ..Default::default()
    };
    lab.rrd.update(&guest.record(100.try_into().unwrap())).unwrap();
    for (file, size, sources) in [
        ("pve-node-9.0/n1", 1_504_296, 19),
        ("pve-vm-9.0/100", 1_346_072, 17),
        ("pve-storage-9.0/n1/local", 159_392, 2),
    ] {
        let path = lab.directory.path().join("var/lib/rrdcached/db").join(file);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), size, "{file}");
        let info = lab.rrdtool(&["info"], file);
        assert_eq!(info.matches(".index = ").count(), sources, "{file}");
        assert_eq!(info.matches(".minimal_heartbeat = 120").count(), sources, "{file}");
        for line in [
            "step = 60",
            "rra[7].pdp_per_row = 10080",
            "rra[7].rows = 570",
            "rra[4].cf = \"MAX\"",
        ] {
            assert!(info.lines().any(|found| found == line), "{file}: no {line}");
        }
    }
    let info = lab.rrdtool(&["info"], "pve-node-9.0/n1");
    assert!(info.contains("ds[netin].type = \"DERIVE\"") && info.contains("ds[cpu].type = \"GAUGE\""));
    let fetched = lab.rrdtool(
        &["fetch", "AVERAGE", "-s", "1700049600", "-e", "1700049660"],
        "pve-node-9.0/n1",
    );
    let first = fetched.lines().find(|line| line.starts_with("1700049660:")).unwrap();
    assert!(
        first.contains("2.5000000000e-01") && first.contains("1.0000000000e+02"),
        "{first}"
    );
    assert_eq!(
        mode(lab.directory.path().join("var/lib/rrdcached/db/pve-node-9.0").as_path()),
        0o750
    );
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
