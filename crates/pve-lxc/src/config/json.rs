//! The config as the API shows it (reference 07 §12).

use pve_guest::{GuestConfig, GuestError, Section};
use pve_schema::schema::Kind;
use serde_json::{Map, Value, json};

use super::keys;

/// A value as JSON: whole numbers and booleans as numbers, everything else – `cpulimit`, too – as text.
pub fn value(key: &str, text: &str) -> Value {
    match keys::kind(key) {
        Some(Kind::Boolean | Kind::Integer) => text.parse::<i64>().map_or_else(|_| json!(text), Value::from),
        _ => json!(text),
    }
}

fn section(section: &Section, digest: &str) -> Map<String, Value> {
    let mut map: Map<String, Value> = section
        .iter()
        .filter(|(key, _)| !keys::is_reserved(key))
        .map(|(key, text)| (key.to_owned(), value(key, text)))
        .collect();
    if !section.raw.is_empty() {
        map.insert("lxc".to_owned(), json!(section.raw));
    }
    map.insert("digest".to_owned(), json!(digest));
    map
}

/// The config with all that is pending merged in.
pub fn effective(config: &GuestConfig) -> Map<String, Value> {
    section(&config.effective(), config.digest())
}

/// The config that the container runs with.
pub fn current(config: &GuestConfig) -> Map<String, Value> {
    section(&config.main, config.digest())
}

/// The config of a snapshot.
///
/// # Errors
/// `snapshot '…' does not exist`
pub fn snapshot(config: &GuestConfig, name: &str) -> Result<Map<String, Value>, GuestError> {
    Ok(section(config.snapshot(name)?, config.digest()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ContainerRules;

    #[test]
    fn lines_that_name_what_the_api_tells_are_not_shown() {
        let text = "cores: 1\ndigest: x\nlxc: y\npending: 1\nsnapname: s\nsnapshots: t\n";
        let config = GuestConfig::parse(&ContainerRules, "812".parse().unwrap(), text.as_bytes()).config;
        let expected = json!({ "cores": 1, "digest": config.digest() });
        assert_eq!(Value::Object(current(&config)), expected);
        assert_eq!(Value::Object(effective(&config)), expected);
    }

    #[test]
    fn numbers_are_numbers_and_lines_of_lxc_are_pairs() {
        let text = "#a\ncores: 2\ncpulimit: 1.5\nhostname: web\nmemory: 512\nonboot: 1\n\
            rootfs: local:812/vm-812-disk-0.raw,size=4G\nunprivileged: 1\nlxc.environment.runtime: A=1\n\
            lxc.environment.runtime: B=2\nlxc.idmap: u 0 1 1\n\n[pve:pending]\ncores: 4\ndelete: onboot\n\n[s1]\ncores: 1\n";
        let config = GuestConfig::parse(&ContainerRules, "812".parse().unwrap(), text.as_bytes()).config;
        let mut expected = json!({
            "description": "a\n", "cores": 2, "cpulimit": "1.5", "hostname": "web", "memory": 512, "onboot": 1,
            "rootfs": "local:812/vm-812-disk-0.raw,size=4G", "unprivileged": 1, "env": "A=1\0B=2",
            "lxc": [["lxc.idmap", "u 0 1 1"]], "digest": config.digest(),
        });
        assert_eq!(Value::Object(current(&config)), expected);
        expected["cores"] = 4.into();
        expected.as_object_mut().unwrap().remove("onboot");
        assert_eq!(Value::Object(effective(&config)), expected);
        let of_snapshot = snapshot(&config, "s1").unwrap();
        assert_eq!(
            Value::Object(of_snapshot),
            json!({"cores": 1, "digest": config.digest()})
        );
        assert!(snapshot(&config, "s2").is_err());
    }
}
