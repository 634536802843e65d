//! What lists and status pages show of VMs (reference 06b §4).
//!
//! The plain fields come from the config and from `/proc`; with [`Detail::Full`] the monitors are asked too, all at the
//! same time and for no longer than two seconds, so that a VM that hangs costs nobody its own fields.

mod cpu;
mod monitor;
mod traffic;

use std::collections::BTreeMap;
use std::fs;

use pve_guest::GuestConfig;
use pve_schema::ids::VmId;
use pve_schema::{Context, Site};
use serde_json::{Map, Value, json};

use crate::config::{Boot, DriveKey, VmConfig};
use crate::files::{self, FileError};
use crate::network::tap_name;
use crate::process::{self, Stat};
use crate::runtime::Runtime;

use cpu::{HostClock, Samples};
use monitor::Answers;
use traffic::Traffic;

/// How many monitors are asked at once; each costs a thread for up to two seconds.
const MAX_ASKED: usize = 256;

/// How much is to be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What needs no monitor.
    Plain,
    /// Everything.
    Full,
}

/// The rows of a list. A VM whose config vanished meanwhile is left out. `complete` says that these are all VMs of the
/// node.
pub fn list(context: &Context, vmids: &[VmId], detail: Detail, complete: bool) -> Vec<Map<String, Value>> {
    let answers = match detail {
        Detail::Plain => BTreeMap::new(),
        Detail::Full => ask_all(&context.site, vmids),
    };
    let mut host = Host::read(&context.site);
    let rows = vmids
        .iter()
        .filter_map(|vmid| {
            let config = files::load(context, *vmid).ok()?;
            Some(host.row(*vmid, &config, detail, answers.get(vmid)))
        })
        .collect();
    host.samples.store(complete);
    rows
}

/// The status page of one VM.
///
/// # Errors
/// When there is no such VM.
pub fn current(context: &Context, vmid: VmId) -> Result<Map<String, Value>, FileError> {
    let config = files::load(context, vmid)?;
    let answers = Answers::ask(&context.site, vmid);
    let mut host = Host::read(&context.site);
    let mut row = host.row(vmid, &config, Detail::Full, answers.as_ref());
    host.samples.store(false);
    let vm = VmConfig::new(&config.main);
    // The high-availability manager is not part of the suite yet: it manages nothing.
    row.insert("ha".to_owned(), json!({ "managed": 0 }));
    let vga = vm.vga();
    if vga.has_spice() {
        row.insert("spice".to_owned(), 1.into());
    }
    if vga.vnc_clipboard {
        row.insert("clipboard".to_owned(), "vnc".into());
    }
    if vm.agent().is_some() {
        row.insert("agent".to_owned(), 1.into());
    }
    Ok(row)
}

/// Asks all monitors at once.
fn ask_all(site: &Site, vmids: &[VmId]) -> BTreeMap<VmId, Answers> {
    let running: Vec<VmId> = vmids
        .iter()
        .copied()
        .filter(|vmid| process::is_running(site, *vmid))
        .collect();
    let mut all = BTreeMap::new();
    for some in running.chunks(MAX_ASKED) {
        let answers = std::thread::scope(|scope| {
            let threads: Vec<_> = some
                .iter()
                .map(|vmid| (*vmid, scope.spawn(|| Answers::ask(site, *vmid))))
                .collect();
            let join = |(vmid, thread): (VmId, std::thread::ScopedJoinHandle<'_, Option<Answers>>)| {
                Some((vmid, thread.join().ok()??))
            };
            threads.into_iter().filter_map(join).collect::<Vec<_>>()
        });
        all.extend(answers);
    }
    all
}

/// What is read of the host once for all rows.
struct Host<'a> {
    site: &'a Site,
    clock: HostClock,
    samples: Samples,
    traffic: BTreeMap<String, Traffic>,
}

impl<'a> Host<'a> {
    fn read(site: &'a Site) -> Self {
        Self {
            site,
            clock: HostClock::read(),
            samples: Samples::load(site),
            traffic: traffic::read(),
        }
    }

