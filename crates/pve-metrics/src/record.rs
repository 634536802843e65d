//! Records as they are written: one line of values per subject, in an order that all nodes agree on (reference 04 §10).

use pve_schema::ids::{NodeName, StorageId, VmId};

use crate::figure;
use crate::subject::Subject;

/// A figure; `None` while it is unknown.
pub type Figure = Option<f64>;

/// A record: what the status store tells of a subject, and what its file remembers of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub subject: Subject,
    fields: Vec<String>,
}

impl Record {
    /// The key in the status store.
    pub fn key(&self) -> String {
        format!("{}{}", crate::told::PREFIX, self.subject)
    }

    /// The value in the status store.
    pub fn value(&self) -> String {
        self.fields.join(":")
    }

    /// The sample for the subject's file: its time, then a value per source.
    pub(crate) fn sample(&self) -> String {
        let fields = self.fields.iter().skip(self.subject.fields_before_time());
        let taken: Vec<&str> = fields
            .take(1 + self.subject.sources().len())
            .map(String::as_str)
            .collect();
        taken.join(":")
    }
}

/// How long tasks wait for one resource, per cent of the last ten seconds: some of them, or all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Some tasks waited.
    pub some: Figure,
    /// All tasks waited.
    pub full: Figure,
}

/// What there is to tell of a node. Memory, swap, file system and network in bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeFigures {
    /// Seconds since it started.
    pub uptime: u64,
    /// The level of its subscription; empty without one.
    pub level: String,
    /// When the figures were taken, Unix seconds.
    pub time: i64,
    /// Load average of one minute.
    pub load: f64,
    /// CPUs.
    pub cpus: u64,
    /// Share of the CPUs that was busy.
    pub cpu: Figure,
    /// Share of the CPUs that waited for I/O.
    pub wait: Figure,
    /// Memory: all.
    pub memory_total: u64,
    /// Memory: in use.
    pub memory_used: u64,
    /// Memory: what programs could still get.
    pub memory_available: u64,
    /// Swap: all.
    pub swap_total: u64,
    /// Swap: in use.
    pub swap_used: u64,
    /// Root file system: all.
    pub root_total: u64,
    /// Root file system: in use.
    pub root_used: u64,
    /// Received over physical interfaces since they are there.
    pub received: u64,
    /// Sent over physical interfaces since they are there.
    pub sent: u64,
    /// Size of ZFS's cache.
    pub arc_size: u64,
    /// Waits for CPUs.
    pub cpu_pressure: Pressure,
    /// Waits for I/O.
    pub io_pressure: Pressure,
    /// Waits for memory.
    pub memory_pressure: Pressure,
}

/// What there is to tell of a guest. Memory, disks and network in bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GuestFigures {
    /// Seconds since it started; 0 when it does not run.
    pub uptime: u64,
    /// Its name.
    pub name: String,
    /// Its state: `running`, `stopped`, or what its monitor says.
    pub status: String,
    /// Whether it is a template.
    pub template: bool,
    /// When the figures were taken, Unix seconds.
    pub time: i64,
    /// CPUs.
    pub cpus: Figure,
    /// Memory: all.
    pub memory_total: Figure,
    /// Disk: all.
    pub disk_total: Figure,
    /// Disk: in use.
    pub disk_used: Figure,
    /// What only a running guest has.
    pub running: Option<RunningFigures>,
}

/// What there is to tell of a guest that runs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RunningFigures {
    /// Share of its CPUs that is busy.
    pub cpu: Figure,
    /// Memory in use, as the guest sees it.
    pub memory_used: Figure,
    /// Memory of the host that it takes.
    pub host_memory: Figure,
    /// Received, since it started.
    pub received: Figure,
    /// Sent, since it started.
    pub sent: Figure,
    /// Read from its disks, since it started.
    pub read: Figure,
    /// Written to its disks, since it started.
    pub written: Figure,
    /// Waits for CPUs.
    pub cpu_pressure: Pressure,
    /// Waits for I/O.
    pub io_pressure: Pressure,
    /// Waits for memory.
    pub memory_pressure: Pressure,
}

/// What there is to tell of a storage, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageFigures {
    /// When the figures were taken, Unix seconds.
    pub time: i64,
    /// All.
    pub total: u64,
    /// In use.
    pub used: u64,
}

impl NodeFigures {
    /// The record of a node.
    pub fn record(&self, node: NodeName) -> Record {
        let mut line = Line::default();
        line.whole(self.uptime).text(&self.level).time(self.time);
        line.figure(Some(self.load)).whole(self.cpus);
        line.figure(self.cpu).figure(self.wait);
        line.whole(self.memory_total).whole(self.memory_used);
        line.whole(self.swap_total).whole(self.swap_used);
        line.whole(self.root_total).whole(self.root_used);
        line.whole(self.received).whole(self.sent);
        line.whole(self.memory_available).whole(self.arc_size);
        line.figure(self.cpu_pressure.some);
        line.pressure(self.io_pressure).pressure(self.memory_pressure);
        line.record(Subject::Node(node))
    }
}

impl GuestFigures {
    /// The record of a guest.
    pub fn record(&self, vmid: VmId) -> Record {
        let running = self.running.unwrap_or_default();
        let mut line = Line::default();
        line.whole(self.uptime).text(&self.name).text(&self.status);
        line.whole(self.template.into()).time(self.time);
        line.figure(self.cpus).figure(running.cpu);
        line.figure(self.memory_total).figure(running.memory_used);
        line.figure(self.disk_total);
        line.figure(self.disk_used);
        line.figure(running.received).figure(running.sent);
        line.figure(running.read).figure(running.written);
        line.figure(running.host_memory);
        line.pressure(running.cpu_pressure);
        line.pressure(running.io_pressure).pressure(running.memory_pressure);
        line.record(Subject::Guest(vmid))
    }
}

