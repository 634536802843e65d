//! The rules of VM configs for the reader and writer of config files (reference 06a §2).

use std::collections::BTreeSet;

use pve_guest::rules::{Checked, check_scalar};
use pve_guest::{GuestConfig, GuestKind, KeyRules, Section};
use pve_schema::schema::Kind;

use super::drive::Drive;
use super::drive_key::DriveKey;
use super::keys;
use super::view::VmConfig;

/// The rules of VM configs.
#[derive(Debug, Clone, Copy)]
pub struct VmRules;

impl KeyRules for VmRules {
    fn kind(&self) -> GuestKind {
        GuestKind::Qemu
    }

    fn check(&self, key: &str, value: &str) -> Result<Checked, String> {
        let key = if key == "cdrom" { "ide2" } else { key };
        if keys::info(key).is_none() {
            return Err(format!("unknown setting '{key}'"));
        }
        Ok(Checked {
            key: key.to_owned(),
            value: check_value(key, value)?,
        })
    }

    fn before_write(&self, config: &mut GuestConfig) -> Result<(), String> {
        convert_smp(&mut config.main);
        drop_used_volumes(config);
        if VmConfig::new(&config.main).cloudinit_drive().is_none() {
            config.special.remove("cloudinit");
        }
        Ok(())
    }
}

/// Checks a value as weakly as upstream does for a file: the type and the format, no limits, words or patterns.
fn check_value(key: &str, value: &str) -> Result<String, String> {
    match keys::kind(key) {
        Kind::String if keys::has_format(key) => keys::check_format(key, value).map(|()| value.to_owned()),
        Kind::String => Ok(unquoted(value).to_owned()),
        kind => check_scalar(kind, value),
    }
}

/// The text without one pair of surrounding double quotes.
fn unquoted(text: &str) -> &str {
    text.strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text)
}

/// `smp` of old configs is the number of sockets.
fn convert_smp(main: &mut Section) {
    let Some(smp) = main.remove("smp") else { return };
    if !main.has("sockets") {
        main.set("sockets", smp);
        main.remove("cores");
    }
}

/// A volume that a drive uses again is not unused any more.
fn drop_used_volumes(config: &mut GuestConfig) {
    let used: BTreeSet<String> = [&config.main, &config.pending]
        .into_iter()
        .flat_map(|section| VmConfig::new(section).drives())
        .map(|drive| drive.file)
        .collect();
    for key in DriveKey::all_unused() {
        let key_text = key.to_string();
        let drive = config.main.get(&key_text).and_then(|text| Drive::parse(key, text).ok());
        if drive.is_some_and(|drive| used.contains(&drive.file)) {
            config.main.remove(&key_text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(text: &str) -> String {
        let mut config = GuestConfig::parse(&VmRules, "100".parse().unwrap(), text.as_bytes()).config;
        VmRules.before_write(&mut config).unwrap();
        config.print()
    }

    #[test]
    fn old_spellings_are_rewritten() {
        let cases = [
            ("cdrom: none,media=cdrom\n", "ide2: none,media=cdrom\n"),
            ("smp: 4\nsockets: 1\n", "sockets: 1\n"),
            ("cores: 2\nsmp: 4\n", "sockets: 4\n"),
            ("ciuser: \"web\"\n", "ciuser: web\n"),
            ("onboot: yes\n", "onboot: 1\n"),
        ];
        for (text, written) in cases {
            assert_eq!(rewrite(text), written);
        }
    }

    #[test]
    fn volumes_in_use_are_not_listed_as_unused() {
        let text = "scsi0: l-x:vm-100-disk-0,size=1G\nunused0: l-x:vm-100-disk-0\nunused1: l-x:vm-100-disk-1\n";
        assert_eq!(
            rewrite(text),
            "scsi0: l-x:vm-100-disk-0,size=1G\nunused1: l-x:vm-100-disk-1\n"
        );
    }

    #[test]
    fn cloud_init_records_go_with_the_drive() {
        let with = "ide2: l-x:vm-100-cloudinit,media=cdrom\n\n[special:cloudinit]\nciuser: a\n";
        assert_eq!(rewrite(with), with);
        assert_eq!(rewrite("\n[special:cloudinit]\nciuser: a\n"), "");
    }
}
