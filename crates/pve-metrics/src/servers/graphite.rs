//! Graphite's plaintext protocol (reference 04 §16.4): `PATH VALUE TIME`, a line for each figure.

use std::fmt::Write as _;

use super::batch::Batches;
use super::config::{Graphite, GraphiteWay};
use super::{Origin, Thing, sorted, things, value};
use crate::snapshot::{Object, Snapshot};

/// Most bytes of one write over TCP.
const TCP_BATCH: usize = 56_000;
/// Never told, at whatever depth.
const SKIPPED: [&str; 4] = ["agent", "pid", "serial", "template"];

/// Lines in batches.
pub(super) fn encode(settings: &Graphite, origin: &Origin, snapshot: &Snapshot) -> Vec<Vec<u8>> {
    let limit = match settings.way {
        GraphiteWay::Udp { datagram } => datagram,
        GraphiteWay::Tcp => TCP_BATCH,
    };
    let mut batches = Batches::below(limit);
    let (root, node) = (&settings.path, &origin.node);
    for (thing, object) in things(&snapshot.objects) {
        let path = match thing {
            Thing::Node => format!("{root}.nodes.{node}"),
            Thing::Guest(kind, vmid) => format!("{root}.{kind}.{vmid}"),
            Thing::Storage(id) => format!("{root}.storages.{node}.{id}"),
        };
        add(&mut batches, &path, object, snapshot.time);
    }
    batches.finish()
}

fn add(batches: &mut Batches, path: &str, object: &Object, time: i64) {
    for (key, value) in sorted(object) {
        if SKIPPED.contains(&key) {
            continue;
        }
        let mut line = format!("{path}.{}", component(key));
        if let Some(object) = value.as_object() {
            add(batches, &line, object, time);
        } else if let Some(text) = value::text(value).filter(|text| value::is_plain(text)) {
            let _ = writeln!(line, " {text} {time}");
            batches.push(&line);
        }
    }
}

/// A key as a part of a path: dots would make two of it, and blanks would end it.
fn component(key: &str) -> String {
    key.replace(['.', ' ', '\n'], "-")
}
