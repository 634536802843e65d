//! The node itself (reference 04 §9.4).

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use pve_daemon::BoxError;
use pve_metrics::{NodeFigures, Object, Objects, Snapshot};
use pve_node::status::network::interfaces;
use pve_node::status::{
    self, CpuInfo, CpuMeter, CpuTimes, CpuUsage, FileSystem, Hardware, Interface, Memory, Pressure, Traffic,
};
use pve_schema::Context;
use serde_json::{Map, Value, json};

use crate::cycle::publish;
use crate::errands::Found;
use crate::facts;
use crate::outbox::Outbox;

/// What the readings are compared with, and what is remembered of the machine.
pub(crate) struct Meter {
    since: Instant,
    cpu: CpuMeter,
    hardware: Hardware,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            cpu: CpuMeter::default(),
            hardware: Hardware::default(),
        }
    }
}

/// What was seen of the node.
struct Seen {
    time: i64,
    uptime: u64,
    load: [f64; 3],
    cpus: u64,
    times: CpuTimes,
    usage: CpuUsage,
    memory: Memory,
    root: FileSystem,
    /// Each with whether it is hardware.
    interfaces: Vec<(Interface, bool)>,
    cpu_pressure: pve_metrics::Pressure,
    io_pressure: pve_metrics::Pressure,
    memory_pressure: pve_metrics::Pressure,
}

/// Looks at the node and tells what it saw.
pub(crate) fn update(context: &Context, meter: &Mutex<Meter>, outbox: &Outbox) -> Result<Found, BoxError> {
    let seen = Seen::look(context, meter);
    outbox.post(Snapshot {
        time: seen.time,
        objects: Objects::Node(seen.object()),
    });
    facts::machine(context)?;
    publish(context, &seen.figures().record(context.site.node.clone())).map(Found::from)
}

impl Seen {
    fn look(context: &Context, meter: &Mutex<Meter>) -> Self {
        let times = CpuTimes::read();
        let (usage, interfaces) = {
            let mut meter = meter.lock().unwrap_or_else(PoisonError::into_inner);
            let at = meter.since.elapsed().as_secs_f64();
            let usage = meter.cpu.measure(at, times);
            (usage, meter.hardware.mark(interfaces()))
        };
        Self {
            time: context.now(),
            uptime: status::uptime(),
            load: status::load_average().map(|load| load.parse().unwrap_or(0.0)),
            cpus: CpuInfo::of_machine().cpus,
            times,
            // One reading alone says nothing, and upstream says that as zero.
            usage: usage.unwrap_or(CpuUsage { cpu: 0.0, wait: 0.0 }),
            memory: Memory::read(),
            root: FileSystem::root(),
            interfaces,
            cpu_pressure: pressure("cpu"),
            io_pressure: pressure("io"),
            memory_pressure: pressure("memory"),
        }
    }

    /// What the other daemons are told, and the files of figures keep.
    fn figures(&self) -> NodeFigures {
        let Self { memory, root, .. } = self;
        let physical = self.interfaces.iter().filter(|(_, physical)| *physical);
        let traffic: Traffic = physical.map(|(interface, _)| interface.traffic).sum();
        NodeFigures {
            uptime: self.uptime,
            // There are no subscriptions for this suite.
            level: String::new(),
            time: self.time,
            load: self.load[0],
            cpus: self.cpus,
            cpu: Some(self.usage.cpu),
            wait: Some(self.usage.wait),
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
            cpu_pressure: self.cpu_pressure,
            io_pressure: self.io_pressure,
            memory_pressure: self.memory_pressure,
        }
    }

