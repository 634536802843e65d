//! What lists and status pages show of containers (reference 04 §14.3, 07 §8).
//!
//! | module | holds |
//! |---|---|
//! | here | the figures of containers |
//! | `sockets` | which containers run |
//! | `looks` | their first processes and file systems |
//! | `monitor` | asking a monitor |
//! | `crew` | asking many that may hang |
//! | `groups` | what their control groups tell |
//! | [`row`] | the figures as the API has them |

mod crew;
pub(crate) mod groups;
mod looks;
mod monitor;
pub mod row;
mod sockets;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use pve_cfs::{Cfs, make_run_dir};
use pve_guest::interface::GuestInterface;
use pve_guest::rates::{HostClock, Rates};
use pve_guest::{GuestConfig, GuestError, GuestKind};
use pve_node::status::network::interfaces;
use pve_node::status::{CpuInfo, Traffic, clock_ticks};
use pve_schema::ids::VmId;
use pve_schema::{Context, Site};

use crate::config::ContainerConfig;
use crate::{files, names};
use groups::Groups;
pub use groups::{Pressure, Usage};
use looks::Look;

/// Where the daemons of a node share files.
const RUN_DIR: &str = "/run/pve";
/// Where the readings of CPU times lie.
const SAMPLES: &str = "/run/pve/ct-cpu-samples.json";
/// CPU time in a second of one CPU, in the unit of the readings.
const MILLISECONDS: f64 = 1000.0;

/// The figures of a container. Memory, disks and network in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Its number.
    pub vmid: VmId,
    /// What lists call it.
    pub name: String,
    /// CPUs that it may use; a part of one if it is limited to that.
    pub cpus: f64,
    /// Memory: all.
    pub memory_total: u64,
    /// Swap: all.
    pub swap_total: u64,
    /// Root disk: all.
    pub disk_total: u64,
    /// Root disk: in use; `None` when nobody tells.
    pub disk: Option<u64>,
    /// Whether it is a template.
    pub template: bool,
    /// Which long operation owns it.
    pub lock: Option<String>,
    /// Its tags.
    pub tags: Option<String>,
    /// What only a running container has.
    pub running: Option<Running>,
}

/// The figures of a container that runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Running {
    /// Its first process; `None` when nobody tells.
    pub pid: Option<u32>,
    /// Seconds since that started.
    pub uptime: u64,
    /// Share of its CPUs that is busy.
    pub cpu: f64,
    /// What it used.
    pub usage: Usage,
    /// Received, as the container sees it.
    pub received: u64,
    /// Sent, as the container sees it.
    pub sent: u64,
    /// Waits for CPUs.
    pub cpu_pressure: Pressure,
    /// Waits for I/O.
    pub io_pressure: Pressure,
    /// Waits for memory.
    pub memory_pressure: Pressure,
}

/// What was seen of many.
#[derive(Debug, Default)]
pub struct Seen {
    /// The figures.
    pub statuses: Vec<Status>,
    /// What could not be found out of single ones.
    pub faults: Vec<(VmId, String)>,
}

/// The figures of containers of this node. One whose config vanished meanwhile is left out. `complete` is for
/// pvestatd alone: these are all of them, and others compare with its readings. One that hangs is told of with what is known without it.
pub fn list(context: &Context, vmids: &[VmId], complete: bool) -> Seen {
    let mut host = Host::read(&context.site, vmids);
    let mut seen = Seen::default();
    for vmid in vmids {
        match files::load_silently(context, *vmid) {
            Ok(Some(config)) => {
                let (status, fault) = host.status(*vmid, &config);
                seen.statuses.push(status);
                seen.faults.extend(fault.map(|fault| (*vmid, fault)));
            }
            Ok(None) => {}
            Err(error) => seen.faults.push((*vmid, error.to_string())),
        }
    }
    host.store(&context.site, complete);
    seen
}

/// The figures of one container.
///
/// # Errors
/// When there is no such container.
pub fn current(context: &Context, vmid: VmId) -> Result<Status, GuestError> {
    let config = files::load_silently(context, vmid)?.ok_or_else(|| GuestError::NotFound(path(context, vmid)))?;
    let mut host = Host::read(&context.site, &[vmid]);
    let (status, fault) = host.status(vmid, &config);
    if let Some(fault) = fault {
        log::warn!("status of CT {vmid} - {fault}");
    }
    host.store(&context.site, false);
    Ok(status)
}

