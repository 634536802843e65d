//! How answers about the node are printed.

use pve_schema::text;
use serde_json::{Map, Value};

use crate::api::{Shown, for_people};
use crate::output::{Style, lines_of};

/// The settings as the file has them: the description as encoded lines with `#`, then `key: value`.
pub(super) fn config(data: Value, style: &Style) -> Shown {
    for_people(style, data, |data| {
        let empty = Map::new();
        let object = data.as_object().unwrap_or(&empty);
        let description = object.get("description").and_then(Value::as_str).unwrap_or_default();
        let mut text = text::encode_lines(description);
        let others = object
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "description" | "digest"));
        text.push_str(&lines_of(others));
        text
    })
}

/// The lines of a log.
pub(super) fn log(data: Value, style: &Style) -> Shown {
    for_people(style, data, |data| {
        let rows = data.as_array().into_iter().flatten();
        rows.filter_map(|row| row.get("t")?.as_str())
            .map(|line| format!("{line}\n"))
            .collect()
    })
}

/// The address of the card that was woken.
pub(super) fn woken(data: Value, style: &Style) -> Shown {
    for_people(style, data, |data| {
        format!("Wake on LAN packet send for '{}'\n", data.as_str().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::output::Screen;

    #[test]
    fn settings_are_printed_as_the_file_has_them() {
        let data = json!({"digest": "d", "wakeonlan": "02:00:00:00:00:01", "description": " hello :\n50%25 ü\n", "acme": "domains=a.example"});
        let text = config(data, &Style::new(Screen::default())).into_text();
        assert_eq!(
            text,
            "# hello %3A\n#50%2525 %C3%BC\nacme: domains=a.example\nwakeonlan: 02:00:00:00:00:01\n"
        );
    }
}
