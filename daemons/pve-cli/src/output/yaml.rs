//! YAML, as far as JSON values need it: block style, keys sorted, texts quoted as in JSON where they could be taken for
//! something else. No crate writes it that is still kept up.

use serde_json::Value;

/// Words that some parser takes for a boolean or nothing.
const WORDS: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"];

/// A document of its own.
pub(super) fn document(value: &Value) -> String {
    match block(value, 0) {
        Some(block) => format!("---\n{block}"),
        None => format!("--- {}\n", flow(value)),
    }
}

/// Without the mark of a document.
pub(super) fn text(value: &Value) -> String {
    block(value, 0).unwrap_or_else(|| format!("{}\n", flow(value)))
}

/// What stands on lines of its own; scalars and what is empty does not.
fn block(value: &Value, level: usize) -> Option<String> {
    let indent = "  ".repeat(level);
    match value {
        Value::Array(items) if !items.is_empty() => {
            let lines = items.iter().map(|item| match block(item, level + 1) {
                // The first line moves up behind the dash, which is as wide as an indent.
                Some(block) => format!("{indent}- {}", block.trim_start_matches(' ')),
                None => format!("{indent}- {}\n", flow(item)),
            });
            Some(lines.collect())
        }
        Value::Object(object) if !object.is_empty() => {
            let mut members: Vec<_> = object.iter().collect();
            members.sort_by_key(|(name, _)| name.as_str());
            let lines = members.into_iter().map(|(name, value)| {
                // A list may stand below its key without an indent.
                let below = if value.is_array() { level } else { level + 1 };
                match block(value, below) {
                    Some(block) => format!("{indent}{}:\n{block}", scalar(name)),
                    None => format!("{indent}{}: {}\n", scalar(name), flow(value)),
                }
            });
            Some(lines.collect())
        }
        _ => None,
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        // Numbers, true, false, null, [] and {} are the same in JSON.
        other => other.to_string(),
    }
}

fn scalar(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut out = String::new();
    for character in Value::String(text.to_owned()).to_string().chars() {
        match u32::from(character) {
            // JSON may hold these as they are.
            code @ 0x7f..0xa0 => out.push_str(&format!("\\u{code:04x}")),
            _ => out.push(character),
        }
    }
    out
}

/// Whether a text can be nothing but a text.
fn is_plain(text: &str) -> bool {
    let begins_well = text.starts_with(|first: char| first.is_ascii_alphabetic() || matches!(first, '/' | '_'));
    let inner = |c: char| c.is_ascii_alphanumeric() || " /_.@+-,;=()!".contains(c);
    begins_well
        && text.chars().all(inner)
        && !text.ends_with(' ')
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_yaml() {
        let value = json!([
            {"userid": "root@pam", "enable": 1, "comment": "", "tokens": [{"tokenid": "t", "privsep": 0}], "groups": []},
            {"a": {"b": {"c": null}}, "on": "1"},
            "x: y", [1, [2]], {},
        ]);
        let expected = "\
---
- comment: \"\"
  enable: 1
  groups: []
  tokens:
  - privsep: 0
    tokenid: t
  userid: root@pam
- a:
    b:
      c: null
  \"on\": \"1\"
- \"x: y\"
- - 1
  - - 2
- {}
";
        assert_eq!(document(&value), expected);
        assert_eq!(document(&json!("a b")), "--- a b\n");
        assert_eq!(
            document(&json!(["~", "-x", "#", "1e3", "a #b", "é", "x "]))
                .matches('"')
                .count(),
            14
        );
        assert_eq!(text(&json!({"a": {"b": "c\nd"}})), "a:\n  b: \"c\\nd\"\n");
        assert_eq!(text(&json!("a\u{9b}b")), "\"a\\u009bb\"\n");
    }
}
