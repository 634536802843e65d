//! Making, changing and removing storages (reference 08 §7).
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;

use common::{Lab, text};
use pve_schema::{Param, Params};
use pve_storage::config::edit;
use pve_storage::{StorageConfig, StorageError, StorageKind};

fn params(text: &str) -> Params {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap();
        (name.to_owned(), Param::Text(value.replace('+', ",")))
    };
    text.split_whitespace().map(pair).collect()
}

fn create(lab: &Lab, kind: StorageKind, id: &str, options: &str) -> Result<StorageConfig, StorageError> {
    let options = options.replace("BASE", &lab.base().display().to_string());
    edit::create(&lab.context, &id.parse().unwrap(), kind, &params(&options))
}

fn update(lab: &Lab, id: &str, options: &str) -> String {
    text(edit::update(&lab.context, &id.parse().unwrap(), &params(options)))
}

fn written(lab: &Lab) -> String {
    fs::read_to_string(lab.context.site.etc_pve().join("storage.cfg")).unwrap()
}

#[test]
fn a_storage_from_making_to_removal() {
    let lab = Lab::new("");
    let base = lab.base().display().to_string();
    let made = create(
        &lab,
        StorageKind::Dir,
        "st",
        "path=BASE/new/ content=iso+images nodes= type=dir storage=st",
    );
    assert_eq!(made.unwrap().get("content"), Some("images,iso"));
    assert!(lab.base().join("new/template/iso").is_dir(), "it is activated at once");
    assert!(written(&lab).ends_with(&format!("\n\ndir: st\n\tpath {base}/new\n\tcontent images,iso\n\n")));

    assert_eq!(
        update(&lab, "st", "content=backup disable=1 prune-backups=keep-last=0"),
        "ok"
    );
    assert_eq!(update(&lab, "st", "delete=prune-backups"), "ok");
    assert!(written(&lab).ends_with(&format!("dir: st\n\tdisable\n\tpath {base}/new\n\tcontent backup\n\n")));
    assert_eq!(update(&lab, "st", "disable=0 delete=content"), "ok");
    assert!(written(&lab).ends_with(
        &format!("dir: st\n\tpath {base}/new\n\tcontent images,rootdir\n\tdisable 0\n\n").replace("\tdisable 0\n", "")
    ));

    edit::remove(&lab.context, &"st".parse().unwrap()).unwrap();
    assert!(!written(&lab).contains("dir: st"));
    assert!(lab.base().join("new").is_dir(), "its data stays");
}

#[test]
fn what_is_refused_is_told_with_a_prefix() {
    let lab = Lab::new(
        "dir: st\n\tpath BASE\n\nlvm: vg\n\tvgname vgx\n\tbase lun:0.0.1.x\n\niscsi: lun\n\tportal p\n\ttarget t\n",
    );
    let before = written(&lab);
    let dir = StorageKind::Dir;
    let refused = |kind, id: &str, options: &str| {
        let message = text(create(&lab, kind, id, options));
        message
            .strip_prefix("create storage failed: ")
            .unwrap_or("no prefix")
            .to_owned()
    };
    assert_eq!(refused(dir, "st", "path=/x"), "storage ID 'st' already defined");
    assert_eq!(refused(dir, "local", "path=/x"), "storage ID 'local' already defined");
    assert_eq!(refused(dir, "s2", "server=x path=/x"), "unexpected property 'server'");
    assert_eq!(
        refused(dir, "s2", "content=iso"),
        "missing value for required option 'path'"
    );
    assert_eq!(
        refused(dir, "s2", "path=/srv/a,b"),
        "illegal path for directory storage: /srv/a,b"
    );
    assert_eq!(
        refused(dir, "s2", "path=/proc/nothing"),
        "unable to activate storage 's2' - directory '/proc/nothing' does not exist or is unreachable"
    );
    let error = create(&lab, StorageKind::Lvmthin, "s2", "vgname=vg0 thinpool=data").unwrap_err();
    assert_eq!(
        error.to_string(),
        "create storage failed: storage type 'lvmthin' is not supported by this build yet"
    );
    assert_eq!(pve_schema::Failure::status(&error), 501);
    for (options, message) in [
        ("path=/y", "can't change value of fixed parameter 'path'"),
        ("delete=path", "unable to delete required option 'path'"),
        (
            "delete=snapshot-as-volume-chain",
            "unable to delete fixed option 'snapshot-as-volume-chain'",
        ),
        ("delete=vgname", "no such option 'vgname'"),
        (
            "delete=content content=iso",
            "cannot set and delete property 'content' at the same time!",
        ),
        ("vgname=x", "unexpected property 'vgname'"),
        (
            "digest=abc content=iso",
            "detected modified configuration - file changed by other user? Try again.",
        ),
    ] {
        assert_eq!(update(&lab, "st", options), format!("update storage failed: {message}"));
    }
    assert_eq!(
        update(&lab, "none", "content=iso"),
        "update storage failed: storage 'none' does not exist"
    );
    let removed = |id: &str| text(edit::remove(&lab.context, &id.parse().unwrap()));
    assert_eq!(
        removed("lun"),
        "delete storage failed: can't remove storage - storage is used as base of another storage"
    );
    assert_eq!(removed("none"), "delete storage failed: storage 'none' does not exist");
    assert_eq!(written(&lab), before);
}

#[test]
fn passwords_have_files_of_their_own() {
    let lab = Lab::new("");
    let secret = lab.context.site.etc_pve().join("priv/storage/share.pw");
    let options = "server=192.0.2.1 share=s username=u password=geheim disable=1";
    create(&lab, StorageKind::Cifs, "share", options).unwrap();
    assert_eq!(fs::read_to_string(&secret).unwrap(), "password=geheim\n");
    assert!(!written(&lab).contains("geheim"));
    assert!(written(&lab).contains("\tpath /mnt/pve/share\n"), "{}", written(&lab));
    edit::remove(&lab.context, &"share".parse().unwrap()).unwrap();
    assert!(!secret.exists());
    // One that cannot be activated leaves no secret behind.
    let failed = create(&lab, StorageKind::Cifs, "share", &options.replace("disable=1", ""));
    assert!(failed.is_err() && !secret.exists());
}