fn path(context: &Context, vmid: VmId) -> String {
    Cfs::guest_config_path(GuestKind::Lxc, &context.site.node, vmid)
}

/// What is read of the host once for all containers.
struct Host {
    clock: HostClock,
    rates: Rates,
    groups: Groups,
    parent: PathBuf,
    running: BTreeMap<VmId, u64>,
    looks: BTreeMap<VmId, Look>,
    traffic: BTreeMap<VmId, Traffic>,
}

impl Host {
    fn read(site: &Site, vmids: &[VmId]) -> Self {
        let mut running = sockets::running(site);
        let wanted: BTreeSet<&VmId> = vmids.iter().collect();
        running.retain(|vmid, _| wanted.contains(vmid));
        Self {
            clock: clock(),
            rates: Rates::load(site.path(SAMPLES)),
            groups: Groups::at(Path::new(groups::ROOT)),
            parent: PathBuf::from(names::control_group(site)),
            looks: looks::at(site, &running),
            traffic: if running.is_empty() {
                BTreeMap::new()
            } else {
                traffic(site)
            },
            running,
        }
    }

    /// Keeps the readings. Without a container that runs there is nothing to keep them for, and perhaps no directory.
    fn store(self, site: &Site, complete: bool) {
        let made = if self.running.is_empty() {
            Ok(())
        } else {
            make_run_dir(site, RUN_DIR).map(drop)
        };
        match made {
            Ok(()) => self.rates.store(complete),
            Err(error) => log::debug!("unable to keep CPU readings - {error}"),
        }
    }

    fn status(&mut self, vmid: VmId, config: &GuestConfig) -> (Status, Option<String>) {
        let ct = ContainerConfig::new(&config.main);
        let look = self.looks.remove(&vmid).unwrap_or_default();
        let mut status = Status {
            vmid,
            name: ct.name(vmid),
            cpus: ct.cpus().unwrap_or(self.clock.cpus),
            memory_total: ct.memory(),
            swap_total: ct.swap(),
            disk_total: ct.disk(),
            disk: Some(0),
            template: config.is_template(),
            lock: ct.get("lock").map(str::to_owned),
            tags: ct.get("tags").map(str::to_owned),
            running: None,
        };
        if let Some(inode) = self.running.get(&vmid).copied() {
            status.disk = None;
            if let Some(disk) = look.disk.filter(|disk| disk.total > 0) {
                (status.disk, status.disk_total) = (Some(disk.used), disk.total);
            }
            status.running = Some(self.running(vmid, inode, &look, status.cpus));
        }
        (status, look.fault)
    }

    fn running(&mut self, vmid: VmId, inode: u64, look: &Look, cpus: f64) -> Running {
        let group = self.parent.join(vmid.to_string());
        // What comes between two readings of a counter is the time between two readings of this.
        self.clock.uptime = uptime();
        let usage = self.groups.usage(&group);
        let traffic = self.traffic.get(&vmid).copied().unwrap_or_default();
        Running {
            pid: look.first.map(|first| first.pid),
            uptime: look.first.map_or(0, |first| age(first.started, self.clock.uptime)),
            // The socket's inode: no other life of the container has it.
            cpu: self.rates.rate(vmid.get(), inode, usage.cpu, cpus, self.clock),
            usage,
            // What the host sends is what the container receives.
            received: traffic.sent,
            sent: traffic.received,
            cpu_pressure: self.groups.pressure(&group, "cpu"),
            io_pressure: self.groups.pressure(&group, "io"),
            memory_pressure: self.groups.pressure(&group, "memory"),
        }
    }
}

/// Seconds since a tick, at so many seconds since boot.
fn age(started: u64, uptime: f64) -> u64 {
    // Ticks of a machine's life are far from the numbers that a double cannot tell apart, and a time is not negative.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    let age = (uptime - started as f64 / clock_ticks()).max(0.0) as u64;
    age
}

/// Seconds since boot.
fn uptime() -> f64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let first = uptime.split_ascii_whitespace().next();
    first.and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

