//! What has changed since the cloud-init drive was made: `[special:cloudinit]` (reference 06a §8).

use pve_guest::{GuestConfig, Section};
use pve_schema::list;

/// The keys that go into the drive; network cards besides.
const KEYS: [&str; 10] = [
    "cicustom",
    "cipassword",
    "citype",
    "ciupgrade",
    "ciuser",
    "name",
    "nameserver",
    "searchdomain",
    "sshkeys",
    "ipconfig",
];

/// The keys that did not exist when the drive was made.
const ADDED: &str = "added";

fn is_relevant(key: &str) -> bool {
    let family = key.trim_end_matches(|c: char| c.is_ascii_digit());
    KEYS.contains(&family) || (family == "net" && family != key)
}

/// Notes that a key of the main section is about to change. The first change keeps the value that is on the drive;
/// setting it back forgets it.
pub(super) fn record(config: &mut GuestConfig, key: &str, new: Option<&str>) {
    if !is_relevant(key) {
        return;
    }
    let old = config.main.get(key).map(str::to_owned);
    if old.as_deref() == new {
        return;
    }
    let section = config.special.entry("cloudinit".to_owned()).or_default();
    let mut added: Vec<String> = list::split(section.get(ADDED).unwrap_or_default())
        .into_iter()
        .map(str::to_owned)
        .collect();
    if let Some(place) = added.iter().position(|name| name == key) {
        if new.is_none() {
            added.remove(place);
        }
    } else if let Some(recorded) = section.get(key).map(str::to_owned) {
        if new == Some(recorded.as_str()) {
            section.remove(key);
        }
    } else {
        match old {
            Some(old) => section.set(key, old),
            None => added.push(key.to_owned()),
        }
    }
    store_added(section, added);
    if section.is_empty() {
        config.special.remove("cloudinit");
    }
}

fn store_added(section: &mut Section, mut added: Vec<String>) {
    added.sort();
    if added.is_empty() {
        section.remove(ADDED);
    } else {
        section.set(ADDED, added.join(","));
    }
}

#[cfg(test)]
mod tests {
    use pve_guest::GuestKind;

    use super::*;

    fn change(config: &mut GuestConfig, key: &str, new: Option<&str>) -> String {
        record(config, key, new);
        match new {
            Some(value) => config.main.set(key, value),
            None => drop(config.main.remove(key)),
        }
        let Some(section) = config.special.get("cloudinit") else {
            return String::new();
        };
        section
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn the_record_holds_what_is_on_the_drive() {
        let mut config = GuestConfig::new(GuestKind::Qemu);
        config.main.set("ciuser", "a");
        assert_eq!(change(&mut config, "cores", Some("2")), "");
        assert_eq!(change(&mut config, "ciuser", Some("b")), "ciuser=a");
        assert_eq!(change(&mut config, "ciuser", Some("c")), "ciuser=a");
        assert_eq!(change(&mut config, "name", Some("x")), "added=name ciuser=a");
        assert_eq!(change(&mut config, "ciuser", Some("a")), "added=name");
        assert_eq!(change(&mut config, "name", None), "");
        assert_eq!(change(&mut config, "ciuser", None), "ciuser=a");
    }
}
