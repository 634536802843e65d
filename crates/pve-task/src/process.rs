//! Whether a task runs, and stopping it.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use pve_schema::ids::Upid;

/// How long a task has to end by itself before it is killed (reference 03 §5.4).
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const POLL_EVERY: Duration = Duration::from_millis(100);
/// How long a killed process may take to vanish: it may hang in the kernel.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    state: char,
    start: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name in parentheses may hold anything, parentheses and blanks too: what follows the last one counts.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    Some(Stat {
        state: fields.next()?.chars().next()?,
        start: fields.nth(18)?.parse().ok()?,
    })
}

/// When a process started: clock ticks since boot.
pub fn start_time(pid: u32) -> Option<u64> {
    stat(pid).map(|stat| stat.start)
}

/// Whether the very process of a UPID runs, and not a later one of the same number.
pub fn is_running(upid: &Upid) -> bool {
    stat(upid.pid).is_some_and(|stat| stat.start == upid.pstart && stat.state != 'Z')
}

/// Stops a task: SIGTERM to its process group, SIGKILL after 5 s. One that does not run is stopped already.
pub fn stop(upid: &Upid) {
    if !is_running(upid) {
        return;
    }
    signal(upid, Signal::SIGTERM);
    if !ends_within(upid, STOP_GRACE) {
        signal(upid, Signal::SIGKILL);
        if !ends_within(upid, KILL_GRACE) {
            log::warn!("task {upid} does not end");
        }
    }
}

/// Asks a task to end, without waiting for it. One that does not run is left alone.
pub fn terminate(upid: &Upid) {
    if is_running(upid) {
        signal(upid, Signal::SIGTERM);
    }
}

/// Ends a task at once, without waiting for it. One that does not run is left alone.
pub fn kill_now(upid: &Upid) {
    if is_running(upid) {
        signal(upid, Signal::SIGKILL);
    }
}

fn signal(upid: &Upid, signal: Signal) {
    // 0 and 1 would mean "my own group" and init.
    let Ok(pid @ 2..) = i32::try_from(upid.pid) else { return };
    let pid = Pid::from_raw(pid);
    // The task first, so that it knows why when one of its commands ends. It leads a group, unless it was started in the
    // foreground of somebody's shell.
    let _ = kill(pid, signal);
    let _ = killpg(pid, signal);
}

fn ends_within(upid: &Upid, time: Duration) -> bool {
    let deadline = Instant::now() + time;
    while is_running(upid) {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL_EVERY);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_processes_do_not_confuse() {
        let text = "12 (a) b (c)) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1 1";
        assert_eq!(
            parse_stat(text),
            Some(Stat {
                state: 'S',
                start: 4711
            })
        );
        for bad in [
            "",
            "12 (a",
            "12 (a) ",
            "12 (a) S 1 2",
            "12 (a) S 1 1 1 0 -1 1 1 2 3 4 5 6 7 8 20 0 1 0 x",
        ] {
            assert_eq!(parse_stat(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_later_process_of_the_same_number_is_another() {
        let pid = std::process::id();
        let pstart = start_time(pid).unwrap();
        let mut upid: Upid = "UPID:a:00000001:00000001:00000001:x::root@pam:".parse().unwrap();
        (upid.pid, upid.pstart) = (pid, pstart);
        assert!(is_running(&upid));
        upid.pstart += 1;
        assert!(!is_running(&upid));
    }

    proptest::proptest! {
        #[test]
        fn any_stat_is_taken_or_refused(text in ".{0,200}") {
            let _ = parse_stat(&text);
        }
    }
}
