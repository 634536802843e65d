//! How lists and configurations are printed: as people's scripts read them.

use serde_json::{Map, Value};

use crate::api::{Shown, for_people};
use crate::output::{Style, lines_of};

/// One number in another unit.
#[expect(clippy::cast_precision_loss, reason = "sizes are shown with two digits")]
fn gibibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1u32 << 30)
}

/// A line for each VM, sorted by number.
pub(super) fn list(data: Value, style: &Style) -> Shown {
    for_people(style, data, |data| {
        let mut rows: Vec<&Value> = data.as_array().into_iter().flatten().collect();
        rows.sort_by_key(|row| number(row, "vmid"));
        if rows.is_empty() {
            return String::new();
        }
        let mut text = String::new();
        if style.header {
            text.push_str(&format!(
                "{:>10} {:<20} {:<10} {:<10} {:>12} {:<10}\n",
                "VMID", "NAME", "STATUS", "MEM(MB)", "BOOTDISK(GB)", "PID"
            ));
        }
        for row in rows {
            text.push_str(&format!(
                "{:>10} {:<20} {:<10} {:<10} {:>12.2} {:<10}\n",
                number(row, "vmid"),
                row.get("name").and_then(Value::as_str).unwrap_or("-"),
                status(row),
                number(row, "maxmem") >> 20,
                gibibytes(number(row, "maxdisk")),
                number(row, "pid"),
            ));
        }
        text
    })
}

fn number(row: &Value, key: &str) -> u64 {
    match row.get(key) {
        Some(Value::String(text)) => text.parse().unwrap_or_default(),
        Some(value) => value.as_u64().unwrap_or_default(),
        None => 0,
    }
}

/// What QEMU says, where it was asked, else whether it runs.
fn status(row: &Value) -> &str {
    let text = |key: &str| row.get(key).and_then(Value::as_str);
    text("qmpstatus").or_else(|| text("status")).unwrap_or("unknown")
}

/// `key: value`, sorted by key; the digest is for programs.
pub(super) fn config(data: Value, style: &Style) -> Shown {
    for_people(style, data, |data| {
        let empty = Map::new();
        let object = data.as_object().unwrap_or(&empty);
        lines_of(object.iter().filter(|(key, _)| *key != "digest"))
    })
}

/// `cur key: value`, `new key: value`, `del key`.
pub(super) fn pending(data: Value, style: &Style) -> Shown {
    for_people(style, data, |data| {
        let mut text = String::new();
        for row in data.as_array().into_iter().flatten() {
            let key = row.get("key").and_then(Value::as_str);
            let Some(key) = key.filter(|key| *key != "digest") else {
                continue;
            };
            if let Some(value) = row.get("value") {
                text.push_str("cur ");
                text.push_str(&lines_of([(key, value)]));
            }
            if let Some(value) = row.get("pending") {
                text.push_str("new ");
                text.push_str(&lines_of([(key, value)]));
            }
            if row.get("delete").is_some_and(|delete| delete.as_u64() != Some(0)) {
                text.push_str(&format!("del {key}\n"));
            }
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::output::Screen;

    #[test]
    fn lists_have_the_columns_that_scripts_read() {
        let data = json!([
            {"vmid": 1000, "status": "stopped", "maxmem": 536_870_912, "maxdisk": 0},
            {"vmid": 100, "name": "web", "status": "running", "maxmem": 2_147_483_648u64, "maxdisk": 34_359_738_368u64, "pid": 4711},
        ]);
        let style = Style::new(Screen::default());
        let expected = concat!(
            "      VMID NAME                 STATUS     MEM(MB)    BOOTDISK(GB) PID       \n",
            "       100 web                  running    2048              32.00 4711      \n",
            "      1000 -                    stopped    512                0.00 0         \n",
        );
        assert_eq!(list(data.clone(), &style).into_text(), expected);
        let bare = Style { header: false, ..style };
        assert_eq!(list(data, &bare).into_text().lines().count(), 2);
        assert_eq!(list(json!([]), &bare).into_text(), "");
    }

    #[test]
    fn configurations_are_a_key_in_a_line() {
        let style = Style::new(Screen::default());
        let data = json!({"name": "web", "memory": "512", "digest": "x", "onboot": 1, "description": "one\ntwo\n"});
        let expected = "description: one%0Atwo%0A\nmemory: 512\nname: web\nonboot: 1\n";
        assert_eq!(config(data, &style).into_text(), expected);
        let data = json!([
            {"key": "memory", "value": 512, "pending": 1024},
            {"key": "name", "value": "web", "delete": 1},
            {"key": "onboot", "pending": 1},
        ]);
        let expected = "cur memory: 512\nnew memory: 1024\ncur name: web\ndel name\nnew onboot: 1\n";
        assert_eq!(pending(data, &style).into_text(), expected);
    }
}
