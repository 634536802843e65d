//! Windows of a real journal.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use pve_node::journal::{self, Window};
use pve_schema::Site;
use serde_json::Value;

/// Writes journals from text, in Debian's package `systemd-journal-remote`.
const WRITER: &str = "/lib/systemd/systemd-journal-remote";
/// When the first entry was made, in seconds.
const START: i64 = 1_700_000_000;

/// A site with a journal of ten entries, a second apart, with a reboot in the middle.
fn site(directory: &Path) -> Site {
    let site = pve_testing::site(directory, "n1");
    let place = site.path("/var/log/journal");
    fs::create_dir_all(&place).unwrap();
    let mut text = String::new();
    for number in 0..10 {
        let boot = if number < 5 { "a" } else { "b" }.repeat(32);
        let time = (START + number) * 1_000_000;
        writeln!(
            text,
            "__REALTIME_TIMESTAMP={time}\n__MONOTONIC_TIMESTAMP={}\n_BOOT_ID={boot}\n_HOSTNAME=n1\n\
             SYSLOG_IDENTIFIER=prog\n_PID={number}\nMESSAGE=message \"{number}\"\n",
            number * 1_000_000
        )
        .unwrap();
    }
    let source = directory.join("journal.export");
    fs::write(&source, text).unwrap();
    let written = Command::new(WRITER)
        .arg("-o")
        .arg(place.join("system.journal"))
        .arg(&source)
        .output();
    let written = written.expect("the package systemd-journal-remote");
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    site
}

/// First cursor, numbers of the messages with `|` at a reboot, last cursor.
fn read(site: &Site, window: &Window) -> (String, String, String) {
    let mut text = String::new();
    journal::open(site, window).unwrap().read_to_string(&mut text).unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["success"], 1);
    let mut lines: Vec<&str> = answer["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    if lines.is_empty() {
        return Default::default();
    }
    let (first, last) = (lines.remove(0).to_owned(), lines.pop().unwrap().to_owned());
    let short = |line: &&str| match *line {
        "-- Reboot --" => "|".to_owned(),
        line => {
            let (head, message) = line.split_once(": ").unwrap();
            let number = message.trim_start_matches("message \"").trim_end_matches('"');
            assert!(head.ends_with(&format!(" n1 prog[{number}]")), "{line}");
            number.to_owned()
        }
    };
    (first, lines.iter().map(short).collect(), last)
}

/// Reference 09 §7.2: the ways in which clients look at a journal.
#[test]
fn windows_have_their_entries_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let site = site(directory.path());
    let all = read(&site, &Window::default());
    assert_eq!(all.1, "01234|56789");
    let cursor = |number: i64| {
        let time = Some(START + number);
        read(
            &site,
            &Window {
                since: time,
                until: time,
                ..Window::default()
            },
        )
        .0
    };
    let window = Window::default;
    for (window, expected) in [
        (
            Window {
                last: Some(3),
                ..window()
            },
            "789",
        ),
        (
            Window {
                last: Some(500),
                ..window()
            },
            "01234|56789",
        ),
        (
            Window {
                last: Some(0),
                ..window()
            },
            "",
        ),
        (
            Window {
                since: Some(START + 3),
                until: Some(START + 6),
                ..window()
            },
            "34|56",
        ),
        (
            Window {
                after: Some(cursor(7)),
                ..window()
            },
            "89",
        ),
        (
            Window {
                after: Some(cursor(9)),
                ..window()
            },
            "",
        ),
        (
            Window {
                before: Some(cursor(2)),
                ..window()
            },
            "01",
        ),
        (
            Window {
                before: Some(cursor(0)),
                ..window()
            },
            "",
        ),
        (
            Window {
                before: Some(cursor(6)),
                last: Some(3),
                ..window()
            },
            "34|5",
        ),
        (
            Window {
                after: Some(cursor(2)),
                before: Some(cursor(6)),
                ..window()
            },
            "34|5",
        ),
        (
            Window {
                after: Some(cursor(2)),
                before: Some(cursor(6)),
                last: Some(2),
                ..window()
            },
            "4|5",
        ),
        (
            Window {
                after: Some(cursor(6)),
                last: Some(5),
                ..window()
            },
            "789",
        ),
        (
            Window {
                since: Some(START + 1),
                before: Some(cursor(3)),
                ..window()
            },
            "12",
        ),
        (
            Window {
                after: Some(cursor(7)),
                until: Some(START + 8),
                ..window()
            },
            "8",
        ),
    ] {
        let (first, numbers, last) = read(&site, &window);
        assert_eq!(numbers, expected, "{window:?}");
        // The cursors are those of the entries that are shown: a client goes on from there.
        if let (Some(oldest), Some(newest)) = (expected.chars().next(), expected.chars().last()) {
            let of = |digit: char| cursor(i64::from(digit.to_digit(10).unwrap()));
            assert_eq!((first, last), (of(oldest), of(newest)), "{window:?}");
        }
    }
}

#[test]
fn a_journal_is_read_only_as_far_as_it_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let site = site(directory.path());
    let mut journal = journal::open(&site, &Window::default()).unwrap();
    let mut start = [0; 9];
    journal.read_exact(&mut start).unwrap();
    assert_eq!(&start, br#"{"data":["#);
    // Its command ends with it.
    drop(journal);
}

#[test]
fn a_cursor_of_another_machine_is_an_error_or_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let site = site(directory.path());
    let window = Window {
        after: Some("s=1;i=zz".to_owned()),
        ..Window::default()
    };
    let error = journal::open(&site, &window).unwrap_err();
    assert_eq!(error.to_string(), "Parameter verification failed.\n");
    let window = Window {
        after: Some("s=1;q=2".to_owned()),
        ..Window::default()
    };
    let error = journal::open(&site, &window).unwrap_err().to_string();
    assert!(
        error.starts_with("command 'journalctl ") && error.ends_with("failed: exit code 1"),
        "{error}"
    );
}
