//! Whether a VM runs: the one test that everything uses (reference 06a §6).
//!
//! A pid file alone proves nothing – the number may belong to another process by now, even to another instance's QEMU –
//! so the process must be a QEMU that was told to write exactly this pid file.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pve_schema::Site;
use pve_schema::ids::VmId;

use crate::runtime::Runtime;
use crate::small;

/// How often a wait looks again; short against anything a user waits for, long against the cost of reading `/proc`.
const POLL: Duration = Duration::from_millis(50);

/// A running QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its process id.
    pub pid: i32,
    /// When it started, in clock ticks since boot: tells it from a later process with the same id.
    pub started: u64,
}

impl Process {
    /// Whether it still exists, and is no zombie.
    pub fn is_alive(&self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.started == self.started && !stat.is_dead())
    }

    /// Sends a signal, unless the process is gone.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive()
            && let Err(error) = kill(Pid::from_raw(self.pid), signal)
        {
            log::warn!("unable to send {signal} to process {}: {error}", self.pid);
        }
    }

    /// Waits until it is gone: whether it is.
    pub fn wait_gone(&self, limit: Duration) -> bool {
        let deadline = pve_schema::clock::deadline(limit);
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(POLL);
        }
        true
    }
}

/// What is used of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The state letter.
    pub state: char,
    /// User and system time, in clock ticks.
    pub ticks: u64,
    /// Start time, in clock ticks since boot.
    pub started: u64,
    /// Pages in memory.
    pub resident: u64,
}

impl Stat {
    /// Reads a process's state; `None` when there is no such process.
    pub fn read(pid: i32) -> Option<Self> {
        Self::try_read(pid).ok()?
    }

    fn try_read(pid: i32) -> io::Result<Option<Self>> {
        let mut buffer = [0; 1024];
        let bytes = small::bytes(Path::new(&format!("/proc/{pid}/stat")), &mut buffer)?;
        Ok(bytes.and_then(Self::parse))
    }

    /// The command name is in parentheses and may itself hold any character, so the last `)` ends it.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().rposition(|byte| *byte == b')')?;
        let text = std::str::from_utf8(bytes.get(end + 1..)?).ok()?;
        let mut fields = text.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        // Counted from 1 the state is the third field; 14 and 15 are utime and stime, 22 starttime, 24 rss.
        let mut number = |skipped: usize| fields.nth(skipped)?.parse::<u64>().ok();
        let ticks = number(10)?.saturating_add(number(0)?);
        Some(Self {
            state,
            ticks,
            started: number(6)?,
            resident: number(1)?,
        })
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// The VM's process; `None` when it does not run. That it cannot be told is logged.
pub fn find(site: &Site, vmid: VmId) -> Option<Process> {
    match look(site, vmid) {
        Ok(found) => found.map(|(process, _)| process),
        Err(error) => {
            log::error!("unable to tell whether VM {vmid} runs - {error}");
            None
        }
    }
}

/// The VM's process and its state; `None` when it does not run.
///
/// # Errors
/// When that cannot be told.
pub(crate) fn look(site: &Site, vmid: VmId) -> io::Result<Option<(Process, Stat)>> {
    let pid_file = Runtime::new(site, vmid).pid_file();
    let mut buffer = [0; 32];
    let number = |bytes| std::str::from_utf8(bytes).ok()?.trim().parse::<i32>().ok();
    let Some(pid) = small::bytes(&pid_file, &mut buffer)?.and_then(number) else {
        return Ok(None);
    };
    let Some(stat) = Stat::try_read(pid)? else {
        return Ok(None);
    };
    let process = Process {
        pid,
        started: stat.started,
    };
    let ours = !stat.is_dead() && KNOWN.is_of(process, &pid_file)?;
    Ok(ours.then_some((process, stat)))
}

/// The processes that were last found to be VMs, by pid file. What a process was told when it started it stays.
static KNOWN: Known = Known(Mutex::new(BTreeMap::new()));

/// More VMs than any node has: above that all is forgotten and found anew.
const MAX_KNOWN: usize = 10_000;

struct Known(Mutex<BTreeMap<PathBuf, Process>>);

impl Known {
    /// Whether a process is the QEMU that was told to write this pid file.
    fn is_of(&self, process: Process, pid_file: &Path) -> io::Result<bool> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known().get(pid_file) == Some(&process) {
            return Ok(true);
        }
        let told = match read_arguments(process.pid) {
            Ok(arguments) => pid_file_of(&arguments),
            Err(error) if small::is_gone(&error) => None,
            Err(error) => return Err(error),
        };
        let is_of = told.as_deref() == Some(pid_file);
        if is_of {
            let mut known = known();
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(pid_file.to_owned(), process);
        }
        Ok(is_of)
    }
}

