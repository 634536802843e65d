//! The figures of a cycle as a flat list (reference 04 §17).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use pve_schema::ids::NodeName;
use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::line;
use crate::figure;

/// A figure of the list. There may be millions: it is small, and as JSON it is only ever written.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What it is about: `node/NAME`, `qemu/VMID`, `lxc/VMID`, `storage/NODE/ID`; shared by its figures.
    pub id: Arc<str>,
    /// Which figure.
    pub metric: Cow<'static, str>,
    /// Whether it counts up.
    pub is_counter: bool,
    /// Its value.
    pub value: f64,
    /// When it was seen, Unix seconds.
    pub timestamp: i64,
}

const COUNTER: &str = "derive";
const GAUGE: &str = "gauge";

/// The entry as clients see it.
impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entry = serializer.serialize_struct("Entry", 5)?;
        entry.serialize_field("id", &*self.id)?;
        entry.serialize_field("metric", &self.metric)?;
        entry.serialize_field("type", if self.is_counter { COUNTER } else { GAUGE })?;
        entry.serialize_field("value", &figure::json(self.value))?;
        entry.serialize_field("timestamp", &self.timestamp)?;
        entry.end()
    }
}

/// The figures that another node answered with, `{"data":{"data":[…]}}`.
///
/// # Errors
/// It is something else.
pub fn answered(text: &[u8]) -> Result<Vec<Entry>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Outer {
        data: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        data: Rows,
    }
    serde_json::from_slice(text).map(|outer: Outer| outer.data.data.0)
}

/// A row of such an answer.
#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    metric: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    value: f64,
    timestamp: i64,
}

/// Rows, each as small as it gets before the next is read.
struct Rows(Vec<Entry>);

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RowsVisitor)
    }
}

struct RowsVisitor;

impl<'de> Visitor<'de> for RowsVisitor {
    type Value = Rows;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of figures")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Rows, A::Error> {
        let mut entries: Vec<Entry> = Vec::new();
        while let Some(row) = rows.next_element::<Row<'de>>()? {
            let before = entries.last().map(|last| &last.id).filter(|id| ***id == *row.id);
            let id = before.map_or_else(|| Arc::from(&*row.id), Arc::clone);
            let known = METRICS.iter().find(|known| **known == row.metric);
            entries.push(Entry {
                id,
                // A later release may have others.
                metric: known.map_or_else(|| Cow::Owned(row.metric.into_owned()), |known| Cow::Borrowed(*known)),
                is_counter: row.kind == COUNTER,
                value: row.value,
                timestamp: row.timestamp,
            });
        }
        Ok(Rows(entries))
    }
}

/// All figures that this release tells.
const METRICS: [&str; 17] = [
    "cpu_avg1",
    "cpu_avg15",
    "cpu_avg5",
    "cpu_current",
    "cpu_iowait",
    "cpu_max",
    "disk_read",
    "disk_total",
    "disk_used",
    "disk_write",
    "mem_total",
    "mem_used",
    "net_in",
    "net_out",
    "swap_total",
    "swap_used",
    "uptime",
];

/// The figures of a remembered cycle. What is not there is 0; a step that saw nothing has none.
pub fn entries(node: &NodeName, cycle: &Value) -> Vec<Entry> {
    let mut list = List::default();
    list.part(cycle, "node", |list, data| list.node(format!("node/{node}"), data));
    for kind in ["qemu", "lxc"] {
        list.part(cycle, kind, |list, guests| {
            for (vmid, row) in objects(guests) {
                list.guest(format!("{kind}/{vmid}"), row, kind == "lxc");
            }
        });
    }
    list.part(cycle, "storage", |list, storages| {
        for (id, row) in objects(storages) {
            list.of(format!("storage/{node}/{id}"));
            list.gauge("disk_total", number(row, "total"));
            list.gauge("disk_used", number(row, "used"));
        }
    });
    list.entries
}

type Object = Map<String, Value>;

fn objects(all: &Object) -> impl Iterator<Item = (&str, &Object)> {
    all.iter().filter_map(|(id, row)| Some((id.as_str(), row.as_object()?)))
}

/// A number, whether it is written as one or as a text.
fn number(object: &Object, key: &str) -> f64 {
    let number = match object.get(key) {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.parse().ok(),
        Some(Value::Bool(on)) => Some(f64::from(u8::from(*on))),
        _ => None,
    };
    number.filter(|number: &f64| number.is_finite()).unwrap_or(0.0)
}