    fn row(
        &mut self,
        vmid: VmId,
        config: &GuestConfig,
        detail: Detail,
        answers: Option<&Answers>,
    ) -> Map<String, Value> {
        let vm = VmConfig::new(&config.main);
        let mut row = configured(vmid, vm, self.clock.cpus);
        let full = detail == Detail::Full;
        match process::find(self.site, vmid) {
            Some(process) => self.add_running(&mut row, vmid, vm, process, full),
            None => add_stopped(&mut row, full),
        }
        if let Some(answers) = answers {
            let memory = vm.memory().saturating_mul(1 << 20);
            let revision = Runtime::new(self.site, vmid).machine_revision();
            row.extend(answers.fields(memory, &revision));
        }
        row
    }

    fn add_running(
        &mut self,
        row: &mut Map<String, Value>,
        vmid: VmId,
        vm: VmConfig<'_>,
        process: process::Process,
        full: bool,
    ) {
        let mut set = |name: &str, value: Value| {
            row.insert(name.to_owned(), value);
        };
        set("status", "running".into());
        set("pid", process.pid.into());
        let ticks = Stat::read(process.pid).map_or(0, |stat| stat.ticks);
        let cpus = visible_cpus(vm, self.clock.cpus);
        let rate = self.samples.rate(process.pid, process.started, ticks, cpus, self.clock);
        set("cpu", fraction(rate));
        let memory = resident_memory(process.pid);
        set("mem", memory.into());
        set("memhost", memory.into());
        let uptime = self.clock.uptime - process.started as f64 / self.clock.hertz;
        set("uptime", (uptime.max(0.0) as u64).into());
        let nics: Vec<(String, Traffic)> = vm
            .net_texts()
            .filter_map(|(number, _)| {
                let traffic = self.traffic.get(&tap_name(self.site, vmid, number))?;
                Some((format!("tap{vmid}i{number}"), *traffic))
            })
            .collect();
        let total: Traffic = nics.iter().map(|(_, traffic)| *traffic).sum();
        set("netin", total.received.into());
        set("netout", total.sent.into());
        if full {
            set("qmpstatus", "running".into());
            if !nics.is_empty() {
                let counters = |traffic: Traffic| json!({ "netin": traffic.received, "netout": traffic.sent });
                set(
                    "nics",
                    nics.into_iter()
                        .map(|(name, traffic)| (name, counters(traffic)))
                        .collect(),
                );
            }
        }
    }
}

/// The fields of a VM that is off (reference 06b, vector 9).
fn add_stopped(row: &mut Map<String, Value>, full: bool) {
    row.insert("status".to_owned(), "stopped".into());
    for name in ["cpu", "mem", "memhost", "uptime", "netin", "netout"] {
        row.insert(name.to_owned(), 0.into());
    }
    if full {
        row.insert("qmpstatus".to_owned(), "stopped".into());
        row.insert("diskread".to_owned(), 0.into());
        row.insert("diskwrite".to_owned(), 0.into());
    }
}

/// What the config alone says.
fn configured(vmid: VmId, vm: VmConfig<'_>, host_cpus: f64) -> Map<String, Value> {
    let mut row = Map::new();
    let mut set = |name: &str, value: Value| {
        row.insert(name.to_owned(), value);
    };
    set("vmid", vmid.get().into());
    set(
        "name",
        vm.name().map_or_else(|| format!("VM {vmid}"), str::to_owned).into(),
    );
    set("cpus", (visible_cpus(vm, host_cpus) as u64).into());
    set("maxmem", vm.memory().saturating_mul(1 << 20).into());
    set("disk", 0.into());
    set("maxdisk", boot_disk_size(vm).into());
    if vm.flag("template", false) {
        set("template", 1.into());
    }
    if vm.family("serial", 3).next().is_some() {
        set("serial", 1.into());
    }
    for key in ["lock", "tags"] {
        if let Some(text) = vm.get(key) {
            set(key, text.into());
        }
    }
    if let Some(balloon) = vm.balloon().filter(|balloon| *balloon > 0) {
        set("balloon_min", balloon.saturating_mul(1 << 20).into());
        set("shares", vm.section().integer("shares").unwrap_or(1000).into());
    }
    row
}

