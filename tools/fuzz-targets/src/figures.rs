//! Parsers of what is remembered of figures, and what metric servers read of ours.

use std::collections::BTreeMap;

use pve_metrics::pull;
use pve_metrics::servers::{Origin, Server, Servers};
use pve_metrics::{Objects, Snapshot};
use serde_json::{Map, Value};

/// `status.cfg`: whatever it says, there are words for every server.
pub fn status_cfg(data: &[u8]) {
    let snapshot = Snapshot {
        time: 1_700_000_000,
        objects: Objects::Node(Map::from_iter([("uptime".to_owned(), 5.into())])),
    };
    for server in Servers::parse(data).iter() {
        let row = server.row();
        assert_eq!(row["id"], server.id.as_str());
        assert!(!server.to_json().contains_key("token"), "secrets are elsewhere");
        assert!(!server.encode(&origin(), &snapshot).is_empty());
    }
}

/// A line of the file of pulled figures.
pub fn pull_line(data: &[u8]) {
    let Ok(cycle) = serde_json::from_slice(data) else {
        return;
    };
    let node = "n".parse().expect("a node's name");
    for entry in pull::entries(&node, &cycle) {
        let json = serde_json::to_value(&entry).expect("JSON");
        assert!(json["value"].is_number(), "{json}");
    }
}

/// What metric servers are told of a guest whose row may be anything: they can read all of it.
pub fn metric_words(data: &[u8]) {
    let Ok(row) = serde_json::from_slice::<Map<String, Value>>(data) else {
        return;
    };
    let vmid = 100.try_into().expect("a guest's number");
    let snapshot = Snapshot {
        time: 1_700_000_000,
        objects: Objects::Qemu(BTreeMap::from([(vmid, row)])),
    };
    let told = |server: &str| {
        let servers = Servers::parse(server.as_bytes());
        let server: &Server = servers.iter().next().expect("a server");
        server.encode(&origin(), &snapshot)
    };
    let lines = |server: &str| String::from_utf8(told(server).concat()).expect("text");
    for line in lines("graphite: g\n\tserver h\n").split_terminator('\n') {
        graphite(line);
    }
    influx(&lines("influxdb: i\n\tserver h\n\tport 1\n"));
    for body in told("opentelemetry: o\n\tserver h\n\totel-compression none\n") {
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert!(
            body.pointer("/resourceMetrics/0/scopeMetrics/0/metrics/0/name")
                .is_some()
        );
    }
}

fn origin() -> Origin {
    Origin {
        node: "n".parse().expect("a node's name"),
        cluster: None,
        version: "9".to_owned(),
    }
}

/// `PATH VALUE TIME`.
fn graphite(line: &str) {
    let parts: Vec<&str> = line.split(' ').collect();
    let [path, value, time] = parts.as_slice() else {
        panic!("{line}")
    };
    assert!(path.starts_with("proxmox.qemu.100."), "{line}");
    assert!(value.parse::<f64>().is_ok() && *time == "1700000000", "{line}");
}

/// `MEASUREMENT,TAGS FIELDS TIME`, with everything escaped that must be.
fn influx(text: &str) {
    let mut rest = text;
    while !rest.is_empty() {
        let name = until(&mut rest, &[',']);
        assert!(!name.is_empty() || text.starts_with(','), "{text}");
        loop {
            until(&mut rest, &['=']);
            let tag = until(&mut rest, &[',', ' ']);
            if tag.ends_with(' ') {
                break;
            }
        }
        loop {
            until(&mut rest, &['=']);
            let end = match rest.strip_prefix('"') {
                Some(inside) => {
                    rest = inside;
                    quoted(&mut rest);
                    until(&mut rest, &[',', ' '])
                }
                None => {
                    let value = until(&mut rest, &[',', ' ']);
                    assert!(
                        value.get(..value.len() - 1).expect("its end").parse::<f64>().is_ok(),
                        "{value} in {text}"
                    );
                    value
                }
            };
            if end.ends_with(' ') {
                break;
            }
        }
        assert_eq!(until(&mut rest, &['\n']), "1700000000000000000\n", "{text}");
    }
}

/// Takes the text up to one of these characters that no backslash stands before, with it.
fn until<'a>(rest: &mut &'a str, ends: &[char]) -> &'a str {
    let mut is_escaped = false;
    for (at, char) in rest.char_indices() {
        if !is_escaped && ends.contains(&char) {
            let (taken, left) = rest.split_at(at + char.len_utf8());
            *rest = left;
            return taken;
        }
        assert!(
            is_escaped || ends.contains(&'\n') || char != '\n',
            "the line ends in {rest}"
        );
        is_escaped = char == '\\' && !is_escaped;
    }
    panic!("no {ends:?} in {rest}");
}

/// Takes a text in quotes, of which the first is taken already.
fn quoted(rest: &mut &str) {
    let mut is_escaped = false;
    for (at, char) in rest.char_indices() {
        if char == '"' && !is_escaped {
            *rest = rest.get(at + 1..).expect("after a quote");
            return;
        }
        is_escaped = char == '\\' && !is_escaped;
    }
    panic!("no quote at the end of {rest}");
}
