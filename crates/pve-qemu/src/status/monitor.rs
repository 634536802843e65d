//! What only the monitor knows about a VM: the fields that `full` lists and `status/current` add (reference 06b §4).
//!
//! Stock QEMU differs from Proxmox' build (reference 06a §7.13): the balloon's guest statistics are a property of the
//! balloon device, and the running machine type is a property of the machine.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use pve_schema::Site;
use pve_schema::ids::VmId;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value, json};

use crate::qmp::QmpError;
use crate::qmp::many::{self, Call, Line, Listener, Release, Said, Script};
use crate::runtime::Runtime;

/// What all questions to one VM may take together, its taking the call included. A VM that does not answer lacks the
/// fields; the others are asked at the same time, so it holds up nobody.
const BUDGET: Duration = Duration::from_secs(2);
/// What they may take where the VM did not answer the last time: while one hangs, not every look at all is to take long.
const SHORT: Duration = Duration::from_millis(500);
/// What asking all VMs may take: those that hang keep some hundred connections, and others wait for those.
const LIMIT: Duration = Duration::from_secs(4);

/// The questions. The last one waits for disks, and those may hang.
static QUESTIONS: LazyLock<Script> = LazyLock::new(|| {
    let stats = json!({ "path": "/machine/peripheral/balloon0", "property": "guest-stats" });
    Script::new([
        ("query-status", Value::Null),
        ("query-balloon", Value::Null),
        ("qom-get", stats),
        ("qom-get", json!({ "path": "/machine", "property": "type" })),
        ("query-blockstats", Value::Null),
    ])
});

/// The VMs that did not answer the last time, by their monitors.
static SILENT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Longest name or word that a monitor says and that is kept.
const LONGEST: usize = 64;
/// Most disks of a VM, and most counters of a disk.
const MAX_ROWS: usize = 256;

/// The monitor's answers, as far as there are any. What goes on to lists and to metric servers is of a known shape and
/// size, whatever a QEMU says that somebody took over.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answers {
    /// `query-status`.
    pub status: Status,
    /// `query-balloon`.
    pub balloon: Balloon,
    /// The balloon device's `guest-stats`.
    pub guest: GuestReport,
    /// `query-blockstats`.
    pub blocks: Option<Vec<BlockRow>>,
    /// The machine's `type`.
    pub machine: String,
    /// The version that the greeting tells.
    pub version: Option<Release>,
}

/// What is used of `query-status`.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub(crate) struct Status {
    status: String,
}

/// What is used of `query-balloon`; the guest wrote it.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub(crate) struct Balloon {
    #[serde(default, deserialize_with = "natural")]
    actual: Option<u64>,
}

/// What is used of `guest-stats`; the guest wrote the numbers.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub(crate) struct GuestReport {
    #[serde(default, rename = "last-update", deserialize_with = "natural")]
    updated: Option<u64>,
    #[serde(default)]
    stats: GuestFigures,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct GuestFigures {
    #[serde(default, deserialize_with = "natural")]
    stat_total_memory: Option<u64>,
    #[serde(default, deserialize_with = "natural")]
    stat_free_memory: Option<u64>,
    #[serde(default, deserialize_with = "natural")]
    stat_swap_in: Option<u64>,
    #[serde(default, deserialize_with = "natural")]
    stat_swap_out: Option<u64>,
    #[serde(default, deserialize_with = "natural")]
    stat_major_faults: Option<u64>,
    #[serde(default, deserialize_with = "natural")]
    stat_minor_faults: Option<u64>,
}

/// What is used of a row of `query-blockstats`: not what lies below the drive.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub(crate) struct BlockRow {
    #[serde(default)]
    device: String,
    #[serde(default)]
    qdev: String,
    #[serde(default, deserialize_with = "counters")]
    stats: Map<String, Value>,
}

/// A number; `None` for a negative one, or a fraction.
fn natural<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<Number>::deserialize(deserializer)?.and_then(|number| number.as_u64()))
}