/// Gathers entries: what they are about is said first.
#[derive(Default)]
struct List {
    entries: Vec<Entry>,
    id: Arc<str>,
    timestamp: i64,
}

impl List {
    fn part(&mut self, cycle: &Value, name: &str, add: impl FnOnce(&mut Self, &Object)) {
        let Some(part) = cycle.get(name) else { return };
        let data = part.get(line::DATA).and_then(Value::as_object);
        let timestamp = part.get(line::TIMESTAMP).and_then(Value::as_i64);
        if let (Some(data), Some(timestamp)) = (data, timestamp) {
            self.timestamp = timestamp;
            add(self, data);
        }
    }

    fn of(&mut self, id: String) {
        self.id = id.into();
    }

    fn push(&mut self, metric: &'static str, value: f64, is_counter: bool) {
        self.entries.push(Entry {
            id: Arc::clone(&self.id),
            metric: Cow::Borrowed(metric),
            is_counter,
            // A sum may be too large to be one.
            value: if value.is_finite() { value } else { 0.0 },
            timestamp: self.timestamp,
        });
    }

    fn gauge(&mut self, metric: &'static str, value: f64) {
        self.push(metric, value, false);
    }

    fn counter(&mut self, metric: &'static str, value: f64) {
        self.push(metric, value, true);
    }

    fn node(&mut self, id: String, data: &Object) {
        let empty = Object::new();
        let inside = |key: &str| data.get(key).and_then(Value::as_object).unwrap_or(&empty);
        let (cpu, memory, root) = (inside("cpustat"), inside("memory"), inside("blockstat"));
        let hardware = objects(inside("nics")).filter(|(_, nic)| line::is_hardware(nic));
        let (mut received, mut sent) = (0.0, 0.0);
        for (_, nic) in hardware {
            received += number(nic, "receive");
            sent += number(nic, "transmit");
        }
        self.of(id);
        self.gauge("uptime", number(data, "uptime"));
        self.counter("net_in", received);
        self.counter("net_out", sent);
        self.gauge("cpu_avg1", number(cpu, "avg1"));
        self.gauge("cpu_avg5", number(cpu, "avg5"));
        self.gauge("cpu_avg15", number(cpu, "avg15"));
        self.gauge("cpu_max", number(cpu, "cpus"));
        self.gauge("cpu_current", number(cpu, "cpu"));
        self.gauge("cpu_iowait", number(cpu, "wait"));
        self.gauge("mem_total", number(memory, "memtotal"));
        self.gauge("mem_used", number(memory, "memused"));
        self.gauge("swap_total", number(memory, "swaptotal"));
        self.gauge("swap_used", number(memory, "swapused"));
        self.gauge("disk_total", number(root, "blocks"));
        self.gauge("disk_used", number(root, "blocks") - number(root, "bfree"));
    }

