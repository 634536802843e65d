//! The rules of containers' configs for the reader and writer of config files (reference 07 §1.1).

use pve_guest::rules::{Checked, RawLine, check_scalar};
use pve_guest::{GuestConfig, GuestKind, KeyRules};
use pve_schema::schema::Kind;

use super::{keys, raw};

/// The rules of containers' configs.
#[derive(Debug, Clone, Copy)]
pub struct ContainerRules;

impl KeyRules for ContainerRules {
    fn kind(&self) -> GuestKind {
        GuestKind::Lxc
    }

    /// As weakly as upstream does for a file: the type and the format, no limits, words or patterns.
    fn check(&self, key: &str, value: &str) -> Result<Checked, String> {
        let kind = keys::kind(key).ok_or_else(|| format!("unknown setting '{key}'"))?;
        if kind == Kind::String {
            keys::check_format(key, value)?;
        }
        Ok(Checked {
            key: key.to_owned(),
            value: check_scalar(kind, value)?,
        })
    }

    fn raw_line(&self, line: &str) -> RawLine {
        raw::read(line)
    }

    /// A volume that is mounted is not unused any more, and what is no key is not written.
    fn before_write(&self, config: &mut GuestConfig) -> Result<(), String> {
        let sections = [&mut config.main, &mut config.pending].into_iter();
        for section in sections.chain(config.snapshots.values_mut()) {
            let names = section.names().filter(|name| keys::is_reserved(name));
            for name in names.map(str::to_owned).collect::<Vec<_>>() {
                section.remove(&name);
            }
        }
        let is_mount = |key: &str| {
            let number = key.strip_prefix("mp");
            key == "rootfs" || number.is_some_and(|number| number.parse::<u8>().is_ok())
        };
        let sections = [&config.main, &config.pending].into_iter();
        let mounts = sections
            .flat_map(|section| section.iter())
            .filter(|(key, _)| is_mount(key));
        let used: Vec<String> = mounts.map(|(_, text)| volume(text)).collect();
        let unused: Vec<String> = config
            .main
            .iter()
            .filter(|(key, text)| key.starts_with("unused") && used.contains(&volume(text)))
            .map(|(key, _)| key.to_owned())
            .collect();
        for key in unused {
            config.main.remove(&key);
        }
        Ok(())
    }
}