impl StorageFigures {
    /// The record of a storage as a node sees it.
    pub fn record(&self, node: NodeName, storage: StorageId) -> Record {
        let mut line = Line::default();
        line.time(self.time).whole(self.total).whole(self.used);
        line.record(Subject::Storage(node, storage))
    }
}

/// Collects the fields of a record.
#[derive(Default)]
struct Line(Vec<String>);

impl Line {
    fn push(&mut self, field: String) -> &mut Self {
        self.0.push(field);
        self
    }

    fn whole(&mut self, number: u64) -> &mut Self {
        self.push(number.to_string())
    }

    fn time(&mut self, time: i64) -> &mut Self {
        self.push(time.to_string())
    }

    fn figure(&mut self, figure: Figure) -> &mut Self {
        self.push(figure::text(figure))
    }

    fn pressure(&mut self, pressure: Pressure) -> &mut Self {
        self.figure(pressure.some).figure(pressure.full)
    }

    /// A colon would end the field.
    fn text(&mut self, text: &str) -> &mut Self {
        self.push(text.replace([':', '\n'], "_"))
    }

    fn record(self, subject: Subject) -> Record {
        Record {
            subject,
            fields: self.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 04 §20, vector 28.
    #[test]
    fn a_nodes_record_has_twenty_two_fields_in_order() {
        let figures = NodeFigures {
            uptime: 86400,
            level: "c".to_owned(),
            time: 1_700_000_000,
            load: 0.5,
            cpus: 8,
            cpu: Some(0.125),
            wait: Some(0.001),
            memory_total: 16_777_216_000,
            memory_used: 4_194_304_000,
            memory_available: 12_582_912_000,
            root_total: 100_000_000_000,
            root_used: 40_000_000_000,
            received: 333,
            sent: 444,
            cpu_pressure: Pressure {
                some: Some(0.0),
                full: Some(9.0),
            },
            io_pressure: Pressure {
                some: Some(0.1),
                full: Some(0.0),
            },
            memory_pressure: Pressure::default(),
            ..NodeFigures::default()
        };
        let record = figures.record("pve1".parse().unwrap());
        assert_eq!(record.key(), "rrd/pve-node-9.0/pve1");
        assert_eq!(
            record.value(),
            "86400:c:1700000000:0.5:8:0.125:0.001:16777216000:4194304000:0:0:100000000000:40000000000:333:444:\
             12582912000:0:0:0.1:0:U:U"
        );
        assert_eq!(record.value().split(':').count(), 22);
        assert_eq!(record.sample(), record.value().split_once("c:").unwrap().1);
        assert_eq!(record.sample().split(':').count(), 1 + record.subject.sources().len());
    }

    /// Reference 04 §20, vector 32.
    #[test]
    fn a_guest_that_is_off_has_no_figures_of_a_running_one() {
        let figures = GuestFigures {
            name: "db".to_owned(),
            status: "stopped".to_owned(),
            time: 1_700_000_000,
            cpus: Some(2.0),
            memory_total: Some(2_147_483_648.0),
            disk_total: Some(34_359_738_368.0),
            disk_used: Some(0.0),
            ..GuestFigures::default()
        };
        let record = figures.record(101.try_into().unwrap());
        assert_eq!(record.key(), "rrd/pve-vm-9.0/101");
        assert_eq!(
            record.value(),
            "0:db:stopped:0:1700000000:2:U:2147483648:U:34359738368:0:U:U:U:U:U:U:U:U:U:U:U"
        );
        assert_eq!(record.sample().split(':').count(), 18);
    }

    #[test]
    fn a_guest_that_runs_has_each_figure_in_its_place() {
        let pressure = |some, full| Pressure {
            some: Some(some),
            full: Some(full),
        };
        let figures = GuestFigures {
            uptime: 1,
            name: "a:b".to_owned(),
            status: "paused".to_owned(),
            template: true,
            time: 4,
            cpus: Some(5.0),
            memory_total: Some(7.0),
            disk_total: Some(9.0),
            disk_used: Some(10.0),
            running: Some(RunningFigures {
                cpu: Some(6.0),
                memory_used: Some(8.0),
                received: Some(11.0),
                sent: Some(12.0),
                read: Some(13.0),
                written: Some(14.0),
                host_memory: Some(15.0),
                cpu_pressure: pressure(16.0, 17.0),
                io_pressure: pressure(18.0, 19.0),
                memory_pressure: pressure(20.0, 21.0),
            }),
        };
        assert_eq!(
            figures.record(100.try_into().unwrap()).value(),
            "1:a_b:paused:1:4:5:6:7:8:9:10:11:12:13:14:15:16:17:18:19:20:21"
        );
    }

    #[test]
    fn a_storages_record_is_its_sample() {
        let figures = StorageFigures {
            time: 1_700_000_000,
            total: 1000,
            used: 400,
        };
        let record = figures.record("n".parse().unwrap(), "local".parse().unwrap());
        assert_eq!(record.key(), "rrd/pve-storage-9.0/n/local");
        assert_eq!(
            (record.value(), record.sample()),
            ("1700000000:1000:400".to_owned(), "1700000000:1000:400".to_owned())
        );
    }
}
