//! A figure as a metric.

use serde::Serialize;

use super::name::{self, unit};
use crate::servers::{sorted, value};
use crate::snapshot::Object;

/// Never told, at whatever depth: texts, and what is told as an attribute or in a metric of its own.
const SKIPPED: [&str; 12] = [
    "agent", "ctime", "name", "nics", "pid", "serial", "status", "storages", "tags", "template", "type", "vmid",
];
/// The protocol's number for sums since a start.
const CUMULATIVE: u8 = 2;

/// A label of a metric, or of who tells.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Attribute {
    key: String,
    value: Text,
}

#[derive(Debug, Clone, Serialize)]
struct Text {
    #[serde(rename = "stringValue")]
    string: String,
}

impl Attribute {
    pub(super) fn new(key: &str, text: &str) -> Self {
        Self {
            key: key.to_owned(),
            value: Text {
                string: text.to_owned(),
            },
        }
    }
}

#[derive(Serialize)]
struct Metric<'a> {
    name: &'a str,
    unit: &'static str,
    #[serde(flatten)]
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Data<'a> {
    Gauge {
        #[serde(rename = "dataPoints")]
        points: [Point<'a>; 1],
    },
    Sum {
        #[serde(rename = "dataPoints")]
        points: [Point<'a>; 1],
        #[serde(rename = "aggregationTemporality")]
        temporality: u8,
        #[serde(rename = "isMonotonic")]
        is_monotonic: bool,
    },
}

#[derive(Serialize)]
struct Point<'a> {
    #[serde(rename = "timeUnixNano")]
    time: i64,
    #[serde(flatten)]
    number: Number,
    attributes: &'a [Attribute],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Number {
    AsInt(i64),
    AsDouble(f64),
}

impl Number {
    /// The number that a text is; `None` for any other text.
    fn parse(text: &str) -> Option<Self> {
        if !value::is_scientific(text) {
            return None;
        }
        let whole = match text.contains(['.', 'e', 'E']) {
            true => None,
            // One that is larger than the protocol's whole numbers is told as nearly as a double can.
            false => text.parse().ok(),
        };
        match whole {
            Some(whole) => Some(Self::AsInt(whole)),
            None => text
                .parse()
                .ok()
                .filter(|number: &f64| number.is_finite())
                .map(Self::AsDouble),
        }
    }
}

/// Gathers metrics as JSON texts.
pub(super) struct Metrics {
    /// Nanoseconds.
    time: i64,
    texts: Vec<String>,
}

impl Metrics {
    /// Metrics of a moment, in Unix seconds.
    pub(super) fn new(time: i64) -> Self {
        Self {
            time: time.saturating_mul(1_000_000_000),
            texts: Vec::new(),
        }
    }

    /// Adds the figures of an object and of those in it.
    pub(super) fn add(&mut self, prefix: &str, object: &Object, attributes: &[Attribute]) {
        for (key, value) in sorted(object) {
            if SKIPPED.contains(&key) {
                continue;
            }
            if let Some(inner) = value.as_object() {
                self.add(&format!("{prefix}_{key}"), inner, attributes);
            } else if let Some(number) = value::text(value).and_then(|text| Number::parse(&text)) {
                self.push(prefix, key, number, attributes);
            }
        }
    }

    fn push(&mut self, prefix: &str, key: &str, number: Number, attributes: &[Attribute]) {
        let points = [Point {
            time: self.time,
            number,
            attributes,
        }];
        let (name, data) = match name::counts_up(prefix, key) {
            false => (format!("{prefix}_{key}"), Data::Gauge { points }),
            true => {
                let data = Data::Sum {
                    points,
                    temporality: CUMULATIVE,
                    is_monotonic: true,
                };
                (format!("{prefix}_{key}_total"), data)
            }
        };
        let metric = Metric {
            name: &name,
            unit: unit(key),
            data,
        };
        // Text keys and finite numbers can always be written.
        self.texts.extend(serde_json::to_string(&metric));
    }

    pub(super) fn finish(self) -> Vec<String> {
        self.texts
    }
}