    /// What external metric servers are told (reference 04 §16.3).
    fn object(&self) -> Object {
        let object = json!({
            "uptime": self.uptime,
            "cpustat": self.cpu_object(),
            "memory": memory_object(&self.memory),
            "blockstat": file_system_object(&self.root),
            "nics": self.interfaces.iter().map(nic).collect::<Map<_, _>>(),
        });
        match object {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    fn cpu_object(&self) -> Value {
        let number = |figure| pve_metrics::figure::json(figure).unwrap_or_else(|| 0.into());
        let (times, [avg1, avg5, avg15]) = (&self.times, self.load);
        json!({
            "user": times.user, "nice": times.nice, "system": times.system, "idle": times.idle,
            "iowait": times.iowait, "irq": times.irq, "softirq": times.softirq, "steal": times.steal,
            "guest": times.guest, "guest_nice": times.guest_nice,
            "used": times.used(), "total": times.total(),
            // Upstream's field of that name stays at zero.
            "sum": 0,
            "ctime": self.time,
            "cpu": number(self.usage.cpu), "wait": number(self.usage.wait),
            "avg1": number(avg1), "avg5": number(avg5), "avg15": number(avg15),
            "cpus": self.cpus,
        })
    }
}

fn memory_object(memory: &Memory) -> Value {
    json!({
        "memtotal": memory.total, "memfree": memory.free, "memavailable": memory.available, "memused": memory.used(),
        "memshared": memory.shared,
        "swaptotal": memory.swap_total, "swapfree": memory.swap_free, "swapused": memory.swap_used(),
        "arcsize": memory.arc_size, "arcmin": memory.arc_min, "arcmax": memory.arc_max,
    })
}

/// The names of statvfs(3), and those that tell users and root apart.
fn file_system_object(root: &FileSystem) -> Value {
    json!({
        "blocks": root.total, "bfree": root.free, "bavail": root.available, "used": root.used, "per": root.percent(),
        "files": root.files, "ffree": root.files_free, "favail": root.files_available, "fused": root.files_used(),
        "fper": root.files_percent(),
        "user_blocks": root.user_total(), "user_bavail": root.available, "user_used": root.used,
        "su_blocks": root.total, "su_bavail": root.free,
        "user_files": root.user_files(), "user_favail": root.files_available, "user_fused": root.files_used(),
        "su_files": root.files, "su_favail": root.files_free,
    })
}

fn nic((interface, physical): &(Interface, bool)) -> (String, Value) {
    let kind = if *physical { "physical" } else { "virtual" };
    let Traffic { received, sent } = interface.traffic;
    let object = json!({ "receive": received, "transmit": sent, "type": kind });
    (interface.name.clone(), object)
}

fn pressure(resource: &str) -> pve_metrics::Pressure {
    let Pressure { some, full } = Pressure::read(resource);
    pve_metrics::Pressure { some, full }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        let stat = "cpu  2000 200 500 42600 250 6 7 8 300 20\ncpu0 1\ncpu1 1\ncpu2 1\ncpu3 1\n";
        let interface = |name: &str, received, sent, physical| {
            let traffic = Traffic { received, sent };
            let name = name.to_owned();
            (Interface { name, traffic }, physical)
        };
        let pressure = |some, full| pve_metrics::Pressure { some, full };
        Seen {
            time: 1_700_000_000,
            uptime: 86400,
            load: [0.5, 0.4, 0.25],
            cpus: 4,
            times: CpuTimes::parse(stat).unwrap(),
            usage: CpuUsage { cpu: 0.3, wait: 0.05 },
            memory: Memory {
                total: 1000,
                free: 100,
                available: 400,
                swap_total: 50,
                swap_free: 20,
                shared: 4096,
                arc_size: 7,
                arc_min: 5,
                arc_max: 9,
            },
            root: FileSystem {
                total: 1000,
                used: 500,
                free: 500,
                available: 450,
                files: 100,
                files_free: 60,
                files_available: 60,
            },
            interfaces: vec![
                interface("lo", 1, 1, false),
                interface("eno1", 300, 400, true),
                interface("eno2", 33, 44, true),
                interface("tap100i0", 9, 9, false),
            ],
            cpu_pressure: pressure(Some(1.25), None),
            io_pressure: pressure(Some(0.5), Some(0.25)),
            memory_pressure: pressure(None, None),
        }
    }

    #[test]
    fn hardware_alone_counts_in_the_record() {
        let record = seen().figures().record("pve1".parse().unwrap());
        assert_eq!(
            record.value(),
            "86400::1700000000:0.5:4:0.3:0.05:1000:600:50:30:1000:500:333:444:400:7:1.25:0.5:0.25:U:U"
        );
    }

    #[test]
    fn metric_servers_are_told_everything() {
        let expected = json!({
            "uptime": 86400,
            "cpustat": {
                "user": 1700, "nice": 180, "system": 500, "idle": 42600, "iowait": 250, "irq": 6, "softirq": 7,
                "steal": 8, "guest": 300, "guest_nice": 20, "used": 2721, "total": 45571, "sum": 0,
                "ctime": 1_700_000_000, "cpu": 0.3, "wait": 0.05, "avg1": 0.5, "avg5": 0.4, "avg15": 0.25, "cpus": 4,
            },
            "memory": {
                "memtotal": 1000, "memfree": 100, "memavailable": 400, "memused": 600, "memshared": 4096,
                "swaptotal": 50, "swapfree": 20, "swapused": 30, "arcsize": 7, "arcmin": 5, "arcmax": 9,
            },
            "blockstat": {
                "blocks": 1000, "bfree": 500, "bavail": 450, "used": 500, "per": 53,
                "files": 100, "ffree": 60, "favail": 60, "fused": 40, "fper": 40,
                "user_blocks": 950, "user_bavail": 450, "user_used": 500, "su_blocks": 1000, "su_bavail": 500,
                "user_files": 100, "user_favail": 60, "user_fused": 40, "su_files": 100, "su_favail": 60,
            },
            "nics": {
                "lo": {"receive": 1, "transmit": 1, "type": "virtual"},
                "eno1": {"receive": 300, "transmit": 400, "type": "physical"},
                "eno2": {"receive": 33, "transmit": 44, "type": "physical"},
                "tap100i0": {"receive": 9, "transmit": 9, "type": "virtual"},
            },
        });
        assert_eq!(Value::Object(seen().object()), expected);
    }
}
