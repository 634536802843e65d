//! Writes that fail at each of their steps.

mod common;

use common::context;
use fail::FailScenario;
use pve_cfs::Cfs;

#[test]
fn a_write_that_fails_at_any_step_leaves_the_old_file() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let cfs = Cfs::new(&context(dir.path()));
    cfs.ensure_tree().unwrap();
    cfs.write("user.cfg", b"old").unwrap();
    for (step, words) in [
        ("cfs::write", "No space left on device"),
        ("cfs::fsync", "Input/output error"),
        ("cfs::rename", "Input/output error"),
    ] {
        fail::cfg(step, "return").unwrap();
        let error = cfs.write("user.cfg", b"new").unwrap_err().to_string();
        assert!(error.ends_with(words), "{step}: {error}");
        assert!(cfs.create("new.cfg", b"new").is_err(), "{step}");
        fail::remove(step);
        assert_eq!(cfs.read("user.cfg").unwrap().as_deref(), Some(&b"old"[..]), "{step}");
        assert!(!cfs.exists("new.cfg").unwrap(), "{step}");
        let names: Vec<_> = std::fs::read_dir(dir.path().join("etc/pve"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(
            !names.iter().any(|name| name.to_string_lossy().contains(".tmp.")),
            "{step}: {names:?}"
        );
    }
    cfs.write("user.cfg", b"new").unwrap();
    scenario.teardown();
}