/// Counters by name: plain values, and lists that are empty.
fn counters<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    let is_plain = |value: &Value| match value {
        Value::Number(_) | Value::Bool(_) => true,
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    let all = Map::deserialize(deserializer)?.into_iter();
    let kept = all.filter(|(name, value)| is_word(name, "_-") && is_plain(value));
    Ok(kept.take(MAX_ROWS).collect())
}

/// Whether a text is one short word of letters, digits and some other characters: no line of any protocol breaks by it.
fn is_word(text: &str, others: &str) -> bool {
    let is_fine = |character: char| character.is_ascii_alphanumeric() || others.contains(character);
    (1..=LONGEST).contains(&text.len()) && text.chars().all(is_fine)
}

/// What came of asking VMs.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// What each answered, as far as it did.
    pub answers: BTreeMap<VmId, Answers>,
    /// Who did not answer to the end, and why.
    pub silent: BTreeMap<VmId, QmpError>,
}

impl Asked {
    /// Asks VMs that run, all at once.
    pub(crate) fn ask(site: &Site, vmids: impl Iterator<Item = VmId>) -> Self {
        let monitor = |vmid| Runtime::new(site, vmid).monitor();
        let silent = || SILENT.lock().unwrap_or_else(PoisonError::into_inner);
        let call = |vmid| {
            let socket = monitor(vmid);
            // Asked anew only if it is known by the end of this that it does not answer.
            let was_silent = silent().remove(&socket);
            Call {
                vmid,
                socket,
                script: Cow::Borrowed(&*QUESTIONS),
                budget: if was_silent { SHORT } else { BUDGET },
            }
        };
        let mut asked = Self::default();
        let failed = many::ask(vmids.map(call).collect(), LIMIT, &mut asked);
        silent().extend(failed.iter().map(|(vmid, _)| monitor(*vmid)));
        asked.silent.extend(failed);
        asked
    }
}

impl Listener for Asked {
    fn greeted(&mut self, vmid: VmId, version: Release) {
        self.answers.entry(vmid).or_default().version = Some(version);
    }

    fn take(&mut self, vmid: VmId, place: usize, line: Line<'_>) -> Option<bool> {
        let answers = self.answers.entry(vmid).or_default();
        let (kept, command) = match place {
            0 => (keep(&mut answers.status, line)?, Some("query-status")),
            // Without a balloon device these are refused, and the fields left out.
            1 => (keep(&mut answers.balloon, line)?, None),
            2 => (keep(&mut answers.guest, line)?, None),
            3 => (keep(&mut answers.machine, line)?, None),
            _ => (keep(&mut answers.blocks, line)?, Some("query-blockstats")),
        };
        if let (Said::Refused(refusal), Some(command)) = (&kept, command) {
            let refused = refusal.error(vmid, command);
            self.silent.entry(vmid).or_insert(refused);
        }
        Some(!matches!(kept, Said::Other))
    }
}

/// Puts an answer where it belongs.
fn keep<'a, T: Deserialize<'a>>(place: &mut T, line: Line<'a>) -> Option<Said<()>> {
    Some(match line.parse()? {
        Said::Result(result) => {
            *place = result;
            Said::Result(())
        }
        Said::Refused(refusal) => Said::Refused(refusal),
        Said::Other => Said::Other,
    })
}

