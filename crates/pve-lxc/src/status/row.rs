//! The figures of a container as the API has them, and metric servers (reference 04 §14.3).

use pve_metrics::figure;
use serde_json::{Map, Value};

use super::{Pressure, Running, Status};

/// A container's row.
pub fn row(status: &Status) -> Map<String, Value> {
    let state = if status.running.is_some() { "running" } else { "stopped" };
    let mut row = Map::new();
    let mut set = |name: &str, value: Value| {
        row.insert(name.to_owned(), value);
    };
    set("type", "lxc".into());
    set("vmid", status.vmid.get().into());
    set("name", status.name.as_str().into());
    set("status", state.into());
    set("cpus", number(status.cpus));
    set("maxmem", status.memory_total.into());
    set("maxswap", status.swap_total.into());
    set("maxdisk", status.disk_total.into());
    if let Some(disk) = status.disk {
        set("disk", disk.into());
    }
    let off = Running::default();
    let running = status.running.as_ref().unwrap_or(&off);
    set("uptime", running.uptime.into());
    set("cpu", number(running.cpu));
    set("mem", running.usage.memory.into());
    set("swap", running.usage.swap.into());
    set("diskread", running.usage.read.into());
    set("diskwrite", running.usage.written.into());
    set("netin", running.received.into());
    set("netout", running.sent.into());
    if let Some(pid) = running.pid {
        set("pid", pid.into());
    }
    if status.running.is_some() {
        let mut pressure = |resource: &str, pressure: &Pressure| {
            // Upstream tells them as text, and nothing where the kernel does not tell.
            set(&format!("pressure{resource}some"), pressure.some.as_deref().into());
            set(&format!("pressure{resource}full"), pressure.full.as_deref().into());
        };
        pressure("cpu", &running.cpu_pressure);
        pressure("io", &running.io_pressure);
        pressure("memory", &running.memory_pressure);
    }
    if status.template {
        row.insert("template".to_owned(), 1.into());
    }
    for (name, text) in [("lock", &status.lock), ("tags", &status.tags)] {
        if let Some(text) = text {
            row.insert(name.to_owned(), text.as_str().into());
        }
    }
    row
}

fn number(value: f64) -> Value {
    figure::json(value).unwrap_or_else(|| 0.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Usage;
    use super::*;

    fn status(running: Option<Running>) -> Status {
        Status {
            vmid: "812".parse().unwrap(),
            name: "web".to_owned(),
            cpus: 2.0,
            memory_total: 1000,
            swap_total: 500,
            disk_total: 100,
            disk: Some(7),
            template: false,
            lock: None,
            tags: Some("a;b".to_owned()),
            running,
        }
    }

    #[test]
    fn a_row_of_one_that_runs() {
        let text = |text: &str| Some(text.to_owned());
        let running = Running {
            pid: Some(4711),
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
            cpu_pressure: Pressure {
                some: text("1.25"),
                full: text("0.00"),
            },
            ..Running::default()
        };
        let expected = json!({
            "type": "lxc", "vmid": 812, "name": "web", "status": "running", "pid": 4711, "cpus": 2, "cpu": 0.25,
            "maxmem": 1000, "mem": 10, "maxswap": 500, "swap": 11, "maxdisk": 100, "disk": 7, "diskread": 12,
            "diskwrite": 13, "netin": 14, "netout": 15, "uptime": 60, "tags": "a;b",
            "pressurecpusome": "1.25", "pressurecpufull": "0.00", "pressureiosome": null, "pressureiofull": null,
            "pressurememorysome": null, "pressurememoryfull": null,
        });
        let mut status = status(Some(running));
        assert_eq!(Value::Object(row(&status)), expected);
        status.disk = None;
        assert!(!row(&status).contains_key("disk"), "unknown is not empty");
    }

    #[test]
    fn a_row_of_one_that_is_off() {
        let off = Status {
            cpus: 0.5,
            disk: Some(0),
            template: true,
            lock: Some("backup".to_owned()),
            tags: None,
            ..status(None)
        };
        let expected = json!({
            "type": "lxc", "vmid": 812, "name": "web", "status": "stopped", "cpus": 0.5, "cpu": 0, "maxmem": 1000,
            "mem": 0, "maxswap": 500, "swap": 0, "maxdisk": 100, "disk": 0, "diskread": 0, "diskwrite": 0, "netin": 0,
            "netout": 0, "uptime": 0, "template": 1, "lock": "backup",
        });
        assert_eq!(Value::Object(row(&off)), expected);
    }
}
