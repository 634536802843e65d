//! What only the monitor knows about a VM: the fields that `full` lists and `status/current` add (reference 06b §4).
//!
//! Stock QEMU differs from Proxmox' build (reference 06a §7.13): the balloon's guest statistics are a property of the
//! balloon device, and the running machine type is a property of the machine.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use pve_schema::Site;
use pve_schema::ids::VmId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::qmp::QmpError;
use crate::qmp::many::{self, Call, Line, Listener, Said, Script};
use crate::runtime::Runtime;

/// What all questions to one VM may take together. A VM that does not answer lacks the fields; the others are asked at
/// the same time, so it holds up nobody.
const BUDGET: Duration = Duration::from_secs(2);
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

/// The monitor's answers, each `null` (or `None`) when there was none.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answers {
    /// `query-status`.
    pub status: Value,
    /// `query-balloon`.
    pub balloon: Value,
    /// The balloon device's `guest-stats`.
    pub guest_stats: Value,
    /// `query-blockstats`.
    pub blocks: Option<Vec<BlockRow>>,
    /// The machine's `type`.
    pub machine: Value,
    /// The version that the greeting tells.
    pub version: Value,
}

/// What is used of a row of `query-blockstats`: not what lies below the drive.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub(crate) struct BlockRow {
    #[serde(default)]
    device: String,
    #[serde(default)]
    qdev: String,
    #[serde(default)]
    stats: Map<String, Value>,
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
        let call = |vmid| Call {
            vmid,
            socket: Runtime::new(site, vmid).monitor(),
            script: Cow::Borrowed(&*QUESTIONS),
        };
        let mut asked = Self::default();
        let silent = many::ask(vmids.map(call).collect(), BUDGET, LIMIT, &mut asked);
        asked.silent.extend(silent);
        asked
    }
}

impl Listener for Asked {
    fn greeted(&mut self, vmid: VmId, version: Value) {
        self.answers.entry(vmid).or_default().version = version;
    }

    fn take(&mut self, vmid: VmId, place: usize, line: Line<'_>) -> Option<bool> {
        let answers = self.answers.entry(vmid).or_default();
        // A refusal (no balloon device) leaves a field out.
        match place {
            0 => keep(&mut answers.status, line),
            1 => keep(&mut answers.balloon, line),
            2 => keep(&mut answers.guest_stats, line),
            3 => keep(&mut answers.machine, line),
            _ => keep(&mut answers.blocks, line),
        }
    }
}

/// Puts an answer where it belongs: whether there was one.
fn keep<'a, T: Deserialize<'a>>(place: &mut T, line: Line<'a>) -> Option<bool> {
    match line.parse()? {
        Said::Result(result) => *place = result,
        Said::Refused(_) => {}
        Said::Other => return Some(false),
    }
    Some(true)
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
        set("qmpstatus", self.status.get("status").cloned());
        set("running-machine", self.running_machine(revision).map(Value::from));
        set("running-qemu", self.running_version().map(Value::from));
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
        let kind = self.machine.as_str()?;
        Some(format!("{}{revision}", kind.strip_suffix("-machine").unwrap_or(kind)))
    }

    fn running_version(&self) -> Option<String> {
        let version = self.version.get("qemu")?;
        let part = |name: &str| version.get(name).and_then(Value::as_u64);
        Some(format!("{}.{}.{}", part("major")?, part("minor")?, part("micro")?))
    }

    /// The balloon's state under the names of Proxmox' `query-balloon`.
    fn balloon_info(&self, memory: u64) -> Option<Map<String, Value>> {
        let actual = self.balloon.get("actual")?.clone();
        let mut info = Map::from_iter([("actual".to_owned(), actual), ("max_mem".to_owned(), memory.into())]);
        let updated = self.guest_stats.get("last-update").and_then(Value::as_u64).unwrap_or(0);
        if updated == 0 {
            return Some(info);
        }
        info.insert("last_update".to_owned(), updated.into());
        let names = [
            ("stat-total-memory", "total_mem"),
            ("stat-free-memory", "free_mem"),
            ("stat-swap-in", "mem_swapped_in"),
            ("stat-swap-out", "mem_swapped_out"),
            ("stat-major-faults", "major_page_faults"),
            ("stat-minor-faults", "minor_page_faults"),
        ];
        for (stock, ours) in names {
            // The largest number says that the guest's driver does not tell.
            let told = self
                .guest_stats
                .pointer(&format!("/stats/{stock}"))
                .and_then(Value::as_u64);
            if let Some(value) = told.filter(|value| *value != u64::MAX) {
                info.insert(ours.to_owned(), value.into());
            }
        }
        Some(info)
    }
}

/// Drive key → its counters.
fn block_stats(rows: Vec<BlockRow>) -> Map<String, Value> {
    let pair = |row: BlockRow| Some((drive_key(&row)?, Value::Object(row.stats)));
    rows.into_iter().filter_map(pair).collect()
}

/// The drive that a row of `query-blockstats` is about (reference 06b, vector 31): with `-blockdev` the `device` is empty
/// and the device's id, or its path in the object tree, is in `qdev`.
fn drive_key(row: &BlockRow) -> Option<String> {
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
        ];
        for (row, expected) in cases {
            let parsed: BlockRow = serde_json::from_value(row.clone()).unwrap();
            assert_eq!(drive_key(&parsed).as_deref(), expected, "{row}");
        }
    }

    #[test]
    fn answers_become_fields() {
        let answers = Answers {
            status: json!({"status": "running", "running": true}),
            balloon: json!({"actual": 536870912}),
            guest_stats: json!({"last-update": 1700000000, "stats": {
                "stat-total-memory": 500_000_000, "stat-free-memory": 400_000_000, "stat-swap-in": u64::MAX}}),
            blocks: serde_json::from_value(json!([
                {"device": "", "qdev": "scsi0", "stats": {"rd_bytes": 5, "wr_bytes": 7}, "parent": {"stats": {"rd_bytes": 9}}},
                {"device": "", "qdev": "ide2", "stats": {"rd_bytes": 2, "wr_bytes": 0}},
            ]))
            .unwrap(),
            machine: json!("pc-i440fx-10.0-machine"),
            version: json!({"qemu": {"major": 10, "minor": 0, "micro": 2}, "package": "x"}),
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
            status: json!({"status": "paused"}),
            balloon: json!({"actual": 1024}),
            guest_stats: json!({"last-update": 0, "stats": {"stat-free-memory": u64::MAX}}),
            ..Answers::default()
        };
        let fields = Value::Object(answers.fields(2048, ""));
        let expected = json!({"qmpstatus": "paused", "balloon": 1024, "maxmem": 2048,
            "ballooninfo": {"actual": 1024, "max_mem": 2048}});
        assert_eq!(fields, expected);
    }
}