impl Answers {
    /// The fields. `memory` is the configured memory in bytes, `revision` the `+pveN` that the VM was started with.
    pub(crate) fn fields(self, memory: u64, revision: &str) -> Map<String, Value> {
        let mut fields = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value);
            }
        };
        let status = Some(self.status.status.as_str()).filter(|word| is_word(word, "-"));
        set("qmpstatus", status.map(Value::from));
        set("running-machine", self.running_machine(revision).map(Value::from));
        set("running-qemu", self.version.map(|version| version.to_string().into()));
        if let Some(balloon) = self.balloon_info(memory) {
            set("balloon", balloon.get("actual").cloned());
            set("maxmem", balloon.get("max_mem").cloned());
            let free = balloon.get("free_mem").and_then(Value::as_u64);
            let total = balloon.get("total_mem").and_then(Value::as_u64);
            set("freemem", free.map(Value::from));
            set(
                "mem",
                total
                    .zip(free)
                    .map(|(total, free)| Value::from(total.saturating_sub(free))),
            );
            set("ballooninfo", Some(Value::Object(balloon)));
        }
        if let Some(rows) = self.blocks {
            let blocks = block_stats(rows);
            set("diskread", Some(sum(&blocks, "rd_bytes").into()));
            set("diskwrite", Some(sum(&blocks, "wr_bytes").into()));
            set("blockstat", Some(Value::Object(blocks)));
        }
        fields
    }

    /// Reference 06b, vector 32.
    fn running_machine(&self, revision: &str) -> Option<String> {
        let kind = Some(self.machine.as_str()).filter(|kind| is_word(kind, "-._"))?;
        Some(format!("{}{revision}", kind.strip_suffix("-machine").unwrap_or(kind)))
    }

    /// The balloon's state under the names of Proxmox' `query-balloon`.
    fn balloon_info(&self, memory: u64) -> Option<Map<String, Value>> {
        let actual = self.balloon.actual?;
        let mut info = Map::from_iter([
            ("actual".to_owned(), actual.into()),
            ("max_mem".to_owned(), memory.into()),
        ]);
        let updated = self.guest.updated.unwrap_or(0);
        if updated == 0 {
            return Some(info);
        }
        info.insert("last_update".to_owned(), updated.into());
        let stats = &self.guest.stats;
        let told = [
            ("total_mem", stats.stat_total_memory),
            ("free_mem", stats.stat_free_memory),
            ("mem_swapped_in", stats.stat_swap_in),
            ("mem_swapped_out", stats.stat_swap_out),
            ("major_page_faults", stats.stat_major_faults),
            ("minor_page_faults", stats.stat_minor_faults),
        ];
        for (name, value) in told {
            // The largest number says that the guest's driver does not tell.
            if let Some(value) = value.filter(|value| *value != u64::MAX) {
                info.insert(name.to_owned(), value.into());
            }
        }
        Some(info)
    }
}

/// Drive key → its counters.
fn block_stats(rows: Vec<BlockRow>) -> Map<String, Value> {
    let pair = |row: BlockRow| Some((drive_key(&row)?, Value::Object(row.stats)));
    rows.into_iter().filter_map(pair).take(MAX_ROWS).collect()
}

/// The drive that a row of `query-blockstats` is about (reference 06b, vector 31): with `-blockdev` the `device` is empty
/// and the device's id, or its path in the object tree, is in `qdev`.
fn drive_key(row: &BlockRow) -> Option<String> {
    raw_drive_key(row).filter(|key| is_word(key, "-._/[]"))
}

fn raw_drive_key(row: &BlockRow) -> Option<String> {
    if !row.device.is_empty() {
        return Some(row.device.strip_prefix("drive-").unwrap_or(&row.device).to_owned());
    }
    let path = Some(row.qdev.as_str()).filter(|path| !path.is_empty())?;
    let key = match path {
        "/machine/system.flash0" => "pflash0",
        "/machine/system.flash1" => "efidisk0",
        _ => match path.strip_prefix("/machine/peripheral/") {
            Some(below) => below.split('/').next()?,
            None => path,
        },
    };
    Some(key.to_owned())
}

