//! One entry of a journal: its cursor, and its line.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::Value;

/// The fields that a line is made of.
pub(super) const FIELDS: &str = "MESSAGE,SYSLOG_IDENTIFIER,_COMM,_PID,SYSLOG_PID,_HOSTNAME,_BOOT_ID";

/// The time zone in which lines are dated.
#[derive(Debug)]
pub(super) struct Zone(TimeZone);

impl Zone {
    /// The machine's.
    pub(super) fn system() -> Self {
        Self(TimeZone::system())
    }
}

/// One entry.
#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    /// Its place in the journal.
    #[serde(rename = "__CURSOR")]
    pub(super) cursor: String,
    /// Which run of the machine it is from.
    #[serde(rename = "_BOOT_ID", default)]
    pub(super) boot: Value,
    #[serde(rename = "__REALTIME_TIMESTAMP", default)]
    time: Value,
    #[serde(rename = "MESSAGE", default)]
    message: Value,
    #[serde(rename = "SYSLOG_IDENTIFIER", default)]
    identifier: Value,
    #[serde(rename = "_COMM", default)]
    command: Value,
    #[serde(rename = "_PID", default)]
    pid: Value,
    #[serde(rename = "SYSLOG_PID", default)]
    syslog_pid: Value,
    #[serde(rename = "_HOSTNAME", default)]
    host: Value,
}

impl Entry {
    /// `Mon DD HH:MM:SS HOST IDENT[PID]: MESSAGE`
    pub(super) fn line(&self, zone: &Zone) -> String {
        let microseconds = text(&self.time).parse().ok();
        let time = microseconds.and_then(|time| Timestamp::from_microsecond(time).ok());
        let date = time.map(|time| time.to_zoned(zone.0.clone()).strftime("%b %d %H:%M:%S").to_string());
        let identifier = first_of([&self.identifier, &self.command]).unwrap_or_else(|| "unknown".to_owned());
        let pid = first_of([&self.pid, &self.syslog_pid]);
        let pid = pid.map(|pid| format!("[{pid}]")).unwrap_or_default();
        format!(
            "{} {} {identifier}{pid}: {}",
            date.unwrap_or_default(),
            text(&self.host),
            text(&self.message)
        )
    }
}

/// The first field that says something.
fn first_of<const N: usize>(fields: [&Value; N]) -> Option<String> {
    fields.into_iter().map(text).find(|text| !text.is_empty())
}

/// A field as text: `journalctl` writes bytes that are no text as an array of numbers, and a field that is there more than
/// once as an array of its values.
fn text(field: &Value) -> String {
    match field {
        Value::String(text) => text.clone(),
        Value::Array(values) if values.iter().all(Value::is_u64) => {
            let bytes = values.iter().filter_map(Value::as_u64);
            let bytes: Vec<u8> = bytes.filter_map(|byte| u8::try_from(byte).ok()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        Value::Array(values) => values.first().map(text).unwrap_or_default(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_line() {
        let zone = Zone(TimeZone::UTC);
        for (fields, expected) in [
            (
                r#""MESSAGE":"hello","SYSLOG_IDENTIFIER":"sshd","_PID":"7""#,
                "Nov 14 22:13:20 n1 sshd[7]: hello",
            ),
            (r#""MESSAGE":"hello","_COMM":"cron""#, "Nov 14 22:13:20 n1 cron: hello"),
            (r#""MESSAGE":[104,105,255]"#, "Nov 14 22:13:20 n1 unknown: hi\u{fffd}"),
            (
                r#""MESSAGE":["one","two"],"SYSLOG_IDENTIFIER":"x","SYSLOG_PID":"9""#,
                "Nov 14 22:13:20 n1 x[9]: one",
            ),
            (r#""MESSAGE":null,"SYSLOG_IDENTIFIER":"x""#, "Nov 14 22:13:20 n1 x: "),
        ] {
            let json = format!(
                r#"{{"__CURSOR":"s=1;i=1","__REALTIME_TIMESTAMP":"1700000000000000","_HOSTNAME":"n1",{fields}}}"#
            );
            let entry: Entry = serde_json::from_str(&json).unwrap();
            assert_eq!(entry.line(&zone), expected);
        }
    }
}