    fn guest(&mut self, id: String, row: &Object, is_container: bool) {
        self.of(id);
        if row.get("status").and_then(Value::as_str) == Some("running") {
            self.gauge("cpu_current", number(row, "cpu"));
            self.gauge("mem_used", number(row, "mem"));
            self.counter("disk_read", number(row, "diskread"));
            self.counter("disk_write", number(row, "diskwrite"));
            self.counter("net_in", number(row, "netin"));
            self.counter("net_out", number(row, "netout"));
            if is_container {
                self.gauge("disk_used", number(row, "disk"));
            }
        }
        self.gauge("uptime", number(row, "uptime"));
        self.gauge("cpu_max", number(row, "cpus"));
        self.gauge("mem_total", number(row, "maxmem"));
        self.gauge("disk_total", number(row, "maxdisk"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cycle() -> Value {
        let guest = |status: &str| {
            json!({"status": status, "uptime": 5, "cpu": 0.5, "cpus": 2, "mem": 3, "maxmem": 4, "disk": 6, "maxdisk": 7,
                "diskread": 8, "diskwrite": 9, "netin": 10, "netout": 11})
        };
        json!({
            "node": {"timestamp": 100, "data": {
                "uptime": 86400,
                "cpustat": {"avg1": "0.50", "avg5": 0.4, "avg15": 0.3, "cpu": 0.125, "cpus": 8, "wait": 0.001},
                "memory": {"memtotal": 1000, "memused": 400, "swaptotal": 50, "swapused": 5},
                "blockstat": {"blocks": 900, "bfree": 300},
                "nics": {"eno1": {"receive": 333, "transmit": 444, "type": "physical"},
                    "eno2": {"receive": 1, "transmit": 2, "type": "physical"},
                    "vmbr0": {"receive": 7, "transmit": 8, "type": "virtual"}}}},
            "qemu": {"timestamp": 101, "data": {"100": guest("running"), "101": guest("stopped")}},
            "lxc": {"timestamp": 102, "data": {"200": guest("running")}},
            "storage": {"timestamp": 103, "data": {"local": {"total": 20, "used": 12, "active": 1}}},
        })
    }

    /// Reference 04 §20, vector 60.
    #[test]
    fn a_cycle_is_so_many_entries() {
        let all = entries(&"pve1".parse().unwrap(), &cycle());
        let of = |id: &str| {
            let rows = all.iter().filter(|entry| &*entry.id == id);
            rows.map(|entry| (&*entry.metric, entry.is_counter, entry.value))
                .collect::<Vec<_>>()
        };
        let (gauge, counter) = (false, true);
        assert_eq!(all.len(), 42);
        assert_eq!(
            of("node/pve1"),
            [
                ("uptime", gauge, 86400.0),
                ("net_in", counter, 334.0),
                ("net_out", counter, 446.0),
                ("cpu_avg1", gauge, 0.5),
                ("cpu_avg5", gauge, 0.4),
                ("cpu_avg15", gauge, 0.3),
                ("cpu_max", gauge, 8.0),
                ("cpu_current", gauge, 0.125),
                ("cpu_iowait", gauge, 0.001),
                ("mem_total", gauge, 1000.0),
                ("mem_used", gauge, 400.0),
                ("swap_total", gauge, 50.0),
                ("swap_used", gauge, 5.0),
                ("disk_total", gauge, 900.0),
                ("disk_used", gauge, 600.0),
            ]
        );
        let always = [
            ("uptime", gauge, 5.0),
            ("cpu_max", gauge, 2.0),
            ("mem_total", gauge, 4.0),
            ("disk_total", gauge, 7.0),
        ];
        let running = [
            ("cpu_current", gauge, 0.5),
            ("mem_used", gauge, 3.0),
            ("disk_read", counter, 8.0),
            ("disk_write", counter, 9.0),
            ("net_in", counter, 10.0),
            ("net_out", counter, 11.0),
        ];
        assert_eq!(of("qemu/100"), [running.as_slice(), &always].concat());
        assert_eq!(of("qemu/101"), always);
        assert_eq!(
            of("lxc/200"),
            [running.as_slice(), &[("disk_used", gauge, 6.0)], &always].concat()
        );
        assert_eq!(
            of("storage/pve1/local"),
            [("disk_total", gauge, 20.0), ("disk_used", gauge, 12.0)]
        );
        assert_eq!(
            serde_json::to_value(&all[0]).unwrap(),
            json!({"id": "node/pve1", "metric": "uptime", "type": "gauge", "value": 86400, "timestamp": 100})
        );
    }

    #[test]
    fn another_node_s_answer_is_read_as_what_it_told() {
        let mut all = entries(&"pve1".parse().unwrap(), &cycle());
        let known = |entry: &Entry| METRICS.contains(&&*entry.metric);
        assert!(all.iter().all(known), "{all:?}");
        all.push(Entry {
            metric: Cow::Borrowed("of_a_later_release"),
            ..all[0].clone()
        });
        let text = json!({"data": {"data": all}}).to_string();
        let read = answered(text.as_bytes()).unwrap();
        assert_eq!(read, all);
        assert!(
            Arc::ptr_eq(&read[0].id, &read[1].id),
            "figures of one thing share its name"
        );
        assert!(std::mem::size_of::<Entry>() <= 64);
        for bad in [
            "",
            "[]",
            r#"{"data":[]}"#,
            r#"{"data":{"data":[{"id":1}]}}"#,
            r#"{"data":null}"#,
        ] {
            assert!(answered(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_there_is_nothing_or_zero() {
        let node = "n".parse().unwrap();
        for empty in [
            json!(null),
            json!([]),
            json!({}),
            json!({"node": 1, "qemu": {"data": 5, "timestamp": "x"}}),
        ] {
            assert!(entries(&node, &empty).is_empty(), "{empty}");
        }
        let bare =
            json!({"qemu": {"timestamp": 1, "data": {"100": {"status": "running", "cpu": null, "mem": []}, "x": 1}}});
        let all = entries(&node, &bare);
        assert_eq!(all.len(), 10);
        assert!(all.iter().all(|entry| entry.value == 0.0));
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_taken(text in ".{0,80}") {
            if let Ok(cycle) = serde_json::from_str(&text) {
                let _ = entries(&"n".parse().unwrap(), &cycle);
            }
        }
    }
}
