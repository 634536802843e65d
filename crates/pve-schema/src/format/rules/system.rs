//! What the host's own tables say: time zones, services, protocols.
//!
//! These are files of the operating system (`tzdata`, `netbase`), the same for every instance on the machine: they are
//! read once, from their place, whatever the site's root.

use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;

use super::{Checked, when};
use crate::format::NamedFormat;

/// The first two fields of each line of a table, comments left out.
fn table(path: &str) -> Vec<[String; 2]> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut fields = line.split_whitespace().map(str::to_owned);
            Some([fields.next()?, fields.next()?])
        })
        .collect()
}

/// Whether a name is a service of TCP, UDP or SCTP.
pub(super) fn is_service(name: &str) -> bool {
    static SERVICES: OnceLock<BTreeSet<String>> = OnceLock::new();
    let services = SERVICES.get_or_init(|| {
        let ported = |port: &str| ["/tcp", "/udp", "/sctp"].iter().any(|suffix| port.ends_with(suffix));
        let lines = table("/etc/services").into_iter();
        lines.filter(|[_, port]| ported(port)).map(|[name, _]| name).collect()
    });
    services.contains(name)
}

/// Protocols that are known even where the host has no table of them.
const PROTOCOLS: [(&str, &str); 12] = [
    ("icmp", "1"),
    ("tcp", "6"),
    ("udp", "17"),
    ("dccp", "33"),
    ("gre", "47"),
    ("esp", "50"),
    ("ah", "51"),
    ("ipv6-icmp", "58"),
    ("icmpv6", "58"),
    ("ospf", "89"),
    ("sctp", "132"),
    ("udplite", "136"),
];

/// Whether a name or number is a protocol.
pub(super) fn is_protocol(name: &str) -> bool {
    static LISTED: OnceLock<BTreeSet<String>> = OnceLock::new();
    let listed = LISTED.get_or_init(|| table("/etc/protocols").into_iter().flatten().collect());
    listed.contains(name)
        || PROTOCOLS
            .iter()
            .any(|(known, number)| *known == name || *number == name)
}

/// Whether a name is a time zone: `UTC`, or in the third column of the host's `zone.tab`.
pub fn is_timezone(name: &str) -> bool {
    static ZONES: OnceLock<BTreeSet<String>> = OnceLock::new();
    let zones = ZONES.get_or_init(|| {
        let text = fs::read_to_string("/usr/share/zoneinfo/zone.tab").unwrap_or_default();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| line.split('\t').nth(2))
            .map(str::to_owned)
            .collect()
    });
    name == "UTC" || zones.contains(name)
}

/// `timezone`
pub fn timezone(format: &'static NamedFormat, value: &str) -> Checked {
    when(is_timezone(value), format, value)
}

/// `pve-ct-timezone`: the host's, or one by name.
pub fn pve_ct_timezone(format: &'static NamedFormat, value: &str) -> Checked {
    when(value == "host" || is_timezone(value), format, value)
}