/// Virtual CPUs, as far as the host has that many.
fn visible_cpus(vm: VmConfig<'_>, host_cpus: f64) -> f64 {
    match vm.section().integer("vcpus").filter(|vcpus| *vcpus > 0) {
        Some(vcpus) => vcpus as f64,
        None => (vm.max_cpus() as f64).min(host_cpus),
    }
}

/// The size of the first disk that the VM would boot from.
fn boot_disk_size(vm: VmConfig<'_>) -> u64 {
    let keys: Vec<DriveKey> = match vm.boot() {
        Boot::Order(devices) => devices.iter().filter_map(|device| device.parse().ok()).collect(),
        Boot::Legacy(_) => match vm.get("bootdisk") {
            Some(disk) => disk.parse().into_iter().collect(),
            None => DriveKey::all().filter(|key| key.is_bootable()).collect(),
        },
    };
    let disk = keys
        .into_iter()
        .filter_map(|key| vm.drive(key))
        .find(|drive| !drive.is_cdrom());
    disk.and_then(|disk| disk.size()).unwrap_or(0)
}

/// The host's memory that the process holds. Without a control group of its own that is what is resident.
fn resident_memory(pid: i32) -> u64 {
    let pages = fs::read_to_string(format!("/proc/{pid}/statm")).ok();
    let pages = pages.and_then(|text| text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok());
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    let page = page.and_then(|size| u64::try_from(size).ok()).unwrap_or(4096);
    pages.unwrap_or(0).saturating_mul(page)
}

/// A rate as upstream prints it: zero has no decimals.
fn fraction(rate: f64) -> Value {
    if rate == 0.0 { 0.into() } else { rate.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pve_cfs::Cfs;

    fn context(root: &std::path::Path, config: &str) -> Context {
        let context = Context::new(crate::test_site(root));
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        cfs.write("nodes/n1/qemu-server/105.conf", config.as_bytes()).unwrap();
        context
    }

    /// Reference 06b, vector 9.
    #[test]
    fn a_stopped_vm_shows_zeroes_and_no_process() {
        let directory = tempfile::tempdir().unwrap();
        let context = context(
            directory.path(),
            "agent: 1\nballoon: 128\nboot: order=ide2;scsi0\nide2: local:iso/a.iso,media=cdrom,size=9M\nmemory: 256\n\
             scsi0: local:105/vm-105-disk-0.raw,size=2G\nserial0: socket\ntags: a;b\nvcpus: 1\nvga: virtio\n",
        );
        let row = current(&context, 105.try_into().unwrap()).unwrap();
        let expected = json!({
            "vmid": 105, "name": "VM 105", "status": "stopped", "qmpstatus": "stopped", "cpu": 0, "cpus": 1,
            "mem": 0, "memhost": 0, "maxmem": 256 << 20, "disk": 0, "maxdisk": 2u64 << 30, "uptime": 0,
            "netin": 0, "netout": 0, "diskread": 0, "diskwrite": 0, "ha": {"managed": 0}, "spice": 1, "agent": 1,
            "serial": 1, "tags": "a;b", "balloon_min": 128 << 20, "shares": 1000,
        });
        assert_eq!(Value::Object(row), expected);
    }

    #[test]
    fn a_plain_list_has_no_monitor_fields_and_skips_what_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let context = context(directory.path(), "name: web\ntemplate: 1\nlock: backup\n");
        let vmids = [105, 106].map(|number| VmId::try_from(number).unwrap());
        let rows = list(&context, &vmids, Detail::Plain, true);
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!(
            (&row["name"], &row["template"], &row["lock"]),
            (&json!("web"), &json!(1), &json!("backup"))
        );
        assert!(!row.contains_key("qmpstatus") && !row.contains_key("diskread") && !row.contains_key("pid"));
    }
}
