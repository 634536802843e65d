//! What lists and status pages show of VMs (reference 06b §4, 04 §14.2).
//!
//! The plain fields come from the config, from `/proc` and from control groups; with [`Detail::Full`] the monitors are
//! asked too, all at the same time and each for no longer than two seconds, so that a VM that hangs costs nobody its own
//! fields; while it hangs it is given half a second. The status daemon does this for all VMs every ten seconds: what lies in files that did not change is kept in
//! memory ([`configured`]), and nothing is read twice.
//!
//! | module | holds |
//! |---|---|
//! | here | [`Survey`]: the rows |
//! | [`configured`] | what the config alone says |
//! | [`cpu`] | how busy a process is |
//! | [`control_group`] | memory and pressure |
//! | [`monitor`] | what only the monitor knows |
//! | [`traffic`] | network counters |

mod configured;
mod control_group;
mod cpu;
mod monitor;
mod traffic;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use pve_cfs::CfsError;
use pve_guest::rates::{HostClock, Rates};
use pve_schema::ids::VmId;
use pve_schema::{Context, Site};
use serde_json::{Map, Value, json};

use crate::config::VmConfig;
use crate::files::{self, FileError};
use crate::network::tap_prefix;
use crate::process::{self, Process, Stat};
use crate::qmp::QmpError;
use crate::runtime::Runtime;

use configured::Configured;
use control_group::{ControlGroups, Group, PRESSURES};
use monitor::{Answers, Asked};
use traffic::Traffic;

/// The fields of one VM.
pub type Row = Map<String, Value>;

/// How much is to be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What needs no monitor.
    Plain,
    /// Everything.
    Full,
}

/// What was seen of VMs.
#[derive(Debug, Default)]
pub struct Survey {
    /// Their rows. A VM whose config vanished meanwhile is left out.
    pub rows: BTreeMap<VmId, Row>,
    /// Those whose monitor did not answer to the end, and why: their rows lack fields.
    pub silent: BTreeMap<VmId, QmpError>,
    /// Those of which there are no rows, and why not.
    pub unseen: BTreeMap<VmId, UnseenError>,
}

/// Why there is no row of a VM.
#[derive(Debug, thiserror::Error)]
pub enum UnseenError {
    /// Its config cannot be read.
    #[error(transparent)]
    Config(CfsError),
    /// There may be a process, but it cannot be looked at.
    #[error("unable to tell whether it runs - {0}")]
    Process(std::io::Error),
}

/// From how many VMs on a look needs so many descriptors that it is worth waiting for another one to end.
const MANY: usize = 16;
/// Held while many are looked at.
static LOOKING: Mutex<()> = Mutex::new(());

/// Looks at VMs. `complete` says that these are all VMs of the node.
pub fn survey(context: &Context, vmids: &[VmId], detail: Detail, complete: bool) -> Survey {
    let site = &context.site;
    let is_many = vmids.len() >= MANY && detail == Detail::Full;
    let _turn = is_many.then(|| LOOKING.lock().unwrap_or_else(PoisonError::into_inner));
    let mut unseen = BTreeMap::new();
    let mut running: BTreeMap<VmId, (Process, Stat)> = BTreeMap::new();
    for vmid in vmids {
        match process::look(site, *vmid) {
            Ok(Some(found)) => {
                running.insert(*vmid, found);
            }
            Ok(None) => {}
            Err(error) => {
                unseen.insert(*vmid, UnseenError::Process(error));
            }
        }
    }
    let mut asked = match detail {
        Detail::Plain => Asked::default(),
        Detail::Full => Asked::ask(site, running.keys().copied()),
    };
    let mut host = Host::read(site);
    let mut rows = BTreeMap::new();
    for vmid in vmids {
        // Nobody is to take it for one that is off.
        if unseen.contains_key(vmid) {
            continue;
        }
        match configured::of(context, *vmid) {
            Ok(Some(config)) => {
                let answers = asked.answers.remove(vmid);
                rows.insert(*vmid, host.row(*vmid, &config, detail, running.remove(vmid), answers));
            }
            Ok(None) => {}
            Err(error) => {
                unseen.insert(*vmid, UnseenError::Config(error));
            }
        }
    }
    host.samples.store(complete);
    Survey {
        rows,
        silent: asked.silent,
        unseen,
    }
}

