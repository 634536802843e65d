//! Whether a figure counts up, and its unit: both are told by its key.

/// Keys that count up wherever they are.
const COUNTERS: [&str; 6] = ["diskread", "diskwrite", "netin", "netout", "receive", "transmit"];
const COUNTER_ENDS: [&str; 2] = ["_merged", "_operations"];
const COUNTER_STARTS: [&str; 12] = [
    "collisions",
    "dropped",
    "errors",
    "packets",
    "rd_",
    "read",
    "recv",
    "rx",
    "sent",
    "tx",
    "wr_",
    "write",
];
/// Keys that count up among the figures of the processors.
const CPU_TIMES: [&str; 10] = [
    "guest", "idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user", "wait",
];

/// Units by a part of the key; of several parts the longest tells.
const UNITS: [(&str, &[&str]); 4] = [
    (
        "bytes",
        &[
            "mem",
            "memory",
            "swap",
            "disk",
            "size",
            "used",
            "free",
            "total",
            "avail",
            "available",
            "arcsize",
            "blocks",
            "bavail",
            "bfree",
            "net",
            "receive",
            "transmit",
            "netin",
            "netout",
            "diskread",
            "diskwrite",
        ],
    ),
    ("percent", &["cpu", "per", "fper", "percent"]),
    (
        "seconds",
        &[
            "wait",
            "iowait",
            "user",
            "system",
            "idle",
            "nice",
            "steal",
            "guest",
            "irq",
            "softirq",
            "uptime",
            "time_ns",
            "total_time_ns",
        ],
    ),
    (
        NONE,
        &[
            "avg",
            "avg1",
            "avg5",
            "avg15",
            "cpus",
            "operations",
            "merged",
            "ratio",
            "count",
            "files",
            "ffree",
            "fused",
            "favail",
            "enabled",
            "shared",
            "active",
        ],
    ),
];
/// Of what has no unit.
const NONE: &str = "1";

/// Whether a figure only grows.
pub(super) fn counts_up(prefix: &str, key: &str) -> bool {
    COUNTERS.contains(&key)
        || COUNTER_ENDS.iter().any(|end| key.ends_with(end))
        || COUNTER_STARTS.iter().any(|start| key.starts_with(start))
        || (prefix.ends_with("_cpustat") && CPU_TIMES.contains(&key))
        || prefix.ends_with("_network")
}

/// The unit of a figure.
pub(super) fn unit(key: &str) -> &'static str {
    let parts = UNITS
        .iter()
        .flat_map(|(unit, parts)| parts.iter().map(|part| (*unit, *part)));
    let fitting = parts.filter(|(_, part)| key.contains(part));
    // Of two that are as long the one that comes first in the table.
    let longest = fitting.reduce(|best, other| if other.1.len() > best.1.len() { other } else { best });
    longest.map_or(NONE, |(unit, _)| unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_the_longest_word_in_the_key() {
        for (key, expected) in [
            ("maxcpu", "percent"),
            ("cpus", "1"),
            ("maxmem", "bytes"),
            ("uptime", "seconds"),
            ("avg15", "1"),
            ("ffree", "1"),
            ("bfree", "bytes"),
            ("fper", "percent"),
            ("rd_total_time_ns", "seconds"),
            ("rd_operations", "1"),
            ("balloon", "1"),
            ("netout", "bytes"),
        ] {
            assert_eq!(unit(key), expected, "{key}");
        }
    }
}
