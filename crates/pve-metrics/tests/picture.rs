//! Charts as pictures, looked at by a program that reads PNG.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test states what must hold")]

mod common;

use std::io::Write as _;
use std::process::{Command, Stdio};

use common::{Lab, node, storage};
use pve_metrics::{Consolidation, NodeFigures, RrdError, Subject, Timeframe};

const START: i64 = 1_700_006_460;

/// Half an hour of a node and a storage.
fn lab() -> Lab {
    let lab = Lab::at(START);
    for time in (START..=START + 1800).step_by(10) {
        lab.node(&NodeFigures {
            time,
            cpu: Some(0.25),
            wait: Some(0.1),
            load: 3.0,
            ..NodeFigures::default()
        });
        lab.storage(time, 400);
    }
    lab
}

fn draw(lab: &Lab, subject: &Subject, sources: &[&str]) -> Result<Vec<u8>, RrdError> {
    let picture = lab
        .rrd
        .picture(subject, sources, Timeframe::Hour, Consolidation::Average)?;
    let name = format!("/var/lib/rrdcached/db/{subject}_{}.png", sources.join("_"));
    assert!(picture.filename.ends_with(&name), "{}", picture.filename);
    Ok(picture.image)
}

/// Width, height, and how many pixels have each colour.
fn look(image: &[u8]) -> (u32, u32, impl Fn(&str) -> u64 + use<>) {
    let mut child = Command::new("convert")
        .args(["png:-", "-depth", "8", "-format", "%c", "histogram:info:-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("imagemagick is in packages/test.txt");
    child.stdin.take().unwrap().write_all(image).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let colors = String::from_utf8(output.stdout).unwrap();
    // The head of every PNG picture.
    let number = |at: usize| u32::from_be_bytes(image[at..at + 4].try_into().unwrap());
    let (width, height) = (number(16), number(20));
    let count = move |color: &str| {
        let line = colors.lines().find(|line| line.contains(&format!("#{color}")));
        line.map_or(0, |line| line.split(':').next().unwrap().trim().parse().unwrap())
    };
    (width, height, count)
}

#[test]
fn a_line_has_its_colour_on_a_picture_of_its_size() {
    let lab = lab();
    let (width, height, count) = look(&draw(&lab, &node(), &["cpu"]).unwrap());
    assert_eq!((width, height), (800, 200));
    // Half of the hour has values: a line of two pixels over 400.
    assert!(count("00DDFF") > 300, "{}", count("00DDFF"));
    assert_eq!(count("FF0000"), 0);
    let (_, _, count) = look(&draw(&lab, &storage(), &["total", "used"]).unwrap());
    assert!(count("00DDFF") > 300 && count("FF0000") > 300);
}

#[test]
fn shares_are_drawn_as_per_cent() {
    let lab = lab();
    // 25 and 10 of at most some 27 are apart on the picture; as 0.25 beside 3 they would be one line at the bottom.
    let both = draw(&lab, &node(), &["cpu", "loadavg"]).unwrap();
    let rows = |color: &str| {
        let mut child = Command::new("convert")
            .args([
                "png:-", "-fill", "black", "+opaque", color, "-trim", "-format", "%Y", "info:-",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&both).unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse::<i64>().unwrap()
    };
    let (cpu, load) = (rows("#00ddff"), rows("#ff0000"));
    assert!(cpu + 100 < load, "25 per cent at row {cpu}, a load of 3 at row {load}");
}

#[test]
fn what_cannot_be_drawn_is_an_error() {
    let lab = lab();
    let text = |subject: &Subject, sources: &[&str]| draw(&lab, subject, sources).unwrap_err().to_string();
    assert_eq!(
        text(&node(), &["cpu", "iowait", "memused"]),
        "fixme: no color definition"
    );
    assert!(text(&node(), &["nothing"]).starts_with("RRD error: No DS called 'nothing'"));
    // A name that librrd would take for something else.
    for name in ["cpu:AVERAGE:x", "", "a\\", "netin "] {
        let error = text(&node(), &[name]);
        assert!(
            error.starts_with(&format!("RRD error: No DS called '{name}' in '")),
            "{error}"
        );
    }
    let guest = Subject::Guest(100.try_into().unwrap());
    let error = text(&guest, &["cpu"]);
    assert!(error.ends_with("pve-vm-9.0/100': No such file or directory"), "{error}");
}
