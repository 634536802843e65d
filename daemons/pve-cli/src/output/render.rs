//! One value as text.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pve_schema::schema::Renderer;
use serde_json::Value;

use super::{json, yaml};

/// A value as text: scalars as they are, what is nested in JSON; with a renderer, as that shows it.
pub(super) fn text(value: &Value, renderer: Option<Renderer>) -> String {
    let plain = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(on) => u8::from(*on).to_string(),
        Value::Number(number) => number.to_string(),
        Value::Array(_) | Value::Object(_) => {
            return match renderer {
                Some(Renderer::Yaml) => yaml::text(value),
                _ => json::line(value).trim_end().to_owned(),
            };
        }
    };
    renderer
        .and_then(|renderer| rendered(&plain, renderer))
        .unwrap_or(plain)
}

/// A number as people read it; what is none is left as it is.
fn rendered(text: &str, renderer: Renderer) -> Option<String> {
    let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
    match renderer {
        Renderer::Bytes => Some(bytes(number)),
        Renderer::Duration => Some(duration(number)),
        Renderer::Timestamp => time(number, TimeZone::system()),
        Renderer::TimestampGmt => time(number, TimeZone::UTC),
        Renderer::Percentage => Some(format!("{:.2}%", number * 100.0)),
        Renderer::Yaml => None,
    }
}

fn bytes(number: f64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut number = number;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while number.abs() >= 1024.0 {
        let Some(next) = units.next() else { break };
        unit = Some(next);
        number /= 1024.0;
    }
    format!("{number:.2} {}", unit.copied().unwrap_or_default())
}

/// Days, hours, minutes and seconds, without those that are none.
fn duration(number: f64) -> String {
    // What is beyond the range is the range's end, which is as good.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let mut left = number.max(0.0) as u64;
    let mut parts = Vec::new();
    for (seconds, unit) in [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")] {
        if left >= seconds {
            parts.push(format!("{}{unit}", left / seconds));
            left %= seconds;
        }
    }
    if parts.is_empty() {
        parts.push("0s".to_owned());
    }
    parts.join(" ")
}

fn time(number: f64, zone: TimeZone) -> Option<String> {
    #[allow(clippy::cast_possible_truncation)]
    let time = Timestamp::from_second(number as i64).ok()?;
    Some(time.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Reference 03 §7, the table of renderers.
    #[test]
    fn values_are_rendered() {
        for (renderer, value, expected) in [
            (Renderer::Bytes, json!(1536), "1.50 KiB"),
            (Renderer::Bytes, json!(512), "512.00 B"),
            (Renderer::Bytes, json!("1099511627776"), "1.00 TiB"),
            (Renderer::Bytes, json!("-"), "-"),
            (Renderer::Duration, json!(90061), "1d 1h 1m 1s"),
            (Renderer::Duration, json!(0), "0s"),
            (Renderer::Duration, json!(3600), "1h"),
            (Renderer::TimestampGmt, json!(1_700_000_000), "2023-11-14 22:13:20"),
            (Renderer::Percentage, json!(0.12345), "12.35%"),
            (Renderer::Yaml, json!({"a": [1]}), "a:\n- 1\n"),
        ] {
            assert_eq!(text(&value, Some(renderer)), expected, "{renderer:?} {value}");
        }
        let local = text(&json!(1_700_000_000), Some(Renderer::Timestamp));
        assert_eq!((local.len(), local.get(..5)), (19, Some("2023-")));
    }

    #[test]
    fn what_is_nested_is_json() {
        assert_eq!(text(&json!({"b": 1, "a": ["x"]}), None), r#"{"a":["x"],"b":1}"#);
        assert_eq!(text(&json!(false), None), "0");
    }
}
