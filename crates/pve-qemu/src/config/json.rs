//! The config as the API shows it (reference 06a §3, §4).

use pve_guest::{GuestConfig, GuestError, Section};
use pve_schema::schema::Kind;
use serde_json::{Map, Value, json};

use super::keys;

/// What stands for a password. The pending one carries a trailing blank.
const MASK: &str = "**********";

/// A value as JSON: whole numbers and booleans as numbers, everything else as text.
pub fn value(key: &str, text: &str) -> Value {
    match keys::kind(key) {
        _ if key == "cipassword" => json!(MASK),
        Kind::Boolean | Kind::Integer => text.parse::<i64>().map_or_else(|_| json!(text), Value::from),
        _ => json!(text),
    }
}

fn section(section: &Section, digest: &str) -> Value {
    let mut map: Map<String, Value> = section
        .iter()
        .map(|(key, text)| (key.to_owned(), value(key, text)))
        .collect();
    map.insert("digest".to_owned(), json!(digest));
    Value::Object(map)
}

/// The config with all that is pending merged in.
pub fn effective(config: &GuestConfig) -> Value {
    section(&config.effective(), config.digest())
}

/// The config that the guest runs with.
pub fn current(config: &GuestConfig) -> Value {
    section(&config.main, config.digest())
}

/// The config of a snapshot.
///
/// # Errors
/// `snapshot '…' does not exist`
pub fn snapshot(config: &GuestConfig, name: &str) -> Result<Value, GuestError> {
    Ok(section(config.snapshot(name)?, config.digest()))
}

/// The list of pending changes, the digest among the rows.
pub fn pending(config: &GuestConfig) -> Value {
    let mut rows: Vec<Value> = config.pending_items().into_iter().map(pending_row).collect();
    rows.push(json!({ "key": "digest", "value": config.digest() }));
    Value::Array(rows)
}

fn pending_row(item: pve_guest::PendingItem) -> Value {
    let mut row = Map::from_iter([("key".to_owned(), json!(item.key))]);
    if let Some(text) = &item.value {
        row.insert("value".to_owned(), value(&item.key, text));
    }
    if let Some(text) = &item.pending {
        let shown = if item.key == "cipassword" {
            json!(format!("{MASK} "))
        } else {
            value(&item.key, text)
        };
        row.insert("pending".to_owned(), shown);
    }
    if let Some(force) = item.delete {
        row.insert("delete".to_owned(), json!(if force { 2 } else { 1 }));
    }
    Value::Object(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VmRules;

    fn config(text: &str) -> GuestConfig {
        GuestConfig::parse(&VmRules, "100".parse().unwrap(), text.as_bytes()).config
    }

    #[test]
    fn whole_numbers_and_booleans_are_numbers() {
        let text = "cipassword: $5$x\ncores: 2\ncpulimit: 1.5\nmemory: 512\nmigrate_downtime: 1\nonboot: 1\n";
        let mut shown = current(&config(text));
        shown.as_object_mut().unwrap().remove("digest");
        let expected = json!({
            "cipassword": "**********", "cores": 2, "cpulimit": "1.5", "memory": "512",
            "migrate_downtime": "1", "onboot": 1,
        });
        assert_eq!(shown, expected);
    }

    #[test]
    fn pending_rows_show_both_values() {
        let config = config("cores: 2\nmemory: 512\n\n[PENDING]\ncipassword: x\ncores: 4\ndelete: !memory\n");
        let expected = json!([
            { "key": "cores", "value": 2, "pending": 4 },
            { "key": "memory", "value": "512", "delete": 2 },
            { "key": "cipassword", "pending": "********** " },
            { "key": "digest", "value": config.digest() },
        ]);
        assert_eq!(pending(&config), expected);
        assert_eq!(effective(&config)["cores"], json!(4));
        assert!(effective(&config).get("memory").is_none());
    }
}