/// The rows of a list, as [`survey`] sees them.
pub fn list(context: &Context, vmids: &[VmId], detail: Detail, complete: bool) -> Vec<Row> {
    survey(context, vmids, detail, complete).rows.into_values().collect()
}

/// The status page of one VM.
///
/// # Errors
/// When there is no such VM.
pub fn current(context: &Context, vmid: VmId) -> Result<Row, FileError> {
    let config = files::load(context, vmid)?;
    let mut rows = survey(context, &[vmid], Detail::Full, false).rows;
    // Its config vanished a moment ago: what it said still counts.
    let mut row = rows.remove(&vmid).unwrap_or_default();
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

/// What is read of the host once for all rows.
struct Host<'a> {
    site: &'a Site,
    clock: HostClock,
    samples: Rates,
    traffic: BTreeMap<String, Traffic>,
    groups: ControlGroups,
    page: u64,
}

impl<'a> Host<'a> {
    fn read(site: &'a Site) -> Self {
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
        Self {
            site,
            clock: cpu::clock(),
            samples: Rates::load(cpu::samples(site)),
            traffic: traffic::read(),
            groups: ControlGroups::of(site),
            page: page.and_then(|size| u64::try_from(size).ok()).unwrap_or(4096),
        }
    }

    fn row(
        &mut self,
        vmid: VmId,
        config: &Configured,
        detail: Detail,
        running: Option<(Process, Stat)>,
        answers: Option<Answers>,
    ) -> Row {
        let mut row = config.row.clone();
        let cpus = config.visible_cpus(self.clock.cpus);
        row.insert("cpus".to_owned(), (cpus as u64).into());
        let full = detail == Detail::Full;
        match running {
            Some((process, stat)) => self.add_running(&mut row, vmid, cpus, process, stat, full),
            None => add_stopped(&mut row, full),
        }
        if let Some(answers) = answers {
            let revision = Runtime::new(self.site, vmid).machine_revision();
            row.extend(answers.fields(config.memory, &revision));
        }
        row
    }

    fn add_running(&mut self, row: &mut Row, vmid: VmId, cpus: f64, process: Process, stat: Stat, full: bool) {
        // Without a control group of its own the VM takes what is resident of its process.
        let group = self.groups.read(vmid).unwrap_or_else(|| Group {
            memory: stat.resident.saturating_mul(self.page),
            pressure: [0.0; 6],
        });
        let rate = self
            .samples
            .rate(vmid.get(), process.started, stat.ticks, cpus, self.clock);
        let uptime = self.clock.uptime - process.started as f64 / self.clock.units;
        let mut set = |name: &str, value: Value| {
            row.insert(name.to_owned(), value);
        };
        set("status", "running".into());
        set("pid", process.pid.into());
        set("cpu", fraction(rate));
        set("mem", group.memory.into());
        set("memhost", group.memory.into());
        set("uptime", (uptime.max(0.0) as u64).into());
        for (name, value) in PRESSURES.into_iter().zip(group.pressure) {
            set(name, fraction(value));
        }
        let prefix = tap_prefix(self.site, vmid);
        let nics: Vec<(u8, Traffic)> = traffic::of(&self.traffic, &prefix).collect();
        let total: Traffic = nics.iter().map(|(_, traffic)| *traffic).sum();
        set("netin", total.received.into());
        set("netout", total.sent.into());
        if full {
            set("qmpstatus", "running".into());
            if !nics.is_empty() {
                let counters = |(number, traffic): (u8, Traffic)| {
                    let counters = json!({ "netin": traffic.received, "netout": traffic.sent });
                    (format!("tap{vmid}i{number}"), counters)
                };
                set("nics", nics.into_iter().map(counters).collect());
            }
        }
    }
}

/// The fields of a VM that is off (reference 06b, vector 9).
fn add_stopped(row: &mut Row, full: bool) {
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
