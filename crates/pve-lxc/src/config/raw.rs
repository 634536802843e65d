//! Lines that are LXC's own: `lxc.mount.entry = …` (reference 07 §1.1, §3.5).

use pve_guest::rules::RawLine;

/// Keys that are handed on.
const KEYS: [&str; 72] = [
    "lxc.apparmor.profile",
    "lxc.apparmor.allow_incomplete",
    "lxc.apparmor.allow_nesting",
    "lxc.apparmor.raw",
    "lxc.selinux.context",
    "lxc.include",
    "lxc.arch",
    "lxc.uts.name",
    "lxc.signal.halt",
    "lxc.signal.reboot",
    "lxc.signal.stop",
    "lxc.init.cmd",
    "lxc.init.cwd",
    "lxc.init.uid",
    "lxc.init.gid",
    "lxc.init.groups",
    "lxc.pty.max",
    "lxc.console.logfile",
    "lxc.console.path",
    "lxc.tty.max",
    "lxc.devtty.dir",
    "lxc.hook.autodev",
    "lxc.hook.pre-start",
    "lxc.hook.pre-mount",
    "lxc.hook.mount",
    "lxc.hook.start",
    "lxc.hook.stop",
    "lxc.hook.post-stop",
    "lxc.hook.clone",
    "lxc.hook.destroy",
    "lxc.hook.version",
    "lxc.autodev",
    "lxc.kmsg",
    "lxc.mount.fstab",
    "lxc.mount.entry",
    "lxc.mount.auto",
    "lxc.rootfs.mount",
    "lxc.cap.drop",
    "lxc.cap.keep",
    "lxc.seccomp.profile",
    "lxc.seccomp.notify.proxy",
    "lxc.seccomp.notify.cookie",
    "lxc.idmap",
    "lxc.log.level",
    "lxc.log.file",
    "lxc.start.auto",
    "lxc.start.delay",
    "lxc.start.order",
    "lxc.group",
    "lxc.environment",
    "lxc.environment.runtime",
    "lxc.environment.hooks",
    "lxc.sysctl.fs.mqueue",
    "lxc.sysctl.kernel.msgmax",
    "lxc.sysctl.kernel.msgmnb",
    "lxc.sysctl.kernel.msgmni",
    "lxc.sysctl.kernel.sem",
    "lxc.sysctl.kernel.shmall",
    "lxc.sysctl.kernel.shmmax",
    "lxc.sysctl.kernel.shmmni",
    "lxc.sysctl.kernel.shm_rmid_forced",
    // Names of LXC 2.
    "lxc.aa_allow_incomplete",
    "lxc.aa_profile",
    "lxc.console",
    "lxc.devttydir",
    "lxc.haltsignal",
    "lxc.id_map",
    "lxc.kmsg",
    "lxc.rebootsignal",
    "lxc.stopsignal",
    "lxc.tty",
    "lxc.utsname",
];
/// Beginnings of keys that are handed on; the last three are names of LXC 2, or of the first control groups.
const FAMILIES: [&str; 6] = [
    "lxc.cgroup2.",
    "lxc.prlimit.",
    "lxc.net.",
    "lxc.cgroup.",
    "lxc.limit.",
    "lxc.network.",
];

/// Reads `lxc.KEY: value` or `lxc.KEY = value`.
pub(super) fn read(line: &str) -> RawLine {
    if !line.starts_with("lxc.") {
        return RawLine::No;
    }
    let is_key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.' | '-');
    let end = line.find(|c| !is_key(c)).unwrap_or(line.len());
    let Some((key, rest)) = line.split_at_checked(end) else {
        return RawLine::Refused;
    };
    let value = rest
        .strip_prefix(':')
        .or_else(|| rest.trim_start().strip_prefix('='))
        .map(str::trim);
    match value {
        Some(value) if is_known(key) => RawLine::Pair(key.to_owned(), value.to_owned()),
        _ => RawLine::Refused,
    }
}

fn is_known(key: &str) -> bool {
    let below = |family: &&str| key.strip_prefix(*family).is_some_and(|rest| !rest.is_empty());
    KEYS.contains(&key) || FAMILIES.iter().any(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_lxc_are_told_from_others() {
        let pair = |key: &str, value: &str| RawLine::Pair(key.to_owned(), value.to_owned());
        for (line, expected) in [
            ("lxc.idmap = u 0 100000 65536", pair("lxc.idmap", "u 0 100000 65536")),
            ("lxc.idmap: u 0 1 1 ", pair("lxc.idmap", "u 0 1 1")),
            ("lxc.cgroup2.cpuset.cpus=0-1", pair("lxc.cgroup2.cpuset.cpus", "0-1")),
            ("lxc.hook.pre-start: /x:y=z", pair("lxc.hook.pre-start", "/x:y=z")),
            ("lxc.foo: 1", RawLine::Refused),
            ("lxc.rootfs.path: /x", RawLine::Refused),
            ("lxc.idmap : 1", RawLine::Refused),
            ("lxc.net.", RawLine::Refused),
            ("lxc.arch", RawLine::Refused),
            ("lock: backup", RawLine::No),
            ("", RawLine::No),
        ] {
            assert_eq!(read(line), expected, "{line}");
        }
    }
}
