//! Config files are read leniently and rewritten without loss (reference 06a §2, vectors 1 to 8, 23, 24).

#![allow(clippy::unwrap_used)]

use pve_guest::rules::{Checked, boolean_word};
use pve_guest::{GuestConfig, GuestKind, KeyRules, PendingDeletes};
use pve_schema::ids::VmId;

/// A guest type with two booleans, an integer and some text.
struct Rules;

impl KeyRules for Rules {
    fn kind(&self) -> GuestKind {
        GuestKind::Qemu
    }

    fn check(&self, key: &str, value: &str) -> Result<Checked, String> {
        let value = match key {
            "onboot" => match boolean_word(value) {
                Some(word) => u8::from(word).to_string(),
                None => return Err(format!("type check ('boolean') failed - got '{value}'")),
            },
            "cores" if value.parse::<u32>().is_err() => {
                return Err(format!("type check ('integer') failed - got '{value}'"));
            }
            "cores" | "memory" | "boot" | "name" | "lock" | "parent" | "scsi3" | "net2" => value.to_owned(),
            _ => return Err(format!("unknown setting '{key}'")),
        };
        Ok(Checked {
            key: key.to_owned(),
            value,
        })
    }
}

fn vmid() -> VmId {
    "105".parse().unwrap()
}

fn parse(text: &str) -> (GuestConfig, Vec<String>) {
    let parsed = GuestConfig::parse(&Rules, vmid(), text.as_bytes());
    (parsed.config, parsed.warnings.iter().map(ToString::to_string).collect())
}

#[test]
fn the_digest_is_that_of_the_bytes() {
    let (config, warnings) = parse("boot: order=scsi0\nmemory: 512\n");
    assert!(warnings.is_empty());
    assert_eq!(config.digest(), "649433e4254f54b6703dff623e8e6679864a3b1a");
    assert_eq!(config.main.get("memory"), Some("512"));
    assert!(config.check_digest(Some("")).is_ok());
    let error = config.check_digest(Some("0000")).unwrap_err();
    assert_eq!(error.to_string(), "checksum mismatch (file change by other user?)");
}

#[test]
fn descriptions_are_comment_lines() {
    let text = "#lab%3A first line\n#second\nmemory: 512\n";
    let (config, _) = parse(text);
    assert_eq!(config.main.get("description"), Some("lab: first line\nsecond"));
    assert_eq!(config.print(), text);
    assert_eq!(
        parse("memory: 1\ndescription: a%0Ab\n").0.print(),
        "#a\n#b\nmemory: 1\n"
    );
}

#[test]
fn values_are_checked_weakly() {
    let (config, warnings) = parse("onboot: yes\ncores: x\n");
    assert_eq!(config.main.get("onboot"), Some("1"));
    assert!(!config.main.has("cores"));
    let text = "vm 105 - unable to parse value of 'cores' - type check ('integer') failed - got 'x'";
    assert_eq!(warnings, [text]);
    assert_eq!(
        GuestConfig::parse_strict(&Rules, vmid(), b"cores: x\n")
            .unwrap_err()
            .to_string(),
        text
    );
}

#[test]
fn what_is_not_ours_stays_in_place() {
    let text = "cores: 2\nfuture: 1\nmemory: 512\nno key here\n\n[bad section!]\nfoo: 1\n\n[snap1]\ncores: 1\n";
    let (config, warnings) = parse(text);
    assert_eq!(
        warnings,
        [
            "vm 105 - unable to parse value of 'future' - unknown setting 'future'",
            "vm 105 - unable to parse config: no key here",
            "vm 105 - skipping unknown section: 'bad section!'",
        ]
    );
    assert_eq!(config.print(), text);
    let mut changed = config.clone();
    changed.main.set("name", "x");
    changed.main.remove("cores");
    assert_eq!(
        changed.print(),
        "future: 1\nmemory: 512\nno key here\nname: x\n\n[bad section!]\nfoo: 1\n\n[snap1]\ncores: 1\n"
    );
}

#[test]
fn setting_a_key_replaces_the_line_that_failed_to() {
    let (mut config, _) = parse("cores: x\n");
    assert_eq!(config.print(), "cores: x\n");
    config.main.set("cores", "2");
    assert_eq!(config.print(), "cores: 2\n");
}

