//! External metric servers: which there are, what each is told in which words, and how it gets there (reference 04 §16).
//!
//! ```text
//! Snapshot ──graphite | influx | otlp──▶ batches of bytes ──Link──▶ a datagram, a write or a POST for each
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | `status.cfg`: [`Servers`] |
//! | [`edit`] | adding, changing and removing servers |
//! | `value` | which texts count as numbers |
//! | `batch` | pieces of text in batches of a certain size |
//! | `graphite`, `influx`, `otlp` | the words of each kind of server; nothing there touches the system |
//! | [`link`](Link) | the way to a server |
//! | `socket` | writing to it, and until when: [`Limit`] |
//!
//! Not here: when servers are told, and what happens while one is away (`pvestatd`).

mod batch;
pub mod config;
pub mod edit;
mod error;
mod graphite;
mod influx;
mod link;
mod otlp;
mod socket;
#[cfg(test)]
mod tests;
mod value;

use pve_schema::ids::{NodeName, StorageId, VmId};
use serde_json::Value;

pub use config::{Server, Servers};
pub use error::{SendError, ServerError};
pub use link::{Link, Told};
pub use socket::Limit;

use crate::snapshot::{Object, Objects, Snapshot};

/// Who tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The node.
    pub node: NodeName,
    /// The cluster it belongs to.
    pub cluster: Option<String>,
    /// Version and build, `9.2.11/0123abcd`.
    pub version: String,
}

/// What an object is about.
enum Thing<'a> {
    Node,
    /// A guest: its kind as lists have it, `qemu` or `lxc`.
    Guest(&'static str, VmId),
    Storage(&'a StorageId),
}

/// What servers are told of: everything but storages that cannot be used at the moment.
fn things(objects: &Objects) -> Vec<(Thing<'_>, &Object)> {
    match objects {
        Objects::Node(node) => vec![(Thing::Node, node)],
        Objects::Qemu(guests) | Objects::Lxc(guests) => {
            let guest = |vmid: &VmId| Thing::Guest(objects.subsystem(), *vmid);
            guests.iter().map(|(vmid, row)| (guest(vmid), row)).collect()
        }
        Objects::Storage(storages) => {
            let active = storages.iter().filter(|(_, object)| is_active(object));
            active.map(|(id, object)| (Thing::Storage(id), object)).collect()
        }
    }
}

fn is_active(storage: &Object) -> bool {
    storage
        .get("active")
        .and_then(value::text)
        .is_some_and(|text| text == "1")
}

/// An object's entries, sorted by key.
fn sorted(object: &Object) -> Vec<(&str, &Value)> {
    let mut entries: Vec<(&str, &Value)> = object.iter().map(|(key, value)| (key.as_str(), value)).collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries
}

impl Server {
    /// What this server is to be told of a snapshot: the body of a request, or what is written at once. Empty if there
    /// is nothing to tell.
    pub fn encode(&self, origin: &Origin, snapshot: &Snapshot) -> Vec<Vec<u8>> {
        match &self.settings {
            config::Settings::Graphite(settings) => graphite::encode(settings, origin, snapshot),
            config::Settings::Influx(settings) => influx::encode(settings, origin, snapshot),
            config::Settings::Otlp(settings) => otlp::encode(settings, origin, snapshot),
        }
    }
}
