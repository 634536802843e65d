//! `storage.cfg` (reference 08, vector V4).
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::Lab;
use proptest::prelude::*;
use pve_storage::{Content, StorageConfig, StorageFile, StorageKind};

fn parse(lab: &Lab, text: &str) -> StorageFile {
    StorageFile::parse(text.as_bytes(), &lab.context.site)
}

fn get<'a>(file: &'a StorageFile, id: &str) -> &'a StorageConfig {
    file.get(&id.parse().unwrap()).unwrap()
}

const V4: &str = "dir: local\n\tpath /var/lib/vz\n\tcontent iso,vztmpl,backup\n\tnodes n1\n\n# c\nLVMthin: fast\n\
    \tthinpool data\n\tvgname vg0\n\tcontent rootdir,images\n\nnfs: nas\n\texport /x\n\tpath /mnt/pve/nas\n\
    \tserver 192.0.2.9\n\tnodes n2,n1\n\tprune-backups keep-last=3,keep-daily=7\n\tdisable\n\nzfspool: tank\n\
    \tpool tank/vm\n\tsparse\n\tblocksize 16k\n";

#[test]
fn sections_are_read_and_fixed_up() {
    let lab = Lab::new("");
    let file = parse(&lab, V4);
    assert_eq!(file.digest(), "a39acf19020ee2c344d7d39daabf5075939f953b");
    assert_eq!(file.warnings(), [""; 0]);
    let local = get(&file, "local");
    assert_eq!(local.nodes(), None);
    assert_eq!(local.path().unwrap(), lab.context.site.path("/var/lib/vz"));
    assert_eq!(get(&file, "fast").kind, StorageKind::Lvmthin);
    let nas = get(&file, "nas");
    assert_eq!(nas.content(), [Content::Images].into());
    assert!(nas.is_shared() && nas.is_disabled());
    let tank = get(&file, "tank");
    assert_eq!(tank.content(), [Content::Images, Content::Rootdir].into());
    assert!(tank.flag("sparse"));
}

#[test]
fn sections_are_written_sorted() {
    let lab = Lab::new("");
    let text = parse(&lab, V4).to_text().unwrap();
    let expected = "dir: local\n\tpath /var/lib/vz\n\tcontent backup,iso,vztmpl\n\n# c\nlvmthin: fast\n\tthinpool data\n\
        \tvgname vg0\n\tcontent images,rootdir\n\nnfs: nas\n\tdisable\n\texport /x\n\tpath /mnt/pve/nas\n\
        \tserver 192.0.2.9\n\tcontent images\n\tnodes n1,n2\n\tprune-backups keep-daily=7,keep-last=3\n\n\
        zfspool: tank\n\tpool tank/vm\n\tblocksize 16k\n\tcontent images,rootdir\n\tsparse 1\n\n";
    assert_eq!(text, expected);
    assert_eq!(parse(&lab, &text).to_text().unwrap(), text);
}

#[test]
fn the_local_storage_is_always_there() {
    let lab = Lab::new("");
    for text in [
        "",
        "dir: local\n\tpath /other\n\tcontent iso\n",
        "dir: local\n\tcontent iso\n",
        "nfs: local\n\tserver x\n\texport /y\n",
    ] {
        let file = parse(&lab, text);
        let all: Vec<_> = file.iter().collect();
        assert_eq!(all.len(), 1, "{text}");
        assert_eq!(all[0].get("content"), Some("backup,images,iso,rootdir,snippets,vztmpl"));
        assert_eq!(all[0].get("prune-backups"), Some("keep-all=1"));
        assert!(file.to_text().unwrap().starts_with("dir: local\n\tpath /var/lib/vz\n"));
    }
    let file = parse(&lab, "dir: d1\n\tpath /srv/d1\n");
    let ids: Vec<_> = file.iter().map(|config| config.id.to_string()).collect();
    assert_eq!(ids, ["local", "d1"]);
}

