//! The node's VMs (reference 04 §9.5).
//!
//! All monitors are asked at once, for two seconds, and half a second those that did not answer the last time: one that
//! hangs makes all figures that much later; see [`pve_qemu::status`]. It is one fault of one machine.

use std::collections::{BTreeMap, BTreeSet};

use pve_daemon::BoxError;
use pve_metrics::record::RunningFigures;
use pve_metrics::{GuestFigures, Objects, Pressure, Record, Snapshot};
use pve_node::status::Memory;
use pve_qemu::status::{self, Detail, Row, Survey};
use pve_qemu::{balloon, files};
use pve_schema::Context;
use pve_schema::ids::VmId;
use serde_json::Value;

use crate::ballooning;
use crate::cycle::publish_all;
use crate::errands::{Fault, Found, Seen};
use crate::outbox::Outbox;

/// What a fault of ballooning as a whole is about.
const BALLOONING: &str = "ballooning";

/// Looks at all VMs, sets their balloons, and tells what it saw. What goes wrong with one keeps no other from being told
/// of.
pub(crate) fn update(context: &Context, outbox: &Outbox) -> Result<Found, BoxError> {
    let vmids = files::list(context)?;
    let Survey { rows, silent, unseen } = status::survey(context, &vmids, Detail::Full, true);
    let now = context.now();
    let mut faults: Vec<Fault> = silent.iter().map(|(vmid, error)| Fault::new(vmid, error)).collect();
    faults.extend(unseen.iter().map(|(vmid, error)| Fault::new(vmid, error)));
    let records: Vec<Record> = rows.iter().map(|(vmid, row)| figures(row, now).record(*vmid)).collect();
    for (vmid, errors) in rows.keys().zip(publish_all(context, &records)) {
        faults.extend(errors.into_iter().map(|error| Fault::new(vmid, error)));
    }
    faults.extend(set_balloons(context, &rows));
    let sound = Some(sound(&rows));
    outbox.post(Snapshot {
        time: now,
        objects: Objects::Qemu(rows),
    });
    Ok(Found {
        seen: Seen { faults, sound },
        ..Found::default()
    })
}

/// Of whom it is worth saying that nothing is wrong any more: each of whom there is a row, one that was switched off too,
/// and ballooning. Who has a fault is in this none the less.
fn sound(rows: &BTreeMap<VmId, Row>) -> BTreeSet<String> {
    let vmids = rows.keys().map(ToString::to_string);
    vmids.chain([BALLOONING.to_owned()]).collect()
}

fn is_running(row: &Row) -> bool {
    row.contains_key("pid")
}

/// Gives guests memory back, or takes some.
fn set_balloons(context: &Context, rows: &BTreeMap<VmId, Row>) -> Vec<Fault> {
    let running = rows
        .iter()
        .filter(|(_, row)| is_running(row))
        .map(|(vmid, row)| (*vmid, row));
    match ballooning::plan(context, &Memory::read(), running) {
        Ok(sizes) => {
            let failed = balloon::set_all(&context.site, &sizes);
            failed.iter().map(|(vmid, error)| Fault::warning(vmid, error)).collect()
        }
        Err(error) => vec![Fault::new(BALLOONING, format!("auto ballooning error: {error}"))],
    }
}

/// The figures of a VM's row.
fn figures(row: &Row, now: i64) -> GuestFigures {
    let figure = |key: &str| row.get(key).and_then(Value::as_f64);
    let text = |key: &str| row.get(key).and_then(Value::as_str);
    let pressure = |some: &str, full: &str| Pressure {
        some: figure(some),
        full: figure(full),
    };
    let running = is_running(row).then(|| RunningFigures {
        cpu: figure("cpu"),
        memory_used: figure("mem"),
        host_memory: figure("memhost"),
        received: figure("netin"),
        sent: figure("netout"),
        read: figure("diskread"),
        written: figure("diskwrite"),
        cpu_pressure: pressure("pressurecpusome", "pressurecpufull"),
        io_pressure: pressure("pressureiosome", "pressureiofull"),
        memory_pressure: pressure("pressurememorysome", "pressurememoryfull"),
    });
    GuestFigures {
        uptime: row.get("uptime").and_then(Value::as_u64).unwrap_or(0),
        name: text("name").unwrap_or_default().to_owned(),
        status: text("qmpstatus").or(text("status")).unwrap_or("unknown").to_owned(),
        template: row.get("template").and_then(Value::as_u64) == Some(1),
        time: now,
        cpus: figure("cpus"),
        memory_total: figure("maxmem"),
        disk_total: figure("maxdisk"),
        disk_used: figure("disk"),
        running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(row: Value) -> String {
        let row = row.as_object().unwrap();
        figures(row, 5).record(100.try_into().unwrap()).value()
    }

    #[test]
    fn machines_that_are_off_and_ballooning_can_be_well_again() {
        let off = Row::from_iter([("status".to_owned(), "stopped".into())]);
        let rows = BTreeMap::from([(100.try_into().unwrap(), off)]);
        assert_eq!(sound(&rows), ["100", "ballooning"].map(str::to_owned).into());
    }

    #[test]
    fn a_vms_row_becomes_its_record() {
        let row = json!({"vmid": 100, "name": "web", "status": "running", "qmpstatus": "paused", "pid": 7, "uptime": 9,
            "cpus": 2, "cpu": 0.25, "mem": 3, "memhost": 4, "maxmem": 10, "maxdisk": 20, "disk": 0, "netin": 1,
            "netout": 2, "diskread": 11, "diskwrite": 12, "template": 1});
        assert_eq!(record(row), "9:web:paused:1:5:2:0.25:10:3:20:0:1:2:11:12:4:U:U:U:U:U:U");
    }

    #[test]
    fn a_vm_whose_monitor_hangs_has_no_disk_figures() {
        let row = json!({"vmid": 100, "name": "web", "status": "running", "qmpstatus": "running", "pid": 7, "uptime": 9,
            "cpus": 2, "cpu": 0, "mem": 3, "memhost": 4, "maxmem": 10, "maxdisk": 20, "disk": 0, "netin": 1,
            "netout": 2});
        assert_eq!(record(row), "9:web:running:0:5:2:0:10:3:20:0:1:2:U:U:4:U:U:U:U:U:U");
    }

    #[test]
    fn a_vm_that_is_off_has_no_figures_of_a_running_one() {
        let row = json!({"vmid": 100, "name": "db", "status": "stopped", "qmpstatus": "stopped", "uptime": 0, "cpus": 2,
            "cpu": 0, "mem": 0, "memhost": 0, "maxmem": 10, "maxdisk": 20, "disk": 0, "netin": 0, "netout": 0,
            "diskread": 0, "diskwrite": 0});
        assert_eq!(record(row), "0:db:stopped:0:5:2:U:10:U:20:0:U:U:U:U:U:U:U:U:U:U:U");
    }
}
