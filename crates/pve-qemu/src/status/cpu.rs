//! How busy a VM's process is (reference 06b §4, field `cpu`): the host's side of [`pve_guest::rates`].

use std::fs;
use std::path::PathBuf;

use pve_guest::rates::HostClock;
use pve_schema::Site;

use crate::runtime;

/// The host's clock, for readings in clock ticks; what cannot be read is as on nearly every machine.
pub(crate) fn clock() -> HostClock {
    let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    let uptime = fs::read_to_string("/proc/uptime").ok();
    let uptime = uptime.and_then(|text| text.split_ascii_whitespace().next()?.parse().ok());
    HostClock {
        units: hertz.map_or(100.0, |hertz| hertz as f64),
        cpus: std::thread::available_parallelism().map_or(1.0, |cpus| cpus.get() as f64),
        uptime: uptime.unwrap_or(0.0),
    }
}

/// Where the readings of VMs lie.
pub(crate) fn samples(site: &Site) -> PathBuf {
    runtime::directory(site).join("cpu-samples.json")
}
