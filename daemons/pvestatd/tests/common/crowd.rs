//! A node with many machines that cost next to nothing ([`pve_testing::fleet`]), and control groups for them.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime};

use pve_cfs::Cfs;
use pve_qemu::runtime;
use pve_schema::Context;
use pve_testing::fleet::Fleet;
use serde_json::Value;

/// The number of the first machine.
pub(crate) const FIRST: u32 = 100;

/// The node. Its `/run` is in memory, as it is on real ones.
pub(crate) struct Crowd {
    disk: tempfile::TempDir,
    _memory: tempfile::TempDir,
    pub(crate) context: Context,
    pub(crate) fleet: Fleet,
    pub(crate) count: u32,
}

impl Crowd {
    /// Starts so many machines.
    pub(crate) fn start(count: u32) -> Self {
        let disk = tempfile::Builder::new().prefix("crowd").tempdir_in("/tmp").unwrap();
        let memory = tempfile::Builder::new().prefix("crowd").tempdir_in("/dev/shm").unwrap();
        let root = disk.path().join("root");
        fs::create_dir(&root).unwrap();
        symlink(memory.path(), root.join("run")).unwrap();
        let context = pve_testing::context(root.canonicalize().unwrap(), "n1");
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        runtime::create_directory(&context.site).unwrap();
        age_key(&context);
        let groups = context.site.path("/sys/fs/cgroup");
        fs::create_dir_all(&groups).unwrap();
        fs::write(groups.join("cgroup.controllers"), "cpu io memory\n").unwrap();
        for vmid in FIRST..FIRST + count {
            cfs.create(&format!("qemu-server/{vmid}.conf"), config(vmid).as_bytes())
                .unwrap();
            control_group(&groups, vmid);
        }
        let fleet = Fleet::start(&runtime::directory(&context.site), FIRST..FIRST + count);
        Self {
            disk,
            _memory: memory,
            context,
            fleet,
            count,
        }
    }

    /// Runs `pvestatd cycles`. `BENCH_PVESTATD` may name another build to compare with.
    pub(crate) fn cycles(&self, count: u32) -> Cycles {
        let program = std::env::var_os("BENCH_PVESTATD").unwrap_or_else(|| env!("CARGO_BIN_EXE_pvestatd").into());
        let log = self.disk.path().join("log");
        let mut child = Command::new(program)
            .args(["cycles", &count.to_string()])
            // As every worker of a daemon sets itself (`pve_daemon::process::memory`).
            .envs([
                ("MALLOC_ARENA_MAX", "2"),
                ("MALLOC_MMAP_THRESHOLD_", "131072"),
                ("MALLOC_TRIM_THRESHOLD_", "131072"),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let site = serde_json::to_string(&*self.context.site).unwrap();
        child.stdin.take().unwrap().write_all(site.as_bytes()).unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Cycles { child, lines, log }
    }
}

/// What cycles cost, one after the other.
pub(crate) struct Cycles {
    child: Child,
    lines: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Cycles {
    /// What was logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

/// What one cycle cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Microseconds.
    pub(crate) wall: u64,
    /// Microseconds.
    pub(crate) cpu: u64,
    /// KiB.
    pub(crate) memory: u64,
    /// Steps that did not come back.
    pub(crate) late: u64,
}

impl Iterator for Cycles {
    type Item = Cost;

    fn next(&mut self) -> Option<Cost> {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        let Ok(cost) = serde_json::from_str::<Value>(&line) else {
            assert!(self.child.wait().unwrap().success());
            return None;
        };
        let number = |key: &str| cost[key].as_u64().unwrap();
        Some(Cost {
            wall: number("wall"),
            cpu: number("cpu"),
            memory: number("memory"),
            late: number("late"),
        })
    }
}

impl Drop for Cycles {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(vmid: u32) -> String {
    format!(
        "agent: 1\nballoon: 512\nboot: order=scsi0;net0\ncores: 2\ncpu: x86-64-v2-AES\nmemory: 2048\nname: guest-{vmid}\n\
         net0: virtio=BC:24:11:00:{:02X}:{:02X},bridge=vmbr0,firewall=1\nnuma: 0\nostype: l26\n\
         scsi0: local:{vmid}/vm-{vmid}-disk-0.qcow2,iothread=1,size=32G\nscsihw: virtio-scsi-single\n\
         smbios1: uuid=00000000-0000-0000-0000-{vmid:012}\nsockets: 1\ntags: bench;lab\n\
         vmgenid: 00000000-0000-0000-0001-{vmid:012}\n",
        vmid >> 8,
        vmid & 255
    )
}

/// Makes the key that signs tickets as old as the cycles' clock begins at most, so that it is neither too old for it nor of
/// its future.
fn age_key(context: &Context) {
    pve_access::ticket::rotate_if_stale(context).unwrap();
    let key = fs::File::options()
        .write(true)
        .open(context.site.etc_pve().join("authkey.pub"));
    key.unwrap()
        .set_modified(SystemTime::now() - Duration::from_secs(20 * 3600))
        .unwrap();
}

/// The control group of a machine: its memory is its number in MiB, half a MiB of that cache.
fn control_group(groups: &Path, vmid: u32) {
    let group = groups.join(format!("qemu.slice/{vmid}.scope"));
    fs::create_dir_all(&group).unwrap();
    let write = |name: &str, text: String| fs::write(group.join(name), text).unwrap();
    write("memory.current", format!("{}\n", u64::from(vmid) << 20));
    let rest: String = (0..60).map(|n| format!("workingset_{n} 0\n")).collect();
    write("memory.stat", format!("anon 1\nfile {}\nkernel 5\n{rest}", 1 << 19));
    for (at, resource) in ["cpu", "io", "memory"].iter().enumerate() {
        let line = |kind: &str, tenths| format!("{kind} avg10={at}.{tenths}0 avg60=0.00 avg300=0.00 total=5\n");
        write(&format!("{resource}.pressure"), line("some", 5) + &line("full", 2));
    }
}
