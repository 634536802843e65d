//! The node itself (reference 04 §9.4).

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use pve_cfs::Cfs;
use pve_daemon::BoxError;
use pve_metrics::{NodeFigures, Object, Objects, Snapshot};
use pve_node::status::{self, CpuInfo, CpuMeter, CpuTimes, FileSystem, Memory, Pressure};
use pve_schema::Context;
use serde_json::{Value, json};

use crate::cycle::publish;
use crate::errands::Found;
use crate::outbox::Outbox;

/// Where the node's facts that never change are told.
const STATIC_INFO: &str = "kv/static-info";

/// What the readings of CPU times are compared with.
pub(crate) struct Meter {
    since: Instant,
    cpu: CpuMeter,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            cpu: CpuMeter::default(),
        }
    }
}

/// Looks at the node and tells what it saw.
pub(crate) fn update(context: &Context, meter: &Mutex<Meter>, outbox: &Outbox) -> Result<Found, BoxError> {
    let memory = Memory::read();
    let cpus = CpuInfo::read().cpus;
    tell_static_info(context, cpus, memory.total)?;
    let figures = figures(context, meter, memory, cpus);
    outbox.post(Snapshot {
        time: figures.time,
        objects: Objects::Node(object(&figures, memory)),
    });
    publish(context, &figures.record(context.site.node.clone())).map(Found::from)
}

/// What is told of the node besides the figures of its record (reference 04 §16.3).
fn object(figures: &NodeFigures, memory: Memory) -> Object {
    let [avg1, avg5, avg15] = status::load_average().map(|text| text.parse::<f64>().unwrap_or(0.0));
    let nics = status::network::interfaces().into_iter().map(|interface| {
        let kind = match status::network::is_physical(&interface.name) {
            true => "physical",
            false => "virtual",
        };
        let traffic = interface.traffic;
        let object = json!({ "receive": traffic.received, "transmit": traffic.sent, "type": kind });
        (interface.name, object)
    });
    let root = FileSystem::root();
    let pairs = [
        ("uptime", figures.uptime.into()),
        (
            "cpustat",
            json!({ "avg1": avg1, "avg5": avg5, "avg15": avg15, "cpus": figures.cpus, "cpu": figures.cpu.unwrap_or(0.0),
                "wait": figures.wait.unwrap_or(0.0) }),
        ),
        (
            "memory",
            json!({ "memtotal": memory.total, "memfree": memory.free, "memavailable": memory.available,
                "memused": memory.used(), "memshared": memory.shared, "swaptotal": memory.swap_total,
                "swapfree": memory.swap_free, "swapused": memory.swap_used(), "arcsize": memory.arc_size }),
        ),
        (
            "blockstat",
            json!({ "blocks": root.total, "bfree": root.total.saturating_sub(root.used), "bavail": root.available }),
        ),
        ("nics", Value::Object(nics.collect())),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn figures(context: &Context, meter: &Mutex<Meter>, memory: Memory, cpus: u64) -> NodeFigures {
    let usage = {
        let mut meter = meter.lock().unwrap_or_else(PoisonError::into_inner);
        let at = meter.since.elapsed().as_secs_f64();
        meter.cpu.measure(at, CpuTimes::read())
    };
    let root = FileSystem::root();
    let traffic = status::network::physical_traffic();
    let [load, ..] = status::load_average();
    NodeFigures {
        uptime: status::uptime(),
        // There are no subscriptions for this suite.
        level: String::new(),
        time: context.now(),
        load: load.parse().unwrap_or(0.0),
        cpus,
        cpu: usage.map(|usage| usage.cpu),
        wait: usage.map(|usage| usage.wait),
        memory_total: memory.total,
        memory_used: memory.used(),
        memory_available: memory.available,
        swap_total: memory.swap_total,
        swap_used: memory.swap_used(),
        root_total: root.total,
        root_used: root.used,
        received: traffic.received,
        sent: traffic.sent,
        arc_size: memory.arc_size,
        cpu_pressure: pressure("cpu"),
        io_pressure: pressure("io"),
        memory_pressure: pressure("memory"),
    }
}

fn pressure(resource: &str) -> pve_metrics::Pressure {
    let Pressure { some, full } = Pressure::read(resource);
    pve_metrics::Pressure { some, full }
}

/// Tells what does not change, if it did or nobody told before.
fn tell_static_info(context: &Context, cpus: u64, memory: u64) -> Result<(), BoxError> {
    let mut info = json!({ "cpus": cpus, "memory": memory, "cgroup-mode": cgroup_mode() });
    if std::env::consts::ARCH != "x86_64" {
        info["host-arch"] = std::env::consts::ARCH.into();
    }
    let store = Cfs::new(context).status();
    let told = store.get(STATIC_INFO)?.unwrap_or_default();
    if serde_json::from_slice::<Value>(&told).ok().as_ref() != Some(&info) {
        store.set(STATIC_INFO, info.to_string().as_bytes())?;
    }
    Ok(())
}

/// The version of the control groups: only the second has this file at its root.
fn cgroup_mode() -> u8 {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        2
    } else {
        1
    }
}
