//! `pvesh` as an administrator calls it, on a root of its own without any daemon. Needs root, like the tool.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

use std::fs;
use std::process::{Command, Stdio};

/// What a call prints, says, and exits with.
fn pvesh(root: &tempfile::TempDir, words: &str) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pve-cli"));
    command.args(["pvesh", "--root"]).arg(root.path());
    command
        .args(words.split_whitespace())
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

fn place() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("etc/pve/priv")).unwrap();
    root
}

#[test]
fn paths_are_made_read_changed_and_deleted() {
    let root = place();
    let good = |words: &str| {
        let (told, said, code) = pvesh(&root, words);
        assert_eq!((said.as_str(), code), ("", 0), "{words}");
        told
    };
    assert_eq!(good("create /access/groups --groupid ops --comment Operators"), "");
    assert_eq!(good("set access/groups/ops -comment=Ops"), "");
    assert_eq!(
        good("get /access/groups/ops --output-format json"),
        "{\"comment\":\"Ops\",\"members\":[]}\n"
    );
    let expected = "\
+---------+-------+
| key     | value |
+=========+=======+
| comment | Ops   |
+---------+-------+
| members | []    |
+---------+-------+
";
    assert_eq!(good("get --human-readable /access/groups/ops"), expected);
    assert_eq!(good("delete /access/groups/ops"), "");
    assert_eq!(good("get /access/groups"), "");
}

#[test]
fn indices_are_listed() {
    let root = place();
    let (told, ..) = pvesh(&root, "ls /");
    assert!(
        told.contains("Dr---        access\n") && told.contains("-r---        version\n"),
        "{told}"
    );
    let (told, ..) = pvesh(&root, "ls /access");
    assert!(
        told.contains("Dr-c-        users\n") && told.contains("--w--        password\n"),
        "{told}"
    );
    let (told, ..) = pvesh(&root, "ls /access/users --output-format json");
    assert_eq!(told, "[{\"capabilities\":\"-rw-d\",\"name\":\"root@pam\"}]\n");
    let (_, said, code) = pvesh(&root, "ls /version");
    assert_eq!(
        (said.as_str(), code),
        ("resource '/version' does not define child links\n", 255)
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let root = place();
    for (words, expected, code) in [
        ("get /x", "No 'get' handler defined for '/x'\n", 1),
        ("set /version", "No 'set' handler defined for '/version'\n", 1),
        ("get", "400 not enough arguments\npvesh get <api_path> [OPTIONS]\n", 255),
        (
            "get /version /nodes",
            "400 too many arguments\npvesh get /version [OPTIONS]\n",
            255,
        ),
        (
            "get /version --x",
            "Unknown option: x\n400 unable to parse option\npvesh get /version [OPTIONS]\n",
            255,
        ),
        (
            "create /access/groups",
            "400 Parameter verification failed.\ngroupid: property is missing and it is not optional\n\
             pvesh create /access/groups [OPTIONS]\n",
            255,
        ),
        (
            "delete /access/groups/none",
            "delete group failed: group 'none' does not exist\n",
            255,
        ),
    ] {
        let (told, said, exit) = pvesh(&root, words);
        assert_eq!((told.as_str(), said.as_str(), exit), ("", expected, code), "{words}");
    }
    let (_, said, code) = pvesh(&root, "foo");
    assert_eq!(
        (said.lines().next(), code),
        (Some("ERROR: unknown command 'pvesh foo'"), 255)
    );
}

#[test]
fn help_and_version_stand_among_the_options() {
    let root = place();
    let (told, said, code) = pvesh(&root, "--help");
    assert!(told.starts_with("USAGE: pvesh "), "{told}");
    assert_eq!((said.as_str(), code), ("", 0));
    let version = format!("pvesh {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(pvesh(&root, "--remote n1 --version"), (version, String::new(), 0));
}

#[test]
fn usage_tells_what_methods_take() {
    let root = place();
    let (told, _, code) = pvesh(&root, "usage /access/groups");
    let expected = "USAGE: pvesh create /access/groups [OPTIONS]\nUSAGE: pvesh get /access/groups [OPTIONS]\n";
    assert_eq!((told.as_str(), code), (expected, 0));
    let (told, ..) = pvesh(&root, "usage /access/groups --command create --verbose --returns");
    let expected = "\
USAGE: pvesh create /access/groups [OPTIONS]

  --comment <string>
  --groupid <string>; required

  Returns: null
";
    assert_eq!(told, expected);
    assert_eq!(pvesh(&root, "usage /x").2, 255);
}