/// The volume of a mount: the part that has no name, or the one that is called so.
fn volume(text: &str) -> String {
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let volume = text.split(',').find_map(|part| match part.split_once('=') {
        Some(("volume", volume)) => Some(volume),
        Some((name, _)) if is_name(name) => None,
        _ => Some(part),
    });
    volume.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use pve_guest::GuestConfig;

    use super::*;

    /// Reference 07, T1. Lines that upstream drops stay where they are.
    const FILE: &str = "#first%3A line\n# second\narch: amd64\ncores: 2\n\
        mp0: tank:subvol-812-disk-1,mp=/data,backup=1,size=1G\nlxc.idmap = u 0 100000 65536\n\
        lxc.mount.entry: /a b none bind 0 0\nlxc.foo: 1\nlxc.rootfs.path: /x\nlxc.environment.runtime: A=1\n\
        lxc.environment.runtime: B=2\nbogus: 1\nonboot: yes\nmemory: abc\nparent: snap1\nsnapstate: delete\n\n\
        [pve:pending]\nmemory: 2048\ndelete: net1,swap\n\n[snap1]\n#desc\narch: amd64\nsnaptime: 1770000000\n";
    const WRITTEN: &str = "#first%3A line\n# second\narch: amd64\nbogus: 1\ncores: 2\nmemory: abc\n\
        mp0: tank:subvol-812-disk-1,mp=/data,backup=1,size=1G\nlxc.foo: 1\nlxc.rootfs.path: /x\nonboot: 1\n\
        parent: snap1\nlxc.environment.runtime: A=1\nlxc.environment.runtime: B=2\nlxc.idmap: u 0 100000 65536\n\
        lxc.mount.entry: /a b none bind 0 0\n\n[pve:pending]\ndelete: net1,swap\nmemory: 2048\n\n\
        [snap1]\n#desc\narch: amd64\nsnaptime: 1770000000\n";

    #[test]
    fn a_file_is_read_and_written_as_upstream_does() {
        let parsed = GuestConfig::parse(&ContainerRules, "812".parse().unwrap(), FILE.as_bytes());
        let warnings: Vec<String> = parsed.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [
                "vm 812 - unable to parse config: lxc.foo: 1",
                "vm 812 - unable to parse config: lxc.rootfs.path: /x",
                "vm 812 - unable to parse value of 'bogus' - unknown setting 'bogus'",
                "vm 812 - unable to parse value of 'memory' - type check ('integer') failed - got 'abc'",
            ]
        );
        let config = parsed.config;
        let main = &config.main;
        for (key, value) in [
            ("description", "first: line\n second\n"),
            ("env", "A=1\0B=2"),
            ("onboot", "1"),
            ("bogus", "1"),
            ("memory", "abc"),
        ] {
            assert_eq!(main.get(key), Some(value), "{key}");
        }
        assert!(!main.has("snapstate"));
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let raw = [
            pair("lxc.idmap", "u 0 100000 65536"),
            pair("lxc.mount.entry", "/a b none bind 0 0"),
        ];
        assert_eq!(main.raw, raw);
        assert_eq!(config.pending.get("memory"), Some("2048"));
        assert_eq!(config.pending_deletes.to_string(), "net1,swap");
        assert_eq!(config.snapshots["snap1"].get("description"), Some("desc\n"));

        assert_eq!(config.print(), WRITTEN);
        let again = GuestConfig::parse(&ContainerRules, "812".parse().unwrap(), WRITTEN.as_bytes());
        assert_eq!(again.config.print(), WRITTEN);
    }

    #[test]
    fn deletions_belong_to_pending_changes() {
        let text = "delete: net1\n[PENDING]\ncores: 1\na-b: 1\n";
        let parsed = GuestConfig::parse(&ContainerRules, "812".parse().unwrap(), text.as_bytes());
        let warnings: Vec<String> = parsed.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [
                "vm 812 - property 'delete' is only allowed in [pve:pending]",
                "vm 812 - unable to parse config: a-b: 1"
            ]
        );
        assert!(
            parsed.config.snapshots.contains_key("PENDING"),
            "a snapshot's name like any other"
        );
    }

    #[test]
    fn volumes_in_use_are_not_listed_as_unused() {
        let text = "mp1: l:812/a.raw,mp=/a\nrootfs: l:812/r.raw,size=1G\nunused0: l:812/a.raw\nunused1: l:812/b.raw\n";
        let mut config = GuestConfig::parse(&ContainerRules, "812".parse().unwrap(), text.as_bytes()).config;
        ContainerRules.before_write(&mut config).unwrap();
        assert_eq!(config.print(), text.replace("unused0: l:812/a.raw\n", ""));
    }

    #[test]
    fn a_mounts_volume_may_stand_anywhere_and_have_a_name() {
        for (text, expected) in [
            ("l:812/a.raw,mp=/a", "l:812/a.raw"),
            ("mp=/a,volume=l:812/a.raw,ro=1", "l:812/a.raw"),
            ("mp=/a,l:812/a=b.raw", "l:812/a=b.raw"),
            ("mp=/a", ""),
        ] {
            assert_eq!(volume(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_not_written() {
        let text = "cores: 1\nsnapshots: x\n\n[pve:pending]\ncores: 2\ndigest: x\n\n[s1]\ncores: 3\nsnapname: s1\n";
        let mut config = GuestConfig::parse(&ContainerRules, "812".parse().unwrap(), text.as_bytes()).config;
        ContainerRules.before_write(&mut config).unwrap();
        let written = "cores: 1\n\n[pve:pending]\ncores: 2\n\n[s1]\ncores: 3\n";
        assert_eq!(config.print(), written);
    }

    proptest::proptest! {
        #[test]
        fn any_file_is_read_and_what_is_written_is_read_the_same(
            text in "(?s)([a-z0-9:=#%. \\[\\]\\n-]|lxc\\.|net0: |env|memory: |pve:pending){0,60}"
        ) {
            let parse = |text: &str| GuestConfig::parse(&ContainerRules, "812".parse().unwrap(), text.as_bytes()).config;
            let written = parse(&text).print();
            proptest::prop_assert_eq!(parse(&written).print(), written);
        }
    }
}
