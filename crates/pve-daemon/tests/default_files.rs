//! The shipped files of `/etc/default`, and the pages about them, say what the parser does.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pve_daemon::defaults::{self, Variables};
use pve_daemon::settings::{KEYS, Settings};

const FILES: [&str; 2] = ["pveproxy", "pvedaemon"];

/// The keys whose commented value is the default; those of the others are examples.
const SHOWN_DEFAULTS: [&str; 9] = [
    "MAX_WORKERS",
    "POLICY",
    "DISABLE_TLS_1_2",
    "DISABLE_TLS_1_3",
    "HONOR_CIPHER_ORDER",
    "COMPRESSION",
    "HTTP2",
    "ACCEL",
    "LOGIN_FAILURES",
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap()
}

/// The assignments that are commented out: `#NAME=VALUE`, without a blank after the `#`.
fn commented(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix('#')?.split_once('='));
    lines
        .filter(|(name, _)| {
            name.bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        })
        .collect()
}

/// What a file with this content means, as the daemons read it.
fn settings(content: &str) -> (Variables, Settings) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, content).unwrap();
    let variables = defaults::read(&path, &KEYS).unwrap();
    let (settings, warnings) = Settings::interpret(&variables, &path).unwrap();
    assert_eq!(warnings, Vec::<String>::new(), "{content}");
    (variables, settings)
}

fn nothing_set() -> Settings {
    Settings::interpret(&Variables::new(), Path::new("none")).unwrap().0
}

#[test]
fn the_shipped_files_change_nothing() {
    for file in FILES {
        let (variables, settings) = settings(&text(&format!("etc-default/{file}")));
        assert_eq!((variables, settings), (Variables::new(), nothing_set()), "{file}");
    }
}

#[test]
fn the_shipped_files_name_every_key_and_no_other() {
    let proxy = text("etc-default/pveproxy");
    let daemon = text("etc-default/pvedaemon");
    let names = |text| commented(text).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let (proxy, daemon) = (names(&proxy), names(&daemon));
    // The keys that have an effect there; the rest is pveproxy's.
    assert_eq!(daemon, ["MAX_WORKERS", "LOGIN_FAILURES", "ACCEL"]);
    assert!(!proxy.contains(&"ACCEL") && !proxy.contains(&"LOGIN_FAILURES"));
    assert_eq!(proxy.len(), KEYS.len() - 2, "each key once: {proxy:?}");
    let named: BTreeSet<&str> = proxy.into_iter().chain(daemon).collect();
    assert_eq!(named, KEYS.into_iter().collect());
}

#[test]
fn what_is_commented_out_may_be_set_as_it_stands() {
    for file in FILES {
        for (name, value) in commented(&text(&format!("etc-default/{file}"))) {
            let (variables, settings) = settings(&format!("{name}={value}\n"));
            assert_eq!(variables.keys().collect::<Vec<_>>(), [name]);
            let is_default = settings == nothing_set();
            assert_eq!(is_default, SHOWN_DEFAULTS.contains(&name), "{name}={value}");
        }
    }
}

#[test]
fn the_man_pages_have_an_entry_for_every_key() {
    let entries = |page: &str| {
        let text = text(&format!("docs/man/{page}"));
        let lines = text.lines().filter_map(|line| line.strip_prefix(".It Ev "));
        lines.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let all: BTreeSet<String> = KEYS.map(str::to_owned).into();
    let own = ["ACCEL", "LOGIN_FAILURES"].map(str::to_owned);
    let mut proxys = all.clone();
    proxys.retain(|key| !own.contains(key));
    assert_eq!(entries("pveproxy.default.5"), proxys);
    assert_eq!(
        entries("pvedaemon.default.5"),
        ["ACCEL", "LOGIN_FAILURES", "MAX_WORKERS"].map(str::to_owned).into()
    );
}