#[test]
fn what_cannot_be_understood_is_left_out_with_a_warning() {
    let lab = Lab::new("");
    // Section, warning, option that is looked at and its value.
    let vectors = [
        (
            "dir: 1bad\n\tpath /x",
            "(skip section '1bad'): storage ID '1bad' contains illegal characters",
            None,
        ),
        (
            "dir: b\n\tpath /x",
            "(skip section 'b'): storage ID 'b' cannot be shorter than 2 characters",
            None,
        ),
        (
            "dir: d1\n\tshared",
            "(skip section 'd1'): missing value for required option 'path'",
            None,
        ),
        (
            "dir: d1\n\tpath /srv/../d 1",
            "(skip section 'd1'): illegal path for directory storage: /srv/../d 1",
            None,
        ),
        (
            "foo: bar\n\tpath /x",
            "(skip section 'bar'): unsupported type 'foo'",
            None,
        ),
        (
            "dir: d1\n\tpath /x\n\tpath /y",
            "unable to parse value of 'path': duplicate attribute",
            Some(("path", "/x")),
        ),
        (
            "dir: d1\n\tpath /x\n\tbogus 1",
            "unable to parse value of 'bogus': unknown property type",
            Some(("path", "/x")),
        ),
        (
            "dir: d1\n\tpath /x\n\tserver y",
            "unable to parse value of 'server': unexpected property 'server'",
            Some(("path", "/x")),
        ),
        (
            "dir: d1\n\tpath /x\n\tcontent images,foo",
            "unable to parse value of 'content': invalid format - invalid content type 'foo'",
            Some(("content", "images,rootdir")),
        ),
        (
            "dir: d1\n\tpath /x\n\tshared yes",
            "unable to parse value of 'shared': type check ('boolean') failed - got 'yes'",
            Some(("shared", "")),
        ),
        (
            "dir: d1\n\tpath /x\n\tprune-backups keep-all=1,keep-last=2",
            "keep-all cannot be set together with other options.",
            Some(("prune-backups", "")),
        ),
        (
            "dir: d1\n\tpath /x\n\n\tshared 1",
            "- ignore config line: \tshared 1",
            Some(("shared", "")),
        ),
    ];
    for (text, warning, option) in vectors {
        let file = parse(&lab, &format!("{text}\n"));
        let [found] = file.warnings() else {
            panic!("{text}: {:?}", file.warnings())
        };
        assert!(
            found.starts_with("file storage.cfg line ") && found.ends_with(warning),
            "{found}"
        );
        let section = file.iter().find(|config| config.id.as_str() != "local");
        match option {
            None => assert!(section.is_none(), "{text}"),
            Some((option, value)) => assert_eq!(section.unwrap().get(option).unwrap_or_default(), value, "{text}"),
        }
    }
}

#[test]
fn spellings_that_are_accepted() {
    let lab = Lab::new("");
    let d1 = |text: &str| get(&parse(&lab, text), "d1").clone();
    assert_eq!(d1("dir: d1\n\tpath /srv/d1/\n").get("path"), Some("/srv/d1"));
    let config = d1("dir:d1\n  path   /srv/d1  \n\tdisable 0\n\tshared\n");
    assert_eq!((config.is_disabled(), config.is_shared()), (false, true));
    let written = parse(&lab, "dir: d1\n\tpath /x\n\tdisable 0\n").to_text().unwrap();
    assert!(!written.contains("disable"), "{written}");
    // A blank before the header is no section.
    assert_eq!(parse(&lab, " dir: d1\n\tpath /x\n").iter().count(), 1);
    // The later of two sections of one name counts, and takes its place.
    let file = parse(&lab, "dir: d1\n\tpath /x\n\ndir: d2\n\tpath /y\n\ndir: d1\n\tpath /z\n");
    let ids: Vec<_> = file.iter().map(|config| config.id.to_string()).collect();
    assert_eq!(ids, ["local", "d2", "d1"]);
    assert_eq!(get(&file, "d1").get("path"), Some("/z"));
}

#[test]
fn a_rewrite_keeps_comments_and_what_nobody_understands() {
    let lab = Lab::new("");
    let text = "# first\ndir: local\n\t# inside\n\tpath /var/lib/vz\n\tcontent iso\n\tbogus 1 2\n\n\
        # of somebody else\nmyplugin: own\n\thost a:b\n\t# and why\n\n# last\n";
    let file = parse(&lab, text);
    assert_eq!((file.warnings().len(), file.iter().count()), (2, 1));
    assert_eq!(file.to_text().unwrap(), text);
}

proptest! {
    /// Whatever the bytes: no panic, `local` is there, and what was understood is understood again.
    #[test]
    fn any_file_is_read(bytes in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        "((dir|nfs|lvm|x): ?[a-z1 ]{0,3}\n|\t?(path|content|shared|nodes|#|server|export) ?[a-z/,=1 ]{0,6}\n|\n){0,12}"
            .prop_map(String::into_bytes),
    ]) {
        let lab = Lab::new("");
        let file = StorageFile::parse(&bytes, &lab.context.site);
        prop_assert!(file.get(&"local".parse().unwrap()).is_some());
        let text = file.to_text().unwrap();
        prop_assert_eq!(parse(&lab, &text).to_text().unwrap(), text);
    }
}