#[test]
fn a_later_section_of_the_same_name_wins() {
    let (config, warnings) = parse("[snap1]\ncores: 1\n[snap1]\ncores: 2\n[PENDING]\ncores: 3\n[pending]\ncores: 4\n");
    assert_eq!(config.snapshot("snap1").unwrap().get("cores"), Some("2"));
    assert_eq!(config.pending.get("cores"), Some("4"));
    assert_eq!(
        warnings,
        [
            "vm 105 - duplicate snapshot section: snap1",
            "vm 105 - duplicate section: pending"
        ]
    );
    assert_eq!(
        config.snapshot("s2").unwrap_err().to_string(),
        "snapshot 's2' does not exist"
    );
}

#[test]
fn sections_print_in_canonical_order() {
    let text = "cores: 1\nparent: b1\n\n[PENDING]\n#\ncores: 2\ndelete: !scsi3,net2\nname: x\n\n\
                [special:cloudinit]\nanything: goes\n\n[a1]\nsnapstate: delete\n\n[b1]\ncores: 1\n";
    let (config, warnings) = parse(text);
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.pending.get("description"), Some(""));
    let canonical = text.replace("delete: !scsi3,net2", "delete: net2,!scsi3");
    assert_eq!(config.print(), canonical);
}

#[test]
fn deletions_outside_of_pending_are_refused() {
    let (config, warnings) = parse("delete: net2\n");
    assert!(config.pending_deletes.is_empty());
    assert_eq!(warnings, ["vm 105 - property 'delete' is only allowed in [PENDING]"]);
}

#[test]
fn forced_deletions_carry_a_mark() {
    let deletes = PendingDeletes::parse("!scsi3, net2;;");
    assert_eq!(deletes.iter().collect::<Vec<_>>(), [("net2", false), ("scsi3", true)]);
    let deletes: PendingDeletes = [("b".to_owned(), true), ("a".to_owned(), false)].into_iter().collect();
    assert_eq!(deletes.to_string(), "a,!b");
}

#[test]
fn pending_changes_without_effect_go_away() {
    let (mut config, _) = parse("memory: 1\n\n[PENDING]\nmemory: 1\ndelete: cores\n");
    assert!(config.clean_pending());
    assert!(!config.has_pending());
    assert_eq!(config.print(), "memory: 1\n");
    assert!(!config.clean_pending());
}

#[test]
fn the_pending_list_shows_both_sides() {
    let (config, _) = parse("memory: 512\ncores: 2\n\n[PENDING]\ncores: 4\nname: x\ndelete: !memory\n");
    let rows: Vec<_> = config
        .pending_items()
        .into_iter()
        .map(|item| (item.key, item.value, item.pending, item.delete))
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        rows,
        [
            ("cores".to_owned(), some("2"), some("4"), None),
            ("memory".to_owned(), some("512"), None, Some(true)),
            ("name".to_owned(), None, some("x"), None),
        ]
    );
    let effective = config.effective();
    assert_eq!(effective.iter().collect::<Vec<_>>(), [("cores", "4"), ("name", "x")]);
}

#[test]
fn only_the_owner_of_a_lock_removes_it() {
    let (mut config, _) = parse("lock: backup\n");
    assert_eq!(config.check_lock().unwrap_err().to_string(), "VM is locked (backup)");
    assert_eq!(
        config.remove_lock("clone").unwrap_err().to_string(),
        "found lock 'backup' trying to remove 'clone' lock"
    );
    config.remove_lock("backup").unwrap();
    assert_eq!(
        config.remove_lock("backup").unwrap_err().to_string(),
        "no lock found trying to remove 'backup'  lock"
    );
    config.set_lock("clone").unwrap();
    assert!(config.set_lock("backup").is_err());
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_a_config(raw in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        let _ = GuestConfig::parse(&Rules, vmid(), &raw);
    }

    #[test]
    fn printing_is_stable(text in "(\\[[a-zA-Z!:]{0,9}\\]\n|[a-z#\\[]{0,6}:? ?[a-z0-9!,%]{0,5}\n){0,12}") {
        let once = parse(&text).0.print();
        let twice = parse(&once).0.print();
        proptest::prop_assert_eq!(once, twice);
    }

    #[test]
    fn canonical_files_survive_as_they_are(
        cores in 1u32..64, onboot in 0u8..2, pending in 1u32..9, description in "[ -~]{1,20}[!-~]",
    ) {
        let line = pve_schema::text::encode(&description);
        let text = format!(
            "#{line}\ncores: {cores}\nonboot: {onboot}\n\n[PENDING]\ncores: {pending}\n\n[snap]\n#{line}\ncores: 1\n"
        );
        proptest::prop_assert_eq!(parse(&text).0.print(), text);
    }
}