fn clock() -> HostClock {
    // A small number.
    #[allow(clippy::cast_precision_loss)]
    let cpus = CpuInfo::of_machine().cpus.max(1) as f64;
    HostClock {
        uptime: uptime(),
        cpus,
        units: MILLISECONDS,
    }
}

/// What went through the network cards of each container, as the host sees it.
fn traffic(site: &Site) -> BTreeMap<VmId, Traffic> {
    let mut sums: BTreeMap<VmId, Traffic> = BTreeMap::new();
    for interface in interfaces() {
        let guest = GuestInterface::parse(site, &interface.name);
        if let Some(guest) = guest.filter(|guest| guest.kind == GuestKind::Lxc) {
            let sum = sums.entry(guest.vmid).or_default();
            *sum = [*sum, interface.traffic].into_iter().sum();
        }
    }
    sums
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::config::ContainerRules;

    /// What listens where a container's monitor does.
    pub(in crate::status) struct Monitor(Arc<AtomicUsize>);

    impl Monitor {
        /// How often it was asked.
        pub(in crate::status) fn asked(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    /// Says for as long as the test's process is there which process is the first one.
    pub(in crate::status) fn monitor(site: &Site, vmid: VmId, pid: u32) -> Monitor {
        let name = names::command_socket(site, vmid);
        let address = SocketAddr::from_abstract_name(name.as_os_str().as_bytes()).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, mut request) = (stream.unwrap(), [0; 16]);
                // One that asks nothing after all.
                if stream.read_exact(&mut request).is_err() {
                    continue;
                }
                assert_eq!(request[..4], 4_i32.to_ne_bytes());
                count.fetch_add(1, Ordering::SeqCst);
                let mut answer = [0; 16];
                answer[8..].copy_from_slice(&i64::from(pid).to_ne_bytes());
                stream.write_all(&answer).unwrap();
            }
        });
        Monitor(asked)
    }

    #[test]
    fn what_the_host_sends_a_container_receives() {
        let directory = tempfile::tempdir().unwrap();
        let context = pve_testing::context(directory.path(), "n1");
        let vmid: VmId = "812".parse().unwrap();
        let mut host = Host::read(&context.site, &[vmid]);
        host.running.insert(vmid, 5);
        let traffic = Traffic { received: 7, sent: 9 };
        host.traffic.insert(vmid, traffic);
        host.clock.uptime = 0.0;
        let config = GuestConfig::parse(&ContainerRules, vmid, b"rootfs: l:x,size=1G\n").config;
        let (status, _) = host.status(vmid, &config);
        assert_eq!((status.disk, status.disk_total), (None, 1 << 30), "nobody tells");
        let running = status.running.unwrap();
        assert_eq!((running.received, running.sent), (9, 7));
        assert!(host.clock.uptime > 0.0, "the time is that of the counters");
    }

    #[test]
    fn a_container_that_is_off_has_what_its_config_says() {
        let directory = tempfile::tempdir().unwrap();
        let context = pve_testing::context(directory.path(), "n1");
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        let config =
            "hostname: web\ncpulimit: 0.5\nlock: backup\nrootfs: l:812/x.raw,size=1G\ntags: a;b\ntemplate: 1\n";
        cfs.create("nodes/n1/lxc/812.conf", config.as_bytes()).unwrap();
        let vmids: Vec<VmId> = ["812", "813"].map(|vmid| vmid.parse().unwrap()).into();
        let seen = list(&context, &vmids, true);
        let expected = Status {
            vmid: vmids[0],
            name: "web".to_owned(),
            cpus: 0.5,
            memory_total: 512 << 20,
            swap_total: 0,
            disk_total: 1 << 30,
            disk: Some(0),
            template: true,
            lock: Some("backup".to_owned()),
            tags: Some("a;b".to_owned()),
            running: None,
        };
        assert_eq!((seen.statuses, seen.faults), (vec![expected.clone()], vec![]));
        assert_eq!(current(&context, vmids[0]).unwrap(), expected);
        let missing = current(&context, vmids[1]).unwrap_err().to_string();
        assert_eq!(missing, "Configuration file 'nodes/n1/lxc/813.conf' does not exist");
    }

    #[test]
    fn ages_are_whole_seconds() {
        assert_eq!((age(150, 3.4), age(500, 1.0)), (1, 0));
    }
}
