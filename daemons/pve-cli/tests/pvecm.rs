//! `pvecm updatecerts` as a unit calls it. Needs root, like the tool.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// What a call prints, says, and exits with.
fn pvecm(root: &Path, words: &str) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pve-cli"));
    command.args(["pvecm", "--root"]).arg(root);
    command.args(words.split_whitespace()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

fn place() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    fs::write(root.path().join("etc/resolv.conf"), "search lab.example\n").unwrap();
    root
}

/// Reference 01 §1.10.
#[test]
fn everything_is_made_once() {
    let root = place();
    let (told, said, code) = pvecm(root.path(), "updatecerts");
    assert_eq!((said.as_str(), code), ("", 0));
    for line in [
        format!("made directory {}/run/pve\n", root.path().display()),
        format!("wrote {}/etc/pve/priv/authkey.key\n", root.path().display()),
        format!("wrote {}/etc/pve/priv/pve-root-ca.key\n", root.path().display()),
    ] {
        assert!(told.contains(&line), "{line}: {told}");
    }
    let web = fs::metadata(root.path().join("etc/pve/authkey.pub")).unwrap().gid();
    for (path, mode, uid, gid) in [
        ("run/pve", 0o750, 0, web),
        ("run/pveproxy", 0o700, web, web),
        ("var/log/pveproxy", 0o700, web, web),
        ("var/lib/vz/template/iso", 0o755, 0, 0),
        ("etc/pve/pve-www.key", 0o640, 0, web),
        ("etc/pve/priv/authkey.key", 0o600, 0, web),
        ("etc/pve/local/pve-ssl.key", 0o640, 0, web),
    ] {
        let info = fs::metadata(root.path().join(path)).unwrap();
        let found = (info.permissions().mode() & 0o777, info.uid(), info.gid());
        assert_eq!(found, (mode, uid, gid), "{path}");
    }
    assert!(web != 0);
    let certificate = root.path().join("etc/pve/local/pve-ssl.pem");
    let first = fs::read(&certificate).unwrap();
    let (told, said, code) = pvecm(root.path(), "updatecerts");
    assert_eq!(
        (told.as_str(), said.as_str(), code),
        (
            "nothing to do: all directories, keys and certificates are there\n",
            "",
            0
        )
    );
    assert_eq!(fs::read(&certificate).unwrap(), first);
    // What became wrong is set right, what an administrator chose stays.
    let set_mode = |path: &str, mode| {
        fs::set_permissions(root.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode("run/pve", 0o777);
    set_mode("var/lib/vz", 0o711);
    set_mode("var/log/pve", 0o750);
    set_mode("var/log/pve/tasks", 0o750);
    set_mode("var/log/pveproxy", 0o2750);
    assert_eq!(
        pvecm(root.path(), "u -silent 1 -force"),
        (String::new(), String::new(), 0)
    );
    let mode = |path: &str| fs::metadata(root.path().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("run/pve"), mode("var/lib/vz")), (0o750, 0o711));
    let logs = ["var/log/pve", "var/log/pve/tasks", "var/log/pveproxy"].map(mode);
    assert_eq!(logs, [0o750, 0o750, 0o2750]);
    assert_ne!(
        fs::read(&certificate).unwrap(),
        first,
        "--force makes a new certificate"
    );
}

#[test]
fn what_is_in_the_way_is_named() {
    let root = place();
    fs::create_dir(root.path().join("run")).unwrap();
    fs::write(root.path().join("run/pve"), "").unwrap();
    let (told, said, code) = pvecm(root.path(), "updatecerts --silent");
    let path = root.path().join("run/pve");
    let expected = format!("unable to create directory '{}' - File exists\n", path.display());
    assert_eq!((told.as_str(), said, code), ("", expected, 255));
    for (words, first) in [
        ("updatecerts --silent maybe", "400 unable to parse boolean option\n"),
        ("updatecerts --node x", "Unknown option: node\n"),
        ("updatecerts now", "400 too many arguments\n"),
    ] {
        let (_, said, code) = pvecm(root.path(), words);
        assert!(
            said.starts_with(first) && said.contains("\npvecm updatecerts "),
            "{said}"
        );
        assert_eq!(code, 255);
    }
    let (_, said, code) = pvecm(root.path(), "create cluster");
    assert!(said.starts_with("ERROR: unknown command 'pvecm create'\n"), "{said}");
    assert_eq!(code, 255);
}
