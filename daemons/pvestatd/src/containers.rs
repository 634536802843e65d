//! The node's containers (reference 04 §9.6, §9.8, §12).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use pve_daemon::BoxError;
use pve_lxc::cpuset::Balancer;
use pve_lxc::status::row::row;
use pve_lxc::status::{self, Pressure, Running, Status};
use pve_lxc::{console, files};
use pve_metrics::record::RunningFigures;
use pve_metrics::{GuestFigures, Objects, Snapshot};
use pve_schema::Context;

use crate::cycle::publish;
use crate::errands::{Fault, Found};
use crate::outbox::Outbox;

/// Looks at all containers and tells what it saw. What goes wrong with one keeps no other from being told of.
pub(crate) fn update(context: &Context, outbox: &Outbox) -> Result<Found, BoxError> {
    let vmids = files::list(context)?;
    let seen = status::list(context, &vmids, true);
    let now = context.now();
    let mut faults: Vec<Fault> = seen
        .faults
        .into_iter()
        .map(|(vmid, error)| Fault::new(vmid, error))
        .collect();
    let mut objects = BTreeMap::new();
    for status in &seen.statuses {
        if let Err(error) = publish(context, &figures(status, now).record(status.vmid)) {
            faults.push(Fault::new(status.vmid, error));
        }
        objects.insert(status.vmid, row(status));
    }
    outbox.post(Snapshot {
        time: now,
        objects: Objects::Lxc(objects),
    });
    Ok(faults.into())
}

/// Spreads containers with fewer cores than the node over its CPUs.
pub(crate) fn balance(context: &Context, balancer: &Mutex<Balancer>) -> Result<Found, BoxError> {
    let mut balancer = balancer.lock().unwrap_or_else(PoisonError::into_inner);
    let faults = balancer.run(context, &files::list(context)?);
    let fault = |(vmid, error)| Fault::new(vmid, error);
    Ok(faults.into_iter().map(fault).collect::<Vec<_>>().into())
}

/// Ends consoles of containers that this node has no more.
pub(crate) fn end_consoles(context: &Context) -> Result<Found, BoxError> {
    console::end_stale(context, Path::new("/proc"))?;
    Ok(Found::default())
}

/// The figures of a container's record. Upstream tells the host's memory of VMs only.
fn figures(status: &Status, now: i64) -> GuestFigures {
    GuestFigures {
        uptime: status.running.as_ref().map_or(0, |running| running.uptime),
        name: status.name.clone(),
        status: if status.running.is_some() { "running" } else { "stopped" }.to_owned(),
        template: status.template,
        time: now,
        cpus: Some(status.cpus),
        memory_total: Some(float(status.memory_total)),
        disk_total: Some(float(status.disk_total)),
        disk_used: status.disk.map(float),
        running: status.running.as_ref().map(running_figures),
    }
}

fn running_figures(running: &Running) -> RunningFigures {
    let usage = running.usage;
    RunningFigures {
        cpu: Some(running.cpu),
        memory_used: Some(float(usage.memory)),
        host_memory: None,
        received: Some(float(running.received)),
        sent: Some(float(running.sent)),
        read: Some(float(usage.read)),
        written: Some(float(usage.written)),
        cpu_pressure: pressure(&running.cpu_pressure),
        io_pressure: pressure(&running.io_pressure),
        memory_pressure: pressure(&running.memory_pressure),
    }
}

fn pressure(told: &Pressure) -> pve_metrics::Pressure {
    let number = |text: &Option<String>| text.as_deref()?.parse().ok();
    pve_metrics::Pressure {
        some: number(&told.some),
        full: number(&told.full),
    }
}

/// A counter as a figure: a record has fifteen digits.
#[allow(clippy::cast_precision_loss)]
fn float(counter: u64) -> f64 {
    counter as f64
}

#[cfg(test)]
mod tests {
    use pve_lxc::status::Usage;

    use super::*;

    fn status(running: Option<Running>) -> Status {
        Status {
            vmid: "812".parse().unwrap(),
            name: "web".to_owned(),
            cpus: 0.5,
            memory_total: 1000,
            swap_total: 500,
            disk_total: 100,
            disk: Some(if running.is_some() { 7 } else { 0 }),
            template: false,
            lock: None,
            tags: None,
            running,
        }
    }

    fn record(status: &Status) -> String {
        figures(status, 5).record(status.vmid).value()
    }

    #[test]
    fn a_containers_figures_become_its_record() {
        let told = |some: &str, full: &str| Pressure {
            some: Some(some.to_owned()),
            full: Some(full.to_owned()),
        };
        let running = Running {
            pid: Some(9),
            uptime: 60,
            cpu: 0.25,
            usage: Usage {
                cpu: 1,
                memory: 10,
                swap: 11,
                read: 12,
                written: 13,
            },
            received: 14,
            sent: 15,
            cpu_pressure: told("1.25", "0.00"),
            io_pressure: Pressure::default(),
            memory_pressure: told("0.50", "0.25"),
        };
        let mut status = status(Some(running));
        assert_eq!(
            record(&status),
            "60:web:running:0:5:0.5:0.25:1000:10:100:7:14:15:12:13:U:1.25:0:U:U:0.5:0.25"
        );
        status.disk = None;
        assert!(record(&status).contains(":100:U:14:"), "unknown is not empty");
    }

    #[test]
    fn one_that_is_off_has_no_figures_of_a_running_one() {
        let off = "0:web:stopped:0:5:0.5:U:1000:U:100:0:U:U:U:U:U:U:U:U:U:U:U";
        assert_eq!(record(&status(None)), off);
    }
}