/// Whether the VM runs.
pub fn is_running(site: &Site, vmid: VmId) -> bool {
    find(site, vmid).is_some()
}

/// The VM that a process is, by its command line; `None` for anything that is no QEMU of this site.
pub fn vmid_of(site: &Site, pid: i32) -> Option<VmId> {
    let pid_file = pid_file_of(&read_arguments(pid).ok()?)?;
    let vmid: VmId = pid_file.file_name()?.to_str()?.strip_suffix(".pid")?.parse().ok()?;
    (pid_file == Runtime::new(site, vmid).pid_file()).then_some(vmid)
}

/// A process's arguments.
fn read_arguments(pid: i32) -> io::Result<Vec<Vec<u8>>> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline"))?;
    Ok(bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
}

/// The `-pidfile` of a QEMU's command line; `None` for another program.
fn pid_file_of(arguments: &[Vec<u8>]) -> Option<PathBuf> {
    let program = Path::new(OsStr::from_bytes(arguments.first()?));
    let name = program.file_name()?.as_bytes();
    if !(name.ends_with(b"kvm") || name.starts_with(b"qemu-")) {
        return None;
    }
    let at = arguments
        .iter()
        .position(|argument| matches!(argument.as_slice(), b"-pidfile" | b"--pidfile"))?;
    Some(PathBuf::from(OsStr::from_bytes(arguments.get(at + 1)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Vec<u8>> {
        line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn only_a_qemu_with_a_pid_file_counts() {
        let cases = [
            ("/usr/bin/kvm -name a -pidfile /run/1.pid", Some("/run/1.pid")),
            ("/usr/bin/qemu-system-x86_64 --pidfile /run/1.pid", Some("/run/1.pid")),
            ("/bin/cat -pidfile /run/1.pid", None),
            ("/usr/bin/kvm -name a", None),
            ("/usr/bin/kvm -pidfile", None),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(pid_file_of(&words(line)), expected.map(PathBuf::from), "{line}");
        }
    }

    #[test]
    fn a_command_name_may_hold_anything() {
        let line = b"7 (a) b (c) S 1 7 7 0 -1 4194304 1 2 3 4 150 30 5 6 20 0 1 0 4711 0 42 0";
        let expected = Stat {
            state: 'S',
            ticks: 180,
            started: 4711,
            resident: 42,
        };
        assert_eq!(Stat::parse(line), Some(expected));
        let foreign: Vec<u8> = [b"7 (\xff\n)", &line[9..]].concat();
        assert_eq!(Stat::parse(&foreign), Some(expected), "no UTF-8");
        assert_eq!(Stat::parse(b"7 (a"), None);
        assert_eq!(Stat::parse(b"7 (a) S 1"), None);
    }

    #[test]
    fn this_test_is_alive_and_no_vm() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let stat = Stat::read(pid).unwrap();
        let this = Process {
            pid,
            started: stat.started,
        };
        assert!(this.is_alive());
        assert!(!Process { started: 1, ..this }.is_alive());
        assert_eq!(pid_file_of(&read_arguments(pid).unwrap()), None);
    }
}