fn sum(blocks: &Map<String, Value>, counter: &str) -> u64 {
    let values = blocks.values().filter_map(|stats| stats.get(counter)?.as_u64());
    values.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 06b, vector 31.
    #[test]
    fn block_statistics_belong_to_drive_keys() {
        let cases = [
            (
                json!({"device": "", "qdev": "/machine/peripheral/virtio0/virtio-backend"}),
                Some("virtio0"),
            ),
            (json!({"device": "", "qdev": "scsi0"}), Some("scsi0")),
            (json!({"qdev": "/machine/system.flash0"}), Some("pflash0")),
            (json!({"qdev": "/machine/system.flash1"}), Some("efidisk0")),
            (json!({"device": "drive-ide2", "qdev": "x"}), Some("ide2")),
            (json!({"device": ""}), None),
            (json!({"device": "a b=5,c"}), None),
            (json!({"device": "a\nb"}), None),
            (json!({"device": "x".repeat(65)}), None),
        ];
        for (row, expected) in cases {
            let parsed: BlockRow = serde_json::from_value(row.clone()).unwrap();
            assert_eq!(drive_key(&parsed).as_deref(), expected, "{row}");
        }
    }

    fn made<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    /// Lists and metric servers get names and sizes that are fit for them, whatever a QEMU says.
    #[test]
    fn what_no_qemu_says_becomes_no_field() {
        let many: Map<String, Value> = (0..1000).map(|n| (format!("counter_{n}"), n.into())).collect();
        let answers = Answers {
            status: made(json!({"status": "run ning,x=1\n"})),
            balloon: made(json!({"actual": -(1_i64 << 44)})),
            blocks: made(json!([
                {"qdev": "scsi0", "stats": {"rd_bytes": -1, "bad name": 1, "deep": {"a": 1}, "list": [1], "text": "x",
                    "timed_stats": []}},
                {"qdev": "scsi1", "stats": many},
                {"qdev": "evil key", "stats": {}},
            ])),
            machine: "pc\nx".to_owned(),
            ..Answers::default()
        };
        let mut fields = answers.fields(2048, "+pve1");
        let mut blocks = fields.remove("blockstat").unwrap();
        assert_eq!(blocks["scsi1"].as_object().unwrap().len(), MAX_ROWS);
        blocks.as_object_mut().unwrap().remove("scsi1");
        assert_eq!(blocks, json!({"scsi0": {"rd_bytes": -1, "timed_stats": []}}));
        assert_eq!(Value::Object(fields), json!({"diskread": 0, "diskwrite": 0}));
    }

    #[test]
    fn answers_become_fields() {
        let answers = Answers {
            status: made(json!({"status": "running", "running": true})),
            balloon: made(json!({"actual": 536870912})),
            guest: made(json!({"last-update": 1700000000, "stats": {
                "stat-total-memory": 500_000_000, "stat-free-memory": 400_000_000, "stat-swap-in": u64::MAX}})),
            blocks: serde_json::from_value(json!([
                {"device": "", "qdev": "scsi0", "stats": {"rd_bytes": 5, "wr_bytes": 7}, "parent": {"stats": {"rd_bytes": 9}}},
                {"device": "", "qdev": "ide2", "stats": {"rd_bytes": 2, "wr_bytes": 0}},
            ]))
            .unwrap(),
            machine: "pc-i440fx-10.0-machine".to_owned(),
            version: Some(made(json!({"major": 10, "minor": 0, "micro": 2}))),
        };
        let fields = answers.fields(1 << 30, "+pve1");
        let expected = json!({
            "qmpstatus": "running",
            "running-machine": "pc-i440fx-10.0+pve1",
            "running-qemu": "10.0.2",
            "balloon": 536870912,
            "maxmem": 1 << 30,
            "freemem": 400_000_000,
            "mem": 100_000_000,
            "ballooninfo": {"actual": 536870912, "max_mem": 1 << 30, "last_update": 1700000000,
                "total_mem": 500_000_000, "free_mem": 400_000_000},
            "diskread": 7,
            "diskwrite": 7,
            "blockstat": {"scsi0": {"rd_bytes": 5, "wr_bytes": 7}, "ide2": {"rd_bytes": 2, "wr_bytes": 0}},
        });
        assert_eq!(Value::Object(fields), expected);
    }

    #[test]
    fn a_guest_without_balloon_driver_gives_no_free_memory() {
        let answers = Answers {
            status: made(json!({"status": "paused"})),
            balloon: made(json!({"actual": 1024})),
            guest: made(json!({"last-update": 0, "stats": {"stat-free-memory": u64::MAX}})),
            ..Answers::default()
        };
        let fields = Value::Object(answers.fields(2048, ""));
        let expected = json!({"qmpstatus": "paused", "balloon": 1024, "maxmem": 2048,
            "ballooninfo": {"actual": 1024, "max_mem": 2048}});
        assert_eq!(fields, expected);
    }
}
